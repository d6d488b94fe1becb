"""Sentence pairs: their token ids, and the cost of a pair in a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman.arguments import described, integer
from dragoman.data.columns import Ids
from dragoman.data.texts import check_text
from dragoman.data.tokenizer import Tokenizer

Pair = tuple[Ids, Ids]  # source ids, target ids
SIDES = ("source", "target")  # the columns


def source_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The input of the encoder for each text, in training and in translation: its ids and </s>, or the tokenizer's own
    frame."""
    frame = tokenizer.source_frame
    return [frame.around(ids) for ids in tokenizer.encode_batch(tokenizer.trimmed(texts))]


def target_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The ids of each text, without <s> and </s>, which the model's loss adds."""
    return tokenizer.target.encode_batch(tokenizer.trimmed(texts))


def encode_pairs(tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]]) -> dict[str, list[list[int]]]:
    """The columns "source" and "target" of text pairs, by `source_ids` and `target_ids`.

    Raises:
        TypeError, ValueError: naming the pair that is not two texts.
    """
    for i, pair in enumerate(pairs):
        _check_texts("encode_pairs", f"pairs[{i}]", pair)
    sources, targets = [source for source, _ in pairs], [target for _, target in pairs]
    return {"source": source_ids(tokenizer, sources), "target": target_ids(tokenizer, targets)}


def check_pairs(op: str, name: str, pairs: Sequence[object]) -> None:
    """Checks that all pairs are two texts, or all two lists of ids; the first decides.

    Raises:
        TypeError, ValueError: naming the pair and what was got.
    """
    first = pairs[0]
    sides = tuple(map(_kind, first)) if isinstance(first, tuple | list) else ()
    if sides not in (("text", "text"), ("ids", "ids")):
        raise TypeError(f"{op}: {name}[0] must be two texts or two lists of ids, got {described(first)}")
    check = _check_texts if sides[0] == "text" else _check_ids
    for i, pair in enumerate(pairs):
        check(op, f"{name}[{i}]", pair)


def _check_texts(op: str, name: str, pair: Any) -> None:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise TypeError(f"{op}: {name} must be two texts, got {described(pair)}")
    for side, text in enumerate(pair):
        if type(text) is not str or not text.isascii():  # most are, and one needs no more checks
            check_text(op, f"{name}[{side}]", text)


def _check_ids(op: str, name: str, pair: Any) -> None:
    if not isinstance(pair, tuple | list) or tuple(map(_kind, pair)) != ("ids", "ids"):
        raise TypeError(f"{op}: {name} must be two lists of ids, got {described(pair)}")
    for side, ids in enumerate(pair):
        if all(kind is not bool and issubclass(kind, int | np.integer) for kind in set(map(type, ids))):
            continue
        for place, id in enumerate(ids):
            integer(op, f"{name}[{side}][{place}]", id)


def _kind(side: object) -> str | None:
    """What a side of a pair is made of."""
    if isinstance(side, str):
        return "text"
    is_ids = side.ndim == 1 if isinstance(side, np.ndarray) else isinstance(side, Sequence)
    return "ids" if is_ids and not isinstance(side, bytes) else None


def pair_costs(
    source: npt.NDArray[np.integer[Any]],
    target: npt.NDArray[np.integer[Any]],
    *,
    max_length: int | None = None,
    max_source_length: int | None = None,
    min_length: int = 1,
    max_ratio: float | None = None,
) -> npt.NDArray[np.integer[Any]]:
    """The cost of each pair: the number of tokens of its longer side. The target's </s> counts, here and in all limits.

    Args:
        source, target: (pairs,), the number of ids of each.
        max_length: pairs with more tokens on a side are left out.
        max_source_length: sources are cut to this length, and `max_length` is for targets alone.
        min_length: pairs with a side of fewer tokens are left out.
        max_ratio: pairs with a side more than `max_ratio` times as long as the other are left out.

    Returns:
        (pairs,), 0 for a pair that is left out.
    """
    target = target + 1
    limited = np.maximum(source, target)
    if max_source_length is not None:
        source, limited = np.minimum(source, max_source_length), target
    longer, shorter = np.maximum(source, target), np.minimum(source, target)
    costs = np.where(shorter >= min_length, longer, 0)
    if max_length is not None:
        costs[limited > max_length] = 0
    if max_ratio is not None:
        costs[longer > max_ratio * shorter] = 0
    return costs
