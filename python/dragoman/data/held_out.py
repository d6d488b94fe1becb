"""A part of a dataset that is held out for validation."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from dragoman import arguments
from dragoman.arrays import as_array
from dragoman.data.columns import Columns, Dataset, Ids, Lengths

Row = tuple[Ids, ...]


class Subset(Sequence[Row]):
    """Some rows of a dataset, as a dataset. Memory: 4 bytes a row.

    Args:
        dataset: all rows.
        rows: (rows,) indices, in rising order.

    Raises:
        TypeError, ValueError: another kind of dataset, or rows that are no such indices.
    """

    def __init__(self, dataset: Dataset, rows: npt.NDArray[np.integer[Any]]) -> None:
        arguments.check_types("Subset", Dataset, dataset=dataset)
        indices = as_array("Subset", "rows", rows)
        if indices.ndim != 1 or indices.dtype.kind not in "iu":
            raise TypeError(f"Subset: rows must be (rows,) integers, got {indices.dtype} of shape {indices.shape}")
        if len(indices) and not (indices[0] >= 0 and indices[-1] < len(dataset) and (np.diff(indices) > 0).all()):
            raise ValueError(f"Subset: rows must rise within [0, {len(dataset)}), got others")
        self._dataset = dataset
        self._rows = indices.astype(np.uint32)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns."""
        return self._dataset.names

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        chosen = range(len(self))[index]
        rows = list(zip(*self.take(chosen if isinstance(chosen, range) else [chosen]).values(), strict=True))
        return rows if isinstance(chosen, range) else rows[0]

    def lengths(self, first: int, last: int) -> Lengths:
        """How many ids the rows [first, last) hold in each column."""
        rows = self._rows[first:last].astype(np.int64)
        begin, end = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
        return {name: lengths[rows - begin] for name, lengths in self._dataset.lengths(begin, end).items()}

    def take(self, indices: Sequence[int]) -> Columns:
        """Some rows, in the order of `indices`."""
        return self._dataset.take(self._rows[list(indices)].tolist())

    def digests(self) -> dict[str, str]:
        """Of each column: of the whole dataset's digest and of the chosen rows."""
        rows = self._rows.astype("<u4").tobytes()
        digests = self._dataset.digests()
        return {name: sha256(digest.encode() + rows).hexdigest() for name, digest in digests.items()}


def hold_out(dataset: Dataset, fraction: float) -> tuple[Subset, Subset]:
    """A dataset in two parts: the rows to train with, and others to validate with.

    The rows of the second part are drawn at random. They depend on the number of rows and on `fraction` alone.

    Args:
        dataset: `Shards` or `Table`.
        fraction: share of the second part, in (0, 1).

    Raises:
        TypeError, ValueError: a fraction of another type or out of range, or one that leaves a part empty.
    """
    arguments.check_types("hold_out", Dataset, dataset=dataset)
    fraction = share_of("hold_out", "fraction", fraction)
    count = len(dataset)
    held = max(1, round(fraction * count))
    if held >= count:
        raise ValueError(f"hold_out: fraction must leave a row to train with, got {fraction} of {count} rows")
    chosen = np.zeros(count, np.bool_)
    chosen[np.random.default_rng(0).choice(count, held, replace=False)] = True
    return Subset(dataset, np.flatnonzero(~chosen)), Subset(dataset, np.flatnonzero(chosen))


def share_of(op: str, name: str, value: object) -> float:
    """A share of a dataset as a float in (0, 1). TypeError, ValueError in the name of `op`."""
    share = arguments.number(op, name, value, 0.0, 1.0)
    if share == 0:
        raise ValueError(f"{op}: {name} must be above 0, got {value}")
    return share
