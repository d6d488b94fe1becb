"""Executor: one thread that answers many callers, whose items it merges into batches."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import count
from typing import Any, TypeVar

from dragoman.predict.call import Call, Item, QueueFullError, Work

Result = TypeVar("Result")


class Executor:
    """Base of what runs a model for many callers.

    Items wait in a queue. Its thread takes those whose turn it is, as many as fit, and goes when none is left. Callers
    take turns: one that asks for a single item does not wait for all items of a large call before it.

    Args:
        name: of the predictor, for errors.
        batch_tokens: maximum number of tokens that run together; a longer item runs alone.
        queue_limit: maximum number of items that may wait when another call comes; None for any number.
    """

    MAX_ROWS = 512  # of the model, that run together

    def __init__(self, name: str, batch_tokens: int, queue_limit: int | None) -> None:
        self._name, self._batch_tokens, self._queue_limit = name, batch_tokens, queue_limit
        self._lock = threading.Lock()
        self._waiting: list[tuple[int, int, Item]] = []  # a heap, by turn and number
        self._numbers = count()
        self._taken = 0  # items so far
        self._busy = self._closed = False
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="dragoman-predictor")

    def submit(self, works: Sequence[Work], finish: Callable[[list[Any]], Any]) -> Future[Any]:
        """Queues work and returns at once. The future's result is what `finish` makes of the results, in their order.

        Raises:
            QueueFullError: `queue_limit` items wait already.
            RuntimeError: after `close`.
            MemoryError: there is no memory for the thread.
        """
        call = Call(len(works), finish)
        order = sorted(range(len(works)), key=lambda i: -works[i].tokens)
        with self._lock:
            self._check_open()
            if works and not self._busy:
                self._start()
                self._busy = True
            for place, index in enumerate(order):
                # As if one item were taken of this call for each of another.
                turn = self._taken + place
                heapq.heappush(self._waiting, (turn, next(self._numbers), Item(works[index], call, index)))
        return call.future

    def run(self, works: Sequence[Work]) -> list[Any]:
        """The results of work, in its order. Errors of `submit`, and of the work."""
        results: list[Any] = result_of(self.submit(works, list))
        return results

    @property
    def waiting(self) -> int:
        """Number of items that wait."""
        return len(self._waiting)

    @property
    def busy(self) -> bool:
        """Whether its thread works."""
        return self._busy

    def close(self) -> None:
        """Refuses more items and waits for those that are here."""
        with self._lock:
            self._closed = True
        self._pool.shutdown()

    def _start(self) -> None:
        """Starts the thread's work, which waits for the lock."""
        try:
            self._pool.submit(self._run)
        except RuntimeError as error:
            if "new thread" not in str(error):  # at the end of the process
                raise
            raise MemoryError(f"{self._name}: there is no memory for a thread") from None

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError(f"{self._name}: it is closed")
        limit = self._queue_limit
        if limit is not None and len(self._waiting) >= limit:
            waiting = sum(not item.call.over for _, _, item in self._waiting)
            if waiting >= limit:
                raise QueueFullError(f"{self._name}: the queue is full: {waiting} wait, queue_limit={limit}")

    def _run(self) -> None:
        """The thread's work: until no item is left."""
        try:
            self._serve()
        except BaseException as error:  # nobody may wait for ever
            with self._lock:
                left, self._waiting, self._busy = self._waiting, [], False
            for _, _, item in left:
                item.fail(error)
            raise

    def _serve(self) -> None:
        """Answers items until `_take` gives None."""
        raise NotImplementedError

    def _take(self, tokens: int, rows: int, idle: bool) -> list[Item] | None:
        """The items whose turn it is and that fit in so many tokens and rows; if `idle`, at least one that waits.

        None, when none waits and nothing runs: then the thread must go.
        """
        taken: list[Item] = []
        with self._lock:
            while self._waiting:
                item = self._waiting[0][2]
                if item.dropped:
                    heapq.heappop(self._waiting)
                    continue
                work = item.work
                fits = work.tokens <= tokens and work.rows <= rows and not item.alone
                if not (fits or (idle and not taken)):
                    break
                heapq.heappop(self._waiting)
                taken.append(item)
                tokens, rows = tokens - work.tokens, rows - work.rows
                if item.alone:
                    break
            self._taken += len(taken)
            if idle and not taken:
                self._busy = False
                return None
        return taken

    def _put_back(self, items: Sequence[Item]) -> None:
        """Items that ran beside one that failed: each runs again, before others and alone."""
        with self._lock:
            for item in items:
                item.alone = True
                heapq.heappush(self._waiting, (-1, next(self._numbers), item))


def by_kind(items: Sequence[Item]) -> dict[Any, list[Item]]:
    """Items by the kind of their work."""
    kinds: dict[Any, list[Item]] = {}
    for item in items:
        kinds.setdefault(item.work.kind, []).append(item)
    return kinds


def answers_of(items: list[Item], answer: Callable[[list[Any]], Sequence[Any]]) -> Iterator[Callable[[], None]]:
    """Runs items in one batch. Yields a call for each item, which gives it its result or its error.

    After an error, each item runs alone, so that none gets the error of another.
    """
    try:
        found = list(zip(items, answer([item.work.value for item in items]), strict=True))
    except Exception as error:
        if len(items) == 1:
            yield partial(items[0].fail, error)
            return
        for item in items:
            if not item.dropped:
                yield from answers_of([item], answer)
        return
    for item, result in found:
        yield partial(item.put, result)


def result_of(future: Future[Result]) -> Result:
    """Waits for the result of a future. What ends the wait, as Ctrl-C does, cancels it."""
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise
