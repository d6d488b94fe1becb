"""generation_config.json, or the same fields of an older config.json: how a folder wants its model to write."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

from dragoman.interop.huggingface.fields import Fields
from dragoman.interop.huggingface.special_tokens import GENERATION, one_or_more
from dragoman.models.special_ids import end_ids, start_ids

_TOP_K = 50  # of transformers, where a file draws and does not say

# Fields that change nothing in what a model writes, or that other parts of a folder decide.
_IGNORED = frozenset(
    (
        "transformers_version", "_from_model_config", "use_cache", "cache_implementation", "cache_config",
        "max_cache_len", "return_legacy_cache", "return_dict_in_generate", "output_attentions",
        "output_hidden_states", "output_scores", "output_logits", "num_return_sequences", "pad_token_id",
        "bos_token_id", "low_memory", "remove_invalid_values", "compile_config", "disable_compile", "is_assistant",
        "num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold",
        "assistant_lookbehind", "target_lookbehind", "assistant_early_exit", "prompt_lookup_num_tokens",
        "max_matching_ngram_size", "continuous_batching_config", "trust_remote_code", "chat_format",
    )
)  # fmt: skip

# Fields of Whisper, of which `Transcriber` makes its prompts. There are no time stamps.
_OF_WHISPER = frozenset(
    (
        "is_multilingual", "language", "lang_to_id", "task", "task_to_id", "forced_decoder_ids", "prev_sot_token_id",
        "no_timestamps_token_id", "return_timestamps", "max_initial_timestamp_id", "max_initial_timestamp_index",
        "alignment_heads", "median_filter_width",
    )
)  # fmt: skip

# Fields that a search here does not have, with the values that ask for nothing.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "max_time": (),
    "stop_strings": (),
    "penalty_alpha": (0,),
    "dola_layers": (),
    "diversity_penalty": (0,),
    "num_beam_groups": (1,),
    "typical_p": (1,),
    "top_h": (),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "encoder_repetition_penalty": (1,),
    "encoder_no_repeat_ngram_size": (0,),
    "exponential_decay_length_penalty": (),
    "sequence_bias": (),
    "token_healing": (False,),
    "guidance_scale": (1,),
    "watermarking_config": (),
    "force_words_ids": (),
    "constraints": (),
    "forced_decoder_ids": (),
    "use_mtp": (False,),
}

_FIELDS = (
    "decoder_start_token_id", "eos_token_id", "forced_bos_token_id", "forced_eos_token_id", "max_length",
    "max_new_tokens", "min_length", "min_new_tokens", "num_beams", "length_penalty", "early_stopping", "do_sample",
    "temperature", "top_k", "top_p", "min_p", "no_repeat_ngram_size", "repetition_penalty", "renormalize_logits",
    "bad_words_ids", "suppress_tokens", "begin_suppress_tokens",
)  # fmt: skip


class Files(Protocol):
    """Files of a folder."""

    def __contains__(self, name: str) -> bool: ...
    def path(self, name: str) -> str: ...
    def object(self, name: str) -> dict[str, Any]: ...


class GenerationConfig(Fields):
    """The fields of a folder, checked one by one.

    An older folder has them in config.json, beside fields of the model, or in its one entry of `task_specific_params`.

    Args:
        files: of the folder.

    Raises:
        ValueError: naming file and field: one that is not known here, or that asks for what no search here does.
    """

    def __init__(self, files: Files) -> None:
        if GENERATION in files:
            path, values = files.path(GENERATION), files.object(GENERATION)
        else:
            path, config = files.path("config.json"), files.object("config.json")
            tasks = config.get("task_specific_params")
            (task,) = tasks.values() if isinstance(tasks, dict) and len(tasks) == 1 else ({},)
            found = {**config, **(task if isinstance(task, dict) else {})}
            values = {name: value for name, value in found.items() if name in _FIELDS or name in _NEUTRAL}
        super().__init__({name: value for name, value in values.items() if value not in (None, [], {})}, path)
        theirs = _OF_WHISPER if files.object("config.json").get("model_type") == "whisper" else ()
        for name, value in self.values.items():
            if name in theirs:
                continue
            if name in _NEUTRAL and value not in _NEUTRAL[name]:
                raise self.error(name, "absent, because no search here has it")
            if name not in (*_IGNORED, *_FIELDS, *_NEUTRAL):
                raise self.error(name, "a field that is known here")

    def some_ids(self, name: str) -> tuple[int, ...]:
        """An id, or several, or none."""
        return self.ids(name) or ()

    def phrases(self, name: str) -> list[tuple[int, ...]]:
        """Lists of ids."""
        lists = self._read(name, [], "a list of lists of ids", lambda value: isinstance(value, list))
        inner = [Fields({name: ids}, self.path) for ids in lists]
        if not all(isinstance(ids, list) and ids for ids in lists):
            raise self.error(name, "a list of lists of ids")
        return [ids for each in inner if (ids := each.ids(name))]


def config_with(files: Files, config: Any, language: int | None = None, *, begins: bool = False) -> Any:
    """A model's config with the ids by which its folder begins and ends an output.

    Args:
        files: of the folder.
        config: of the model.
        language: the id of the target's language.
        begins: whether the language is what the decoder reads first, and not what follows that.

    Raises:
        ValueError: naming file and field.
    """
    values = GenerationConfig(files)
    changes: dict[str, Any] = {}
    if ends := values.ids("eos_token_id"):
        changes["eos_id"] = one_or_more(ends)
    if hasattr(config, "start_id"):
        first, *forced = start_ids(config)
        first = values.count("decoder_start_token_id", first)
        if (given := values.id("forced_bos_token_id")) is not None:
            forced = [given]
        if language is not None:
            first, forced = (language, forced) if begins else (first, [language])
        changes["start_id"] = (first, *forced) if forced else first
    try:
        return dataclasses.replace(config, **{n: v for n, v in changes.items() if getattr(config, n) != v})
    except ValueError as error:
        raise ValueError(f"{values.path}: {error}") from None


def options_of(files: Files, config: Any, vocab_size: int) -> dict[str, Any]:
    """What a folder asks of a search, as fields of `SearchOptions`, like transformers.

    Of a decoder-only model, "total_length" and "total_minimum" count the tokens that it goes on from, too.

    Args:
        files: of the folder.
        config: of the model, after `config_with`.
        vocab_size: of the tokenizer: a model may have rows beyond it, which are never chosen.

    Raises:
        ValueError: naming file and field.
    """
    values = GenerationConfig(files)
    beams = values.size("num_beams", 1)
    options: dict[str, Any] = {"like": "hf", "beam": beams, **_lengths(values, config)}
    if beams > 1:
        options["length_penalty"] = values.at_least("length_penalty", 0, 1.0)
        stopping = values.values.get("early_stopping", False)
        if not isinstance(stopping, bool) and stopping != "never":
            raise values.error("early_stopping", 'true, false or "never"')
        if stopping:
            options["early_stopping"] = stopping
    if values.flag("do_sample", False):
        if beams > 1:
            raise values.error("do_sample", f"false where num_beams is {beams}")
        options |= _draws(values)
    if size := values.count("no_repeat_ngram_size", 0):
        options["no_repeat_ngram"] = size
    if (penalty := values.number("repetition_penalty", 1.0)) != 1.0:
        options["repetition_penalty"] = penalty
    return options | _forbidden(values, config, vocab_size)


def _lengths(values: GenerationConfig, config: Any) -> dict[str, int]:
    """Numbers of tokens after those that every output begins with; transformers counts these, too."""
    encodes = hasattr(config, "start_id")
    start = len(start_ids(config)) if encodes else 0
    options = {}
    longest, new = values.size("max_length", None), values.size("max_new_tokens", None)
    if new is not None:
        options["max_length"] = max(new - max(start - 1, 0), 1)
    elif longest is not None:
        options["max_length" if encodes else "total_length"] = max(longest - start, 1)
    shortest, least = values.count("min_length", 0), values.count("min_new_tokens", None)
    if least is not None:
        options["min_length"] = max(least - max(start - 1, 0), 0)
    elif shortest:
        options["min_length" if encodes else "total_minimum"] = max(shortest - start, 0)
    return options


def _draws(values: GenerationConfig) -> dict[str, Any]:
    options: dict[str, Any] = {"temperature": values.number("temperature", 1.0)}
    if top_k := values.count("top_k", _TOP_K):
        options["top_k"] = top_k
    if (top_p := values.number("top_p", 1.0)) > 1:
        raise values.error("top_p", "a number in (0, 1]")
    min_p = values.rate("min_p", 0.0)
    return {**options, **({"top_p": top_p} if top_p < 1 else {}), **({"min_p": min_p} if min_p else {})}


def _forbidden(values: GenerationConfig, config: Any, vocab_size: int) -> dict[str, Any]:
    """Tokens that are never chosen, or only at some places. Tokens that the model does not have are left out."""
    rows = config.output_size
    words = values.phrases("bad_words_ids")
    single = {word[0] for word in words if len(word) == 1} - {*end_ids(config)}  # as transformers does
    suppressed = {*values.some_ids("suppress_tokens"), *single}
    options: dict[str, Any] = {}
    never = sorted({*range(vocab_size, rows), *(id for id in suppressed if id < rows)})
    if never:
        options["suppress"] = never
    if longer := [word for word in words if len(word) > 1 and max(word) < rows]:
        options["bad_words"] = longer
    if begins := [id for id in values.some_ids("begin_suppress_tokens") if id < rows]:
        options["begin_suppress"] = begins
    if last := values.some_ids("forced_eos_token_id"):
        options["forced_last"] = last[0]
    if values.flag("renormalize_logits", False):
        options["renormalize"] = True
    return options
