"""Ranks: the processes that train together, as one of them sees them. Here is the one that is alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")
Buffer = npt.NDArray[np.float32]


class Transfer(Protocol):
    """Some sends and receives that are under way."""

    def done(self) -> bool:
        """Whether all of them are through."""
        ...


class Ranks:
    """One process that trains alone; the base of others.

    Attributes:
        rank: its number, in [0, size).
        size: how many there are.
    """

    rank = 0
    size = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def gather(self, value: Any, *, patient: bool = False) -> list[Any]:
        """What each rank has brought, by rank: values that JSON can hold. All ranks call it at the same point.

        A `patient` one waits as long as another rank needs, as for a corpus that the first one reads.
        """
        return [value]

    def after_first(self, make: Callable[[], T]) -> T:
        """`make()`, on the first rank before the others: they find the files that it has written."""
        if not self.first:
            self.gather(None, patient=True)
        made = make()
        if self.first:
            self.gather(None, patient=True)
        return made

    def agree(self, what: str, value: Any) -> None:
        """ValueError, on every rank, unless all have the same `value` of `what`."""
        values = self.gather(value)
        for rank, other in enumerate(values):
            if other != values[0]:
                raise ValueError(f"{what} must be the same on all ranks, rank 0 has {values[0]}, rank {rank} {other}")

    def transfer(
        self, sends: Sequence[tuple[int, Buffer]], receives: Sequence[tuple[int, Buffer]], tag: int
    ) -> Transfer:
        """Starts to send and to receive buffers, each with the rank at its other end."""
        raise NotImplementedError

    def wait(self, transfers: Sequence[Transfer]) -> None:
        """Until all of them are done."""

    @contextmanager
    def together(self) -> Iterator[None]:
        """Inside, an error of one rank ends all of them: no other waits for it for ever."""
        yield

    def fail(self, message: str, status: int, *, told: bool = False) -> None:
        """Ends all ranks with an exit status, after the message if it was not told. A process by itself goes on."""


ALONE = Ranks()
