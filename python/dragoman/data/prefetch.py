"""Prefetch: another thread prepares the next items while this one works."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetch(Generic[T]):
    """Iterates over `items` in a thread, at most `depth` items ahead; a context manager.

    The items keep their order. An exception of the iteration is raised here, in place of the item that failed.
    Leaving the context ends the thread after its current item.

    Args:
        items: iterated once, only in the thread.
        depth: number of items that are kept ready, at least 1. ValueError otherwise.
    """

    def __init__(self, items: Iterable[T], depth: int = 2) -> None:
        if depth < 1:
            raise ValueError(f"prefetch: depth must be at least 1, got {depth}")
        self._ready: queue.Queue[tuple[T] | BaseException] = queue.Queue(depth)
        self._closed = False
        self._thread = threading.Thread(target=self._work, args=(items,), name="dragoman-prefetch", daemon=True)
        self._thread.start()

    def _work(self, items: Iterable[T]) -> None:
        last: BaseException = StopIteration()
        try:
            for item in items:
                if self._closed:
                    return
                self._ready.put((item,))
        except BaseException as error:
            last = error
        if not self._closed:
            self._ready.put(last)

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if self._closed:
            raise StopIteration
        item = self._ready.get()
        if isinstance(item, tuple):
            return item[0]
        self._closed = True
        raise item

    def close(self) -> None:
        """Ends the thread. Items that were not taken are lost. It may be called again."""
        self._closed = True
        while not self._ready.empty():  # at most one more comes from a thread that waits for room
            self._ready.get()
        self._thread.join()

    def __enter__(self) -> Prefetch[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
