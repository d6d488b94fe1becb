"""Batches as users write them, lists of lists of token ids, and as models take them: ids end to end."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

from dragoman._core import Sequences

IdBatch = Sequence[Sequence[int]]  # one list of token ids a sentence

LENGTH = 64  # tokens of a sentence in an example batch; a plan of memory hardly depends on it


def pack_ids(op: str, argument: str, batch: IdBatch, vocab_size: int) -> tuple[npt.NDArray[np.int32], Sequences]:
    """A batch's ids end to end, int32 (tokens,), once known to be integers in [0, vocab_size)."""
    if not _is_list(batch):
        raise TypeError(f"{op}: {argument} must be a list of lists of ids, got {type(batch).__name__}")
    for i, ids in enumerate(batch):
        if not _is_list(ids):
            raise TypeError(f"{op}: {argument}[{i}] must be a list of ids, got {type(ids).__name__}")
    try:
        flat = np.array(list(chain.from_iterable(batch)))
    except ValueError:  # lists among the ids
        flat = np.empty(0, object)
        _refuse(op, argument, batch, vocab_size)
    if flat.size == 0:
        flat = flat.astype(np.int32)
    if flat.ndim > 1 or flat.dtype.kind not in "iu" or (flat.size and not 0 <= flat.min() <= flat.max() < vocab_size):
        _refuse(op, argument, batch, vocab_size)
    return flat.astype(np.int32), Sequences([len(ids) for ids in batch])


def _is_list(value: object) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _refuse(op: str, argument: str, batch: IdBatch, vocab_size: int) -> None:
    """Raises the error for the first bad id of a batch."""
    for i, ids in enumerate(batch):
        for j, value in enumerate(ids):
            place = f"{argument}[{i}][{j}]"
            if isinstance(value, bool) or not isinstance(value, int | np.integer):
                raise TypeError(f"{op}: {place} must be an int, got {type(value).__name__} {value!r}")
            if not 0 <= value < vocab_size:
                raise ValueError(f"{op}: {place} must lie in [0, {vocab_size}), the ids of the vocabulary, got {value}")


def check_pairs(op: str, src_batch: IdBatch, tgt_batch: IdBatch) -> None:
    if len(src_batch) != len(tgt_batch):
        raise ValueError(f"{op}: tgt_batch must have {len(src_batch)} sentences, as src_batch, got {len(tgt_batch)}")


def even_batch(tokens: int, sentences: int) -> list[list[int]]:
    """A batch of so many tokens, spread evenly over the sentences."""
    return [[0] * (tokens // sentences + (i < tokens % sentences)) for i in range(sentences)]
