"""Callbacks: they are called with each token as soon as it is written, and can end an output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from queue import SimpleQueue
from typing import Any

from dragoman.generate import Hypothesis
from dragoman.interop.ctranslate2.results import AsyncResult, GenerationStepResult
from dragoman.predict.executor import result_of

Callback = Callable[[GenerationStepResult], Any]


class Watch:
    """Calls a callback with the tokens of one request, in the thread that runs the model.

    Args:
        callback: gets a GenerationStepResult; True ends the output.
        batch_id: the place of the request.
        names: of all tokens, by their ids.
        end: the id that ends an output.
    """

    def __init__(self, callback: Callback, batch_id: int, names: Mapping[int, str], end: int) -> None:
        self._callback, self._batch_id, self._names, self._end = callback, batch_id, names, end
        self._future: Future[Any] | None = None
        self._ended = False
        self._error: Exception | None = None
        self.ids: list[int] = []  # those that the callback got

    def __call__(self, ids: Sequence[int], is_last: bool = False) -> None:
        """Calls the callback with the new ids of an output; `is_last` if no more will come."""
        for step in range(len(self.ids), len(ids)):
            if self._ended:
                return
            self.ids.append(ids[step])
            self._tell(step, is_last and step == len(ids) - 1)

    def finish(self, found: list[list[Hypothesis]]) -> list[Hypothesis]:
        """Calls the callback with the last tokens of an output, </s> among them. Returns the hypotheses."""
        best = found[0][0]
        self([*best.ids, self._end] if best.length > len(best.ids) else best.ids, is_last=True)
        if self._error is not None:
            raise self._error
        return found[0]

    def follow(self, future: Future[Any]) -> Future[Any]:
        """The future of the request, which is cancelled where the output ends."""
        self._future = future
        if self._ended:
            future.cancel()
        return future

    def hypotheses(self, score: Callable[[list[int]], Hypothesis]) -> list[Hypothesis]:
        """Waits for the hypotheses; where the callback has ended the output, that is `score` of its ids."""
        assert self._future is not None
        try:
            found: list[Hypothesis] = result_of(self._future)
        except CancelledError:
            if self._error is not None:
                raise self._error from None
            if not self._ended:
                raise
            return [score(self.ids)]
        return found

    def _tell(self, step: int, is_last: bool) -> None:
        id = self.ids[step]
        try:
            stop = self._callback(GenerationStepResult(step, self._batch_id, id, self._names.get(id, ""), is_last))
        except Exception as error:
            self._error, stop = error, True
        if stop and not is_last:
            self._ended = True
            if self._future is not None:
                self._future.cancel()


def steps_of(
    call: Callable[[Callback], list[AsyncResult]], callback: Callback | None
) -> Iterator[GenerationStepResult]:
    """The tokens of an asynchronous `call`, as soon as they are written. An iterator that is closed ends the call."""
    news: SimpleQueue[GenerationStepResult | None] = SimpleQueue()  # None: a request has ended
    closed = False

    def tell(step: GenerationStepResult) -> bool:
        stop = callback is not None and callback(step)
        news.put(step)
        return closed or bool(stop)

    results = call(tell)
    for each in results:
        each.when_done(lambda: news.put(None))
    left = len(results)
    try:
        while left:
            step = news.get()
            if step is None:
                left -= 1
            else:
                yield step
    finally:
        closed = True
        for each in results:
            each.cancel()
    for each in results:
        each.result()
