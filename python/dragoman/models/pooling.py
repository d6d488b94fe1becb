"""Pooling: the rows of each text as one row, in one way or in several."""

from __future__ import annotations

import numpy as np

from dragoman import functional
from dragoman._core import Sequences
from dragoman.creation import tensor
from dragoman.functional.pool import POOLINGS
from dragoman.tensor import Tensor

KINDS = (*POOLINGS, "mean_sqrt", "weighted_mean")


def pool(x: Tensor, sequences: Sequences, kinds: str | tuple[str, ...]) -> Tensor:
    """The rows of each sequence as one row.

    Args:
        x: (tokens, features).
        sequences: of x.
        kinds: those of `functional.pool`; "mean_sqrt", the sum of n rows divided by sqrt(n); or "weighted_mean", in
            which row i of n, counted from 1, weighs 2 i / (n + 1) (Muennighoff 2022, arXiv:2202.08904). The rows of
            several kinds lie side by side.

    Returns:
        (sequences, features * number of kinds).
    """
    if isinstance(kinds, str):
        return _pool(x, sequences, kinds)
    parts = [_pool(x, sequences, kind) for kind in kinds]
    return parts[0] if len(parts) == 1 else functional.concat(parts, 1)


def _pool(x: Tensor, sequences: Sequences, kind: str) -> Tensor:
    if kind == "mean_sqrt":
        factors = np.sqrt(np.array(sequences.lengths, np.float32))
        return functional.pool(x, sequences, "mean") * tensor(factors[:, None], x.device)
    if kind == "weighted_mean":
        weights = [2 * np.arange(1, n + 1, dtype=np.float32) / (n + 1) for n in sequences.lengths]
        x = x * tensor(np.concatenate([np.empty(0, np.float32), *weights])[:, None], x.device)
        kind = "mean"
    return functional.pool(x, sequences, kind)
