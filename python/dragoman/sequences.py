"""Ragged batches: Sequences, and conversion from and to padded rectangles.

The core's class is the only one. Its constructor and its methods on NumPy arrays are written here and added to it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman import arguments
from dragoman._core import Sequences
from dragoman.arrays import as_array
from dragoman.creation import tensor
from dragoman.tensor import Tensor

__all__ = ["Sequences"]

_core_init, _core_select, _core_slotted = Sequences.__init__, Sequences.select, Sequences.slotted


def _init(
    self: Sequences, lengths: npt.ArrayLike, capacity: int | None = None, *, max_length: int | None = None
) -> None:
    counts = arguments.integers("Sequences", "lengths", lengths, minimum=-(2**63))  # the core names the position
    if capacity is not None:
        capacity = arguments.integer("Sequences", "capacity", capacity)
    if max_length is not None:
        max_length = arguments.integer("Sequences", "max_length", max_length)
    _core_init(self, counts, capacity, max_length=max_length)


def select(self: Sequences, indices: npt.ArrayLike) -> Sequences:
    """Sequences that read the rows of others: sequence i those of sequence indices[i].

    Raises:
        TypeError, ValueError: `indices` are not ints in [0, number of sequences).
    """
    return _core_select(self, arguments.integers("Sequences.select", "indices", indices, minimum=-(2**63)))


def slotted(lengths: npt.ArrayLike, slot: int) -> Sequences:
    """Sequences with room to grow: sequence i owns rows i * slot to (i + 1) * slot.

    Raises:
        TypeError, ValueError: `lengths` are not ints in [0, slot], or `slot` is no int of at least 0.
    """
    counts = arguments.integers("Sequences", "lengths", lengths, minimum=-(2**63))
    return _core_slotted(counts, arguments.integer("Sequences", "slot", slot))


def from_padded(
    array: npt.ArrayLike, lengths: npt.ArrayLike | None = None, *, mask: npt.ArrayLike | None = None
) -> tuple[Tensor, Sequences]:
    """The rows in use of a padded rectangle, end to end, and their Sequences.

    Args:
        array: (number of sequences, longest, ...), padded on the right.
        lengths: (number of sequences,) rows in use of each sequence.
        mask: (number of sequences, longest) bool, instead of lengths: True for a row in use, which may be attended to.
            In each sequence the True come before the False.

    Returns:
        A Tensor (tokens, ...) and the Sequences.

    Raises:
        ValueError: both or none of lengths and mask, a length out of range, or a True after a False.
        TypeError: lengths are not integers, or mask is not bool.
    """
    padded = as_array("from_padded", "array", array)
    if padded.ndim < 2:
        raise ValueError(f"from_padded: array must have at least 2 dimensions, got shape {padded.shape}")
    if (lengths is None) == (mask is None):
        raise ValueError("from_padded: either lengths or mask must be given")
    if mask is None:
        counts = _checked_lengths(as_array("from_padded", "lengths", lengths), padded.shape)
    else:
        counts = _mask_lengths(as_array("from_padded", "mask", mask), padded.shape)
    return tensor(padded[_in_use(counts, padded.shape[1])]), Sequences(counts)


def to_padded(self: Sequences, rows: npt.ArrayLike | Tensor, fill: float = 0) -> npt.NDArray[Any]:
    """Pads `rows` (capacity, ...) to (number of sequences, max_length, ...), `fill` after each sequence.

    Raises:
        TypeError, ValueError: another number of rows, or a fill that is no number or does not fit the dtype.
    """
    values = as_array("to_padded", "rows", rows)
    if not arguments.is_number(fill) and not isinstance(fill, bool | np.bool_):
        raise TypeError(f"to_padded: fill must be a number, got {type(fill).__name__}")
    if values.shape[:1] != (self.capacity,):
        raise ValueError(f"to_padded: rows must have {self.capacity} rows, got shape {values.shape}")
    in_use = self.mask()
    row = self.offsets.numpy()[:-1, None] + np.arange(self.max_length)
    try:
        padded = np.full((*in_use.shape, *values.shape[1:]), fill, values.dtype)
    except (OverflowError, ValueError, TypeError):
        raise ValueError(f"to_padded: fill must fit in {values.dtype}, got {arguments.shown(fill)}") from None
    padded[in_use] = values[row[in_use] if self.index is None else self.index.numpy()[row[in_use]]]
    return padded


def mask(self: Sequences) -> npt.NDArray[np.bool_]:
    """bool (number of sequences, max_length): True where `to_padded` has a row in use, which may be attended to."""
    return _in_use(np.array(self.lengths, np.int64), self.max_length)


def _reduce(self: Sequences) -> tuple[Any, ...]:
    """For copy and pickle. TypeError for the layout of a KV cache or of select, which belongs to other rows."""
    if not self.packed:
        raise TypeError("Sequences: only packed ones can be copied or pickled, got a slotted or selected layout")
    return _restore, (self.lengths, self.capacity, self.max_length)


for _name, _method in (
    ("__init__", _init),
    ("select", select),
    ("slotted", staticmethod(slotted)),
    ("from_padded", staticmethod(from_padded)),
    ("to_padded", to_padded),
    ("mask", mask),
    ("__reduce__", _reduce),
):
    setattr(Sequences, _name, _method)

Sequences.__doc__ = """Where each sequence of a ragged batch begins and how long it is.

The tokens of a batch lie end to end: sequence i owns rows offsets[i] to offsets[i] + lengths[i].

Args:
    lengths: (number of sequences,) ints, at least 0.
    capacity: number of rows of the batch's tensors; sum(lengths) by default. Ops do not read rows beyond `tokens`
        and write zeros to them.
    max_length: a bound of the lengths; the longest by default. The dropout masks of attention over these keys
        depend on it, so batches with the same bound share their masks.

Attributes:
    lengths: a list of ints, one for each sequence.
    offsets: (number of sequences + 1,) int32, where each sequence begins; a copy.
    index: None, or where a KVCache has sequences that share rows: row j of sequence i is index[offsets[i] + j].
    tokens: sum of the lengths.
    capacity: number of rows, at least `tokens`.
    max_length: the longest length, or the bound.

Raises:
    ValueError: a negative length, a capacity below sum(lengths) or a max_length below the longest.
"""


def _restore(lengths: list[int], capacity: int, max_length: int) -> Sequences:
    return Sequences(lengths, capacity, max_length=max_length)


def _in_use(lengths: npt.NDArray[Any], longest: int) -> npt.NDArray[np.bool_]:
    return np.arange(longest) < lengths[:, None]


def _checked_lengths(lengths: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    if lengths.shape != shape[:1]:
        raise ValueError(
            f"from_padded: lengths must have shape {shape[:1]} for an array of shape {shape}, got {lengths.shape}"
        )
    if lengths.size == 0:
        return lengths.astype(np.int64)
    if lengths.dtype.kind not in "iu":
        raise TypeError(f"from_padded: lengths must be integers, got dtype {lengths.dtype}")
    if lengths.min() < 0 or lengths.max() > shape[1]:
        raise ValueError(f"from_padded: lengths must lie in [0, {shape[1]}], got [{lengths.min()}, {lengths.max()}]")
    return lengths


def _mask_lengths(mask: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    if mask.dtype != np.bool_:
        raise TypeError(f"from_padded: mask must be bool, True for a row in use, got dtype {mask.dtype}")
    if mask.shape != shape[:2]:
        raise ValueError(f"from_padded: mask must have shape {shape[:2]}, got {mask.shape}")
    counts: npt.NDArray[Any] = mask.sum(axis=1)
    wrong = np.flatnonzero((mask != _in_use(counts, shape[1])).any(axis=1))
    if wrong.size:
        raise ValueError(
            f"from_padded: mask must be True, then False, in every row, got True after False in row {wrong[0]}"
        )
    return counts
