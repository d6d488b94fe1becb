"""Translator and Generator with the signatures of CTranslate2, for programs that were written for it.

`from dragoman.interop import ctranslate2` takes the place of `import ctranslate2`. A model is a folder of this package,
and tokens are those of its tokenizer, with U+2581 for a space. Options that this package has are mapped. Those that say
how a result is computed are accepted and change nothing. Others are refused by their names.

A search is that of `like="fairseq"`, whose scores are CTranslate2's: log probability / length^length_penalty, without
the log probability of a prefix. CTranslate2 divides the probability of tokens that may not be chosen among the others;
here they keep it, so scores differ a little. An output of `max_decoding_length` tokens ends in </s> here.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

from dragoman import arguments, cuda
from dragoman.data.tokenizer import EOS, UNK, Tokenizer
from dragoman.generate import Hypothesis, SearchOptions
from dragoman.generate.scoring import score
from dragoman.predict import LanguageModel
from dragoman.predict import Translator as Served
from dragoman.predict.executor import result_of
from dragoman.runtime import set_num_threads

Tokens = list[str]

COMPUTE_TYPES = {
    "default": "default",
    "auto": "default",
    "float32": "float32",
    "bfloat16": "bfloat16",
    "int8": "int8",
    "int8_float32": "int8",
    "int8_bfloat16": "int8",
}
_AS_BY_DEFAULT = {  # options that must be what they are by default
    "patience": 1,
    "end_token": None,
    "prefix_bias_beta": 0,
    "use_vmap": False,
    "return_logits_vocab": False,
    "return_attention": False,
    "return_alternatives": False,
    "min_alternative_expansion_prob": 0,
    "callback": None,
    "static_prompt": None,
}
_WITHOUT_EFFECT = {"max_batch_size", "batch_type", "disable_unk", "replace_unknowns", "cache_static_prompt"}
_MAPPED = {
    "beam_size": "beam",
    "num_hypotheses": "count",
    "length_penalty": "length_penalty",
    "coverage_penalty": "coverage_penalty",
    "repetition_penalty": "repetition_penalty",
    "no_repeat_ngram_size": "no_repeat_ngram",
    "max_decoding_length": "max_length",
    "min_decoding_length": "min_length",
    "max_length": "max_length",
    "min_length": "min_length",
}

_seed = 0
_draws = itertools.count()  # each call draws anew


def set_random_seed(seed: int) -> None:
    """The seed of the draws that follow."""
    global _seed, _draws
    _seed, _draws = arguments.integer("set_random_seed", "seed", seed), itertools.count()


@dataclass
class TranslationResult:
    """Hypotheses of a source, the best first, and their scores, if they were asked for."""

    hypotheses: list[Tokens]
    scores: list[float] = field(default_factory=list)
    attention: list[Any] = field(default_factory=list)
    logits: list[Any] = field(default_factory=list)


@dataclass
class GenerationResult:
    """What follows a prompt, as tokens and as ids, the best first, and the scores, if they were asked for."""

    sequences: list[Tokens]
    sequences_ids: list[list[int]]
    scores: list[float] = field(default_factory=list)
    logits: list[Any] = field(default_factory=list)


@dataclass
class ScoringResult:
    """The tokens of a target, with its end, and the log probability of each."""

    tokens: Tokens
    log_probs: list[float]


class AsyncResult:
    """A result that is being computed."""

    def __init__(
        self, future: Future[list[list[Hypothesis]]], index: int, make: Callable[[int, list[Hypothesis]], Any]
    ) -> None:
        self._future, self._index, self._make = future, index, make

    def done(self) -> bool:
        return self._future.done()

    def result(self) -> Any:
        return self._make(self._index, self._future.result()[self._index])


class _Adapter:
    """What both classes have: a folder's predictor, and the names of its tokens.

    Args:
        kind: of the predictor.
        model_path: a folder that this package wrote.
        device: "cpu", "cuda" or "auto".
        options: of CTranslate2's constructors.
    """

    def __init__(self, kind: Any, model_path: str, device: str, options: dict[str, Any]) -> None:
        name = type(self).__name__
        compute_type = options.pop("compute_type", "default")
        arguments.choice(name, "compute_type", compute_type, tuple(COMPUTE_TYPES))
        inter, intra = options.pop("inter_threads", 1), options.pop("intra_threads", 0)
        if intra:
            set_num_threads(arguments.integer(name, "inter_threads", inter, 1) * intra)
        for option, default in {"flash_attention": False, "tensor_parallel": False, "files": None}.items():
            _check_default(name, option, options.pop(option, default), default)
        for option in ("device_index", "max_queued_batches"):  # without effect
            options.pop(option, None)
        _check_known(name, options)
        self.device = ("cuda" if cuda.is_available() else "cpu") if device == "auto" else device
        self.device_index = [0]
        self.compute_type = COMPUTE_TYPES[compute_type]
        self._served = kind.load(model_path, self.device, self.compute_type)
        tokenizer: Tokenizer = self._served.tokenizer
        self._names = tokenizer.tokens(range(tokenizer.vocab_size))
        self._ids = {token: id for id, token in enumerate(self._names)}

    @property
    def model_is_loaded(self) -> bool:
        return True

    def _search(
        self, batch: Sequence[list[int]], options: dict[str, Any], prefixes: Sequence[Sequence[int]]
    ) -> Future[list[list[Hypothesis]]]:
        """The hypotheses of each, with the options of CTranslate2."""
        chosen = self._options(options)
        count = chosen.count if chosen.temperature else None  # all of a search, for `_without_prefix`
        return self._served.submit_ids(  # type: ignore[no-any-return]
            batch,
            [replace(chosen, prefix=prefix, count=count) if prefix else chosen for prefix in prefixes],
            [next(_draws) for _ in batch],
        )

    def _options(self, options: dict[str, Any]) -> SearchOptions:
        name = type(self).__name__
        for option, default in _AS_BY_DEFAULT.items():
            _check_default(name, option, options.pop(option, default), default)
        for option in _WITHOUT_EFFECT:
            options.pop(option, None)
        given = [option for option in options if option in _MAPPED]
        chosen = {_MAPPED[option]: options.pop(option) for option in given}
        top_k, top_p = options.pop("sampling_topk", 1), options.pop("sampling_topp", 1)
        temperature = options.pop("sampling_temperature", 1)
        if top_k != 1:
            chosen |= {"top_k": top_k or None, "top_p": top_p, "temperature": temperature, "seed": _seed}
        sequences = [self._ids_of(sequence) for sequence in options.pop("suppress_sequences", None) or []]
        chosen["suppress"] = [ids[0] for ids in sequences if len(ids) == 1]
        chosen["bad_words"] = [ids for ids in sequences if len(ids) != 1]
        _check_known(name, options)
        try:
            return SearchOptions(**chosen, like="fairseq", op=name)
        except (TypeError, ValueError) as error:
            raise type(error)(_in_their_names(str(error), given)) from None

    def _ids_of(self, tokens: Sequence[str]) -> list[int]:
        if isinstance(tokens, str):
            raise TypeError(
                f"{type(self).__name__}: a text must be a list of tokens, got str {arguments.shown(tokens)}"
            )
        return [self._ids.get(token, UNK) for token in tokens]

    def _tokens_of(self, ids: Sequence[int]) -> Tokens:
        return [self._names[id] for id in ids if id < len(self._names)]

    def _with_end(self, found: Hypothesis, wanted: bool) -> list[int]:
        """The ids of an output, with eos where it is wanted and the output ended in it."""
        return [*found.ids, EOS] if wanted and found.length > len(found.ids) else found.ids


class Translator(_Adapter):
    """CTranslate2's Translator over a folder of this package. Any number of threads may use it.

    Args:
        model_path: a folder that this package wrote.
        device: "cpu", "cuda" or "auto".
        options: of CTranslate2's constructor. `intra_threads` sets the threads of the library, times `inter_threads`.

    Raises:
        OSError: a file is missing.
        TypeError, ValueError: another kind of model; an option that is not supported, naming it.
    """

    def __init__(self, model_path: str, device: str = "cpu", **options: Any) -> None:
        super().__init__(Served, model_path, device, options)

    def translate_batch(
        self,
        source: Sequence[Tokens],
        target_prefix: Sequence[Tokens | None] | None = None,
        *,
        asynchronous: bool = False,
        beam_size: int = 2,
        num_hypotheses: int = 1,
        length_penalty: float = 1,
        max_input_length: int = 1024,
        max_decoding_length: int = 256,
        min_decoding_length: int = 1,
        return_scores: bool = False,
        return_end_token: bool = False,
        **options: Any,
    ) -> list[Any]:
        """Translates sources, each a list of tokens; </s> is added where it is not the last.

        Args:
            source, target_prefix: tokens. A prefix is part of the hypotheses.
            options: the others of CTranslate2's method.

        Returns:
            A TranslationResult for each source; with `asynchronous`, what waits for it at `.result()`.

        Raises:
            TypeError, ValueError: an option that is not supported, naming it.
        """
        options |= {
            "beam_size": beam_size,
            "num_hypotheses": num_hypotheses,
            "length_penalty": length_penalty,
            "max_decoding_length": max_decoding_length,
            "min_decoding_length": min_decoding_length,
        }
        sources = [self._source(tokens, max_input_length) for tokens in source]
        prefixes = [self._ids_of(tokens or ()) for tokens in target_prefix or [None] * len(sources)]
        if len(prefixes) != len(sources):
            raise ValueError(f"Translator: target_prefix must hold {len(sources)} prefixes, got {len(prefixes)}")

        def make(index: int, found: list[Hypothesis]) -> TranslationResult:
            found = _without_prefix(found, len(prefixes[index]), length_penalty)[:num_hypotheses]
            hypotheses = [self._tokens_of(self._with_end(each, return_end_token)) for each in found]
            return TranslationResult(hypotheses, [each.score for each in found] if return_scores else [])

        return _results(self._search(sources, options, prefixes), make, len(sources), asynchronous)

    def score_batch(
        self,
        source: Sequence[Tokens],
        target: Sequence[Tokens],
        *,
        max_input_length: int = 1024,
        **options: Any,
    ) -> list[ScoringResult]:
        """The log probabilities of given targets, each a list of tokens. ValueError for unknown options."""
        for option in ("max_batch_size", "batch_type"):
            options.pop(option, None)
        for option, default in {"offset": 0, "asynchronous": False}.items():
            _check_default("Translator", option, options.pop(option, default), default)
        _check_known("Translator", options)
        sources = [self._source(tokens, max_input_length) for tokens in source]
        found = score(self._served.model, sources, [self._ids_of(tokens) for tokens in target])
        return [
            ScoringResult([*tokens, self._names[EOS]], list(each.token_logprobs))
            for tokens, each in zip(target, found, strict=True)
        ]

    def _source(self, tokens: Tokens, maximum: int) -> list[int]:
        ids = self._ids_of(tokens[: maximum or None])
        return ids if ids[-1:] == [EOS] else [*ids, EOS]


class Generator(_Adapter):
    """CTranslate2's Generator over a folder of this package. Any number of threads may use it.

    Args and errors as of Translator.
    """

    def __init__(self, model_path: str, device: str = "cpu", **options: Any) -> None:
        super().__init__(LanguageModel, model_path, device, options)

    def generate_batch(
        self,
        start_tokens: Sequence[Tokens],
        *,
        asynchronous: bool = False,
        beam_size: int = 1,
        num_hypotheses: int = 1,
        length_penalty: float = 1,
        max_length: int = 512,
        min_length: int = 0,
        include_prompt_in_result: bool = True,
        return_scores: bool = False,
        return_end_token: bool = False,
        **options: Any,
    ) -> list[Any]:
        """Goes on from prompts, each a list of tokens that begins as the model's texts do, with <s>.

        Args:
            start_tokens: prompts.
            max_length, min_length: tokens of what follows.
            options: the others of CTranslate2's method.

        Returns:
            A GenerationResult for each prompt; with `asynchronous`, what waits for it at `.result()`. Scores are those
            of what follows.

        Raises:
            TypeError, ValueError: an option that is not supported, naming it.
        """
        options |= {
            "beam_size": beam_size,
            "num_hypotheses": num_hypotheses,
            "length_penalty": length_penalty,
            "max_length": max_length,
            "min_length": min_length,
        }
        prompts = [self._ids_of(tokens) for tokens in start_tokens]

        def make(index: int, found: list[Hypothesis]) -> GenerationResult:
            begin = prompts[index] if include_prompt_in_result else []
            ids = [[*begin, *self._with_end(each, return_end_token)] for each in found]
            scores = [each.score for each in found] if return_scores else []
            return GenerationResult([self._tokens_of(each) for each in ids], ids, scores)

        return _results(self._search(prompts, options, [()] * len(prompts)), make, len(prompts), asynchronous)


def _without_prefix(found: list[Hypothesis], size: int, length_penalty: float) -> list[Hypothesis]:
    """Hypotheses in the order of their scores without the log probability of a prefix, as CTranslate2 has them."""
    if not size:
        return found
    scored = [
        replace(each, score=each.score - sum(each.token_logprobs[:size]) / each.length**length_penalty)
        for each in found
    ]
    return sorted(scored, key=lambda each: -each.score)


def _results(
    future: Future[list[list[Hypothesis]]],
    make: Callable[[int, list[Hypothesis]], Any],
    size: int,
    asynchronous: bool,
) -> list[Any]:
    """The result of each request, which `make` makes, or what waits for it."""
    results = [AsyncResult(future, index, make) for index in range(size)]
    if asynchronous:
        return list(results)
    result_of(future)
    return [each.result() for each in results]


def _in_their_names(message: str, given: Iterable[str]) -> str:
    """An error of SearchOptions, with the names of CTranslate2's options."""
    theirs = {"top_k": "sampling_topk", "top_p": "sampling_topp", "temperature": "sampling_temperature"}
    theirs |= {_MAPPED[option]: option for option in given}
    return re.sub(rf"\b({'|'.join(theirs)})\b", lambda found: theirs[found[1]], message)


def _check_default(name: str, option: str, value: Any, default: Any) -> None:
    if value != default:
        raise ValueError(f"{name}: {option} must be {default!r}, the default; it is not supported here")


def _check_known(name: str, options: dict[str, Any]) -> None:
    if options:
        raise TypeError(f"{name}: unknown option {next(iter(options))}")
