"""Ragged batches: Sequences, and the way from and to rectangles."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt

from dragoman import _core
from dragoman.tensor import Tensor, tensor


class Sequences(_core.Sequences):
    """Where each sequence of a ragged batch begins and how long it is.

    The tokens of a batch lie end to end: sequence i owns rows offsets[i] to offsets[i] + lengths[i].

    Args:
        lengths: length of each sequence, at least 0.
        capacity: rows of the batch's buffers, at least sum(lengths), which it is by default. Rows beyond `tokens` are
            ignored on the way in and written as zeros.

    Attributes:
        lengths, offsets ((number of sequences + 1,) int32), tokens, capacity, max_length.

    Raises:
        ValueError: a negative length, or a capacity below sum(lengths).
    """

    @classmethod
    def from_padded(cls, array: npt.ArrayLike, lengths: npt.ArrayLike) -> tuple[Tensor, Self]:
        """The rows in use of a rectangle (number of sequences, longest, ...), end to end, and their Sequences.

        Args:
            array: padded on the right.
            lengths: (number of sequences,) rows in use of each sequence.
        """
        padded = np.asarray(array)
        counts = np.asarray(lengths)
        if padded.ndim < 2 or counts.shape != padded.shape[:1]:
            raise ValueError(
                f"from_padded: lengths must have shape {padded.shape[:1]} for an array of shape {padded.shape}, "
                f"got {counts.shape}"
            )
        if counts.size and not (counts.min() >= 0 and counts.max() <= padded.shape[1]):
            raise ValueError(
                f"from_padded: lengths must lie in [0, {padded.shape[1]}], got [{counts.min()}, {counts.max()}]"
            )
        in_use = np.arange(padded.shape[1]) < counts[:, None]
        return tensor(padded[in_use]), cls([int(count) for count in counts])

    def to_padded(self, rows: npt.ArrayLike | Tensor, fill: float = 0) -> npt.NDArray[Any]:
        """The rectangle (number of sequences, longest, ...) of rows (capacity, ...); `fill` where a sequence ends."""
        values = np.asarray(rows)
        if values.shape[:1] != (self.capacity,):
            raise ValueError(f"to_padded: rows must have {self.capacity} rows, got shape {values.shape}")
        padded = np.full((len(self), self.max_length, *values.shape[1:]), fill, values.dtype)
        padded[np.arange(self.max_length) < np.array(self.lengths, np.int64)[:, None]] = values[: self.tokens]
        return padded
