"""CTranslate2's options of a search as SearchOptions, and those that are refused by name."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from dragoman import arguments
from dragoman.generate import SearchOptions

AS_BY_DEFAULT = {  # options that must be what they are by default
    "patience": 1,
    "coverage_penalty": 0,
    "end_token": None,
    "prefix_bias_beta": 0,
    "use_vmap": False,
    "return_logits_vocab": False,
    "return_alternatives": False,
    "min_alternative_expansion_prob": 0,
    "static_prompt": None,
}
RULE: dict[str, Any] = {"like": "hf", "early_stopping": True}  # of a search there
WITHOUT_EFFECT = {"max_batch_size", "batch_type", "replace_unknowns", "cache_static_prompt"}
MAPPED = {
    "beam_size": "beam",
    "num_hypotheses": "count",
    "length_penalty": "length_penalty",
    "repetition_penalty": "repetition_penalty",
    "no_repeat_ngram_size": "no_repeat_ngram",
    "max_decoding_length": "max_length",
    "min_decoding_length": "min_length",
    "max_length": "max_length",
    "min_length": "min_length",
}

_seed = 0
_draws = itertools.count()  # each request draws with a place of its own


def set_random_seed(seed: int) -> None:
    """The seed of the draws that follow."""
    global _seed, _draws
    _seed, _draws = arguments.integer("set_random_seed", "seed", seed), itertools.count()


def places(count: int) -> list[int]:
    """The places of the next `count` requests, which choose what each draws."""
    return list(itertools.islice(_draws, count))


def search_options(
    name: str, options: dict[str, Any], ids_of: Callable[[Sequence[str]], list[int]], unknown: int
) -> SearchOptions:
    """The options of a method, of which none must be left. TypeError, ValueError by the names of CTranslate2.

    Args:
        ids_of: gives the ids of tokens.
        unknown: the id of the unknown token.
    """
    for option, default in AS_BY_DEFAULT.items():
        check_default(name, option, options.pop(option, default), default)
    for option in WITHOUT_EFFECT:
        options.pop(option, None)
    given = [option for option in options if option in MAPPED]
    chosen = {MAPPED[option]: options.pop(option) for option in given}
    top_k, top_p = options.pop("sampling_topk", 1), options.pop("sampling_topp", 1)
    temperature = options.pop("sampling_temperature", 1)
    if top_k != 1:
        chosen |= {"top_k": top_k or None, "top_p": top_p, "temperature": temperature, "seed": _seed}
    sequences = [ids_of(sequence) for sequence in options.pop("suppress_sequences", None) or []]
    chosen["suppress"] = [ids[0] for ids in sequences if len(ids) == 1]
    chosen["suppress"] += [unknown] * bool(options.pop("disable_unk", False))
    chosen["bad_words"] = [ids for ids in sequences if len(ids) != 1]
    check_known(name, options)
    try:
        asked = SearchOptions(**chosen, renormalize=True, op=name)
    except (TypeError, ValueError) as error:
        raise type(error)(_in_their_names(str(error), given)) from None
    # Like "hf", a beam search has another repetition penalty.
    rule = {"like": "fairseq"} if asked.beam > 1 and asked.repetition_penalty != 1 else RULE
    return replace(asked, **rule, op=name)


def check_default(name: str, option: str, value: Any, default: Any) -> None:
    """ValueError for an option that is not supported and not as it is by default."""
    if value != default:
        raise ValueError(f"{name}: {option} must be {default!r}, the default; it is not supported here")


def check_known(name: str, options: dict[str, Any]) -> None:
    """TypeError for options that are left."""
    if options:
        raise TypeError(f"{name}: unknown option {next(iter(options))}")


def _in_their_names(message: str, given: Iterable[str]) -> str:
    """An error of SearchOptions, with the names of CTranslate2's options."""
    theirs = {"top_k": "sampling_topk", "top_p": "sampling_topp", "temperature": "sampling_temperature"}
    theirs |= {MAPPED[option]: option for option in given}
    return re.sub(rf"\b({'|'.join(theirs)})\b", lambda found: theirs[found[1]], message)
