"""Dataset: encoded examples as rows of named columns of integers; Table, a dataset in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import chain
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from dragoman import arguments
from dragoman.arguments import described

Ids = Sequence[int]  # one cell: token ids, or a label alone
Columns = Mapping[str, Sequence[Ids]]  # by name, one cell an example
Lengths = Mapping[str, npt.NDArray[np.integer[Any]]]  # by name, (examples,)

ID_DTYPE = np.dtype("<i4")


@runtime_checkable
class Dataset(Protocol):
    """Encoded examples, one a row: a `Table` in memory, or `dragoman.data.Shards` on the disk."""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns."""

    def __len__(self) -> int: ...

    def lengths(self, first: int, last: int) -> Lengths:
        """How many ids the rows [first, last) hold in each column."""

    def take(self, indices: Sequence[int]) -> Columns:
        """Some rows, in the order of `indices`."""

    def digests(self) -> dict[str, str]:
        """A `ColumnDigest` of each column."""


class Table:
    """A dataset in memory.

    Args:
        columns: by name, all of one length.

    Raises:
        TypeError: naming column and row of a cell that is no list of ids.
        ValueError: columns of different lengths.
    """

    def __init__(self, columns: Columns) -> None:
        arguments.check_types("Table", Mapping, columns=columns)
        self._columns = dict(columns)
        for name, cells in self._columns.items():
            if not isinstance(cells, Sequence | np.ndarray):
                raise TypeError(f"Table: column {name} must hold lists of ids, got {type(cells).__name__}")
            for row, cell in enumerate(cells):
                if type(cell) is not list and not _is_list(cell):
                    raise TypeError(f"Table: column {name} must hold lists of ids, got {described(cell)} in row {row}")
        counts = {name: len(cells) for name, cells in self._columns.items()}
        if len(set(counts.values())) != 1:
            raise ValueError(f"Table: columns must have one length, got {counts}")
        self._count = next(iter(counts.values()))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._columns)

    def __len__(self) -> int:
        return self._count

    def lengths(self, first: int, last: int) -> Lengths:
        return {name: lengths_of(cells[first:last]) for name, cells in self._columns.items()}

    def take(self, indices: Sequence[int]) -> Columns:
        return {name: [cells[i] for i in indices] for name, cells in self._columns.items()}

    def digests(self) -> dict[str, str]:
        return {name: _digest(name, cells) for name, cells in self._columns.items()}


class ColumnDigest:
    """SHA-256 of a column: of its ids, end to end, and of how many each row has."""

    def __init__(self) -> None:
        self._ids, self._lengths = sha256(), sha256()

    def update(self, ids: npt.NDArray[np.int32], lengths: npt.NDArray[np.int64]) -> None:
        """Takes in the next rows: their ids, end to end, and their lengths."""
        self._ids.update(np.ascontiguousarray(ids, ID_DTYPE).data)
        self._lengths.update(np.ascontiguousarray(lengths, "<i8").data)

    def hexdigest(self) -> str:
        return sha256(self._ids.digest() + self._lengths.digest()).hexdigest()


def _is_list(cell: object) -> bool:
    return isinstance(cell, Sequence | np.ndarray) and not isinstance(cell, str | bytes)


def columns_of(names: Sequence[str], examples: Sequence[Sequence[Ids]]) -> Columns:
    """The columns of examples that are tuples of cells in the order of `names`."""
    return {name: [example[i] for example in examples] for i, name in enumerate(names)}


def lengths_of(cells: Sequence[Ids]) -> npt.NDArray[np.int64]:
    """How many ids each cell holds, int64 (cells,)."""
    return np.fromiter(map(len, cells), np.int64, len(cells))


def flat_ids(name: str, cells: Sequence[Ids], first: int = 0) -> npt.NDArray[np.int32]:
    """The ids of all cells, end to end.

    Args:
        name: of the column.
        cells: of the rows from `first` on.
        first: their place in the column.

    Raises:
        ValueError: naming column and row, for what is no integer of 32 bits.
    """
    try:
        return np.fromiter(chain.from_iterable(cells), ID_DTYPE)
    except (TypeError, ValueError, OverflowError):
        for row, cell in enumerate(cells, first):
            if not _is_cell(cell):
                raise ValueError(
                    f"data: column {name} must hold integers of 32 bits, got {described(cell)} in row {row}"
                ) from None
        raise


def _is_cell(cell: Any) -> bool:
    try:
        np.fromiter(cell, ID_DTYPE)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


_BLOCK = 8192  # rows whose digest is taken together


def _digest(name: str, cells: Sequence[Ids]) -> str:
    digest = ColumnDigest()
    for first in range(0, len(cells), _BLOCK):
        block = cells[first : first + _BLOCK]
        digest.update(flat_ids(name, block, first), lengths_of(block))
    return digest.hexdigest()
