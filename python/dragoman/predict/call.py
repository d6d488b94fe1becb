"""Call: what one caller asked for, in items that are answered one by one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any


class QueueFullError(RuntimeError):
    """A request is refused because as many wait already as `queue_limit` allows. Try again later."""


class Call:
    """What one caller asked for. Only the executor's thread changes it.

    Its future stays pending until all is done, so that `future.cancel()` works while it waits and while it runs.

    Args:
        size: number of items.
        finish: makes the future's result of the items' results.
    """

    def __init__(self, size: int, finish: Callable[[list[Any]], Any]) -> None:
        self.future: Future[Any] = Future()
        self._results: list[Any] = [None] * size
        self._left = size
        self._finish = finish
        self._ended = False
        if not size:
            self._end(finish, [])

    @property
    def over(self) -> bool:
        """Whether nobody waits for the items any more: the caller has cancelled, or one of them failed."""
        return self._ended or self.future.cancelled()

    def put(self, index: int, result: Any) -> None:
        """The result of one item."""
        self._results[index] = result
        self._left -= 1
        if not self._left:
            self._end(self._finish, self._results)

    def fail(self, error: BaseException) -> None:
        """The error of one item is the error of the call."""
        self._end(_raise, error)

    def drop(self) -> None:
        """Tells those who wait for a cancelled future."""
        if not self._ended:
            self._ended = True
            self.future.set_running_or_notify_cancel()

    def _end(self, finish: Callable[[Any], Any], argument: Any) -> None:
        if self._ended:
            return
        self._ended = True
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = finish(argument)
        except BaseException as error:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


def _raise(error: BaseException) -> None:
    raise error


@dataclass(slots=True)
class Work:
    """What a model can read in one row, or in a few.

    Attributes:
        value: what the model reads, for the executor's `answer`.
        tokens: number of tokens that the model reads.
        kind: only work of one kind runs in a batch; for a GenerationExecutor, what answers it.
        rows: number of the model's rows that it takes.
        progress: called with the ids of its output so far, in the executor's thread; None where nobody asks.
    """

    value: Any
    tokens: int
    kind: Any = None
    rows: int = 1
    progress: Callable[[list[int]], None] | None = None


@dataclass(slots=True, eq=False)
class Item:
    """Work that waits or runs.

    Attributes:
        work: to be done.
        call, index: whose it is, and its place there.
        alone: whether nothing may run beside it, because something beside it failed.
    """

    work: Work
    call: Call
    index: int
    alone: bool = False

    @property
    def dropped(self) -> bool:
        """Whether nobody waits for it any more. If so, those who wait for the future of a cancelled call are told."""
        if self.call.over:
            self.call.drop()
            return True
        return False

    def put(self, result: Any) -> None:
        self.call.put(self.index, result)

    def fail(self, error: BaseException) -> None:
        self.call.fail(error)
