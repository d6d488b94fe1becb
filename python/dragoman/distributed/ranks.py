"""Ranks: the processes that train together, as one of them sees them; and ALONE, a process by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from dragoman import _core

FIRST_PRINTS = 1.0  # seconds that the other ranks leave to the first one, before they print an error

T = TypeVar("T")
Part = tuple[int, _core.Tensor]  # the number of another rank, and float32 values for it or from it


class Transfer(Protocol):
    """Some sends and receives that are under way."""

    def done(self) -> bool:
        """Whether all of them are complete."""
        ...


class Link(Protocol):
    """Moves arrays on one device between the ranks."""

    def transfer(self, sends: Sequence[Part], receives: Sequence[Part], tag: int) -> Transfer:
        """Starts to send tensors, and to receive into others. All ranks call it in the same order.

        Args:
            sends, receives: their memory stays as it is until the transfer is done.
            tag: a number that tells apart the transfers that are under way, the same on both sides.
        """
        ...


class Ranks:
    """One process that trains alone; the base of others.

    Attributes:
        rank: the number of this process, in [0, size).
        size: the number of processes.
        caller_reports: whether the caller of `Trainer.fit` prints an error and ends the ranks, as the commands do.
    """

    rank = 0
    size = 1
    caller_reports = False

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and messages."""
        return self.rank == 0

    def gather(self, value: Any, *, patient: bool = False) -> list[Any]:
        """The `value` of each rank, in their order. JSON must be able to hold it. All ranks call it at the same point.

        With `patient`, there is no limit to the time that a rank waits, for instance while the first reads a corpus.
        """
        return [value]

    def after_first(self, make: Callable[[], T]) -> T:
        """Calls `make` on the first rank, then on the others, which find the files that it has written."""
        if not self.first:
            self.gather(None, patient=True)
        made = make()
        if self.first:
            self.gather(None, patient=True)
        return made

    def agree(self, values: Mapping[str, Any]) -> None:
        """ValueError, on every rank, unless each named value is the same on all ranks. All have the same names."""
        by_rank = self.gather(list(values.values()))
        for place, name in enumerate(values):
            for rank, others in enumerate(by_rank):
                if others[place] != by_rank[0][place]:
                    raise ValueError(
                        f"{name} must be the same on all ranks, rank 0 has {by_rank[0][place]}, "
                        f"rank {rank} {others[place]}"
                    )

    def link(self, device: str) -> Link:
        """What moves arrays on a device, "cpu" or "cuda". All ranks call it together."""
        raise NotImplementedError  # a process by itself sends nothing

    def wait(self, transfers: Sequence[Transfer]) -> None:
        """Waits until all of them are done."""

    @contextmanager
    def together(self) -> Iterator[None]:
        """Inside, an error on one rank ends all of them, so that none waits for it. With `caller_reports`,
        `sys.exit` alone does."""
        yield

    def fail(self, message: str, status: int, *, printed: bool = False) -> None:
        """Ends all ranks with an exit status, and prints the message unless it is `printed`. Does nothing for a process
        by itself."""


ALONE = Ranks()
