"""TextStream: the text of an output, piece after piece, while the model writes it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from typing import Self

from dragoman import arguments
from dragoman.data.tokenizer import Tokenizer
from dragoman.data.vocabulary import BYTES


class Progress:
    """Takes the ids of an output so far to who reads it; in between nothing refers to the reader."""

    def __init__(self) -> None:
        self._news: SimpleQueue[list[int] | None] = SimpleQueue()  # None at the end
        self._length = 0
        self._wake: Callable[[], object] = bool

    def __call__(self, ids: list[int]) -> None:
        if len(ids) > self._length:
            self._length = len(ids)
            self._put(ids)

    def end(self, _: Future[str]) -> None:
        self._put(None)

    def newest(self) -> list[int] | None:
        """Waits for news."""
        ids = self._news.get()
        while ids is not None and not self._news.empty():
            ids = self._news.get()
        return ids

    async def come(self) -> None:
        """Waits until `newest` need not wait."""
        import asyncio  # here, because it takes long to import

        loop, come = asyncio.get_running_loop(), asyncio.Event()
        self._wake = lambda: loop.call_soon_threadsafe(come.set)
        if self._news.empty():
            await come.wait()
        self._wake = bool

    def _put(self, ids: list[int] | None) -> None:
        self._news.put(ids)
        with suppress(RuntimeError):  # the loop of the reader is closed
            self._wake()


class TextStream(Iterator[str], AsyncIterator[str]):
    """The pieces of one text, for `for` and for `async for`. Made by `Translator.stream` and `LanguageModel.stream`.

    A piece is never taken back: with beams, it is what all of them share. The pieces together are the result of a call.
    An error of the model is raised where the next piece would be. The end of a `with`, `close()`, and the end of the
    object's life cancel what is left.

    Args:
        future: of the whole text.
        progress: of its ids.
        decode: gives the text of ids.

    Raises:
        TypeError: an argument of another type.
    """

    _future: Future[str] | None = None

    def __init__(self, future: Future[str], progress: Progress, decode: Callable[[list[int]], str]) -> None:
        arguments.check_types("TextStream", Future, future=future)
        arguments.check_types("TextStream", Progress, progress=progress)
        arguments.check_callable("TextStream", decode=decode)
        self._future = future
        self._progress, self._decode = progress, decode
        self._given = ""
        future.add_done_callback(progress.end)

    def __next__(self) -> str:
        while self._future is not None:
            if piece := self._piece(self._progress.newest()):
                return piece
        raise StopIteration

    async def __anext__(self) -> str:
        while self._future is not None:
            await self._progress.come()
            if piece := self._piece(self._progress.newest()):
                return piece
        raise StopAsyncIteration

    def _piece(self, ids: list[int] | None) -> str:
        """What is new in the text of `ids`, or of the whole."""
        if ids is not None:
            text = self._decode(ids).rstrip("\ufffd")  # of a character whose other bytes are to come
            if not text.startswith(self._given):
                return ""
        else:
            future, self._future = self._future, None
            if future is None or future.cancelled():
                return ""
            text = future.result()
        piece = text[len(self._given) :]
        self._given += piece
        return piece

    def close(self) -> None:
        """Ends the stream and cancels what is left."""
        future, self._future = self._future, None
        if future is not None:
            future.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def without_last_bytes(ids: Sequence[int], tokenizer: Tokenizer) -> Sequence[int]:
    """Ids without the bytes at their end, whose text is not known yet: a byte that does not fit to them changes it."""
    end = len(ids)
    while end and tokenizer.tokens([ids[end - 1]])[0] in _BYTES:
        end -= 1
    return ids[:end]


_BYTES = frozenset(BYTES)
