"""Prefetch: the next items are made by another thread while this one works."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetch(Generic[T]):
    """Iterates over `items` in a thread, at most `depth` items ahead; a context manager.

    The items come in their order. An exception of the iteration is raised here, in the place of the item that
    it kept from being made. Leaving the context ends the thread after the item at hand.

    Args:
        items: iterated once, in the thread alone.
        depth: items that are kept ready, at least 1.
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
        """Ends the thread; items that were not taken are lost. Safe to call again."""
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
