"""GenerationExecutor: answers items in one running Generation, which they join and leave between two steps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from dragoman.generate import Generation
from dragoman.predict.call import Item
from dragoman.predict.executor import Executor, answers_of, by_kind


class GenerationExecutor(Executor):
    """Decodes what waits side by side: after each step, outputs that have ended leave and others join.

    The value of its work is the arguments of `Generation.add_checked`; a result is what `Generation.take` gives. Work
    of another `kind` is answered between two steps: `kind(name, model, values)` gives the results of what joins.

    Args:
        model: an EncoderDecoder or a TextDecoder.
        name, batch_tokens, queue_limit: as of `Executor`.
    """

    def __init__(self, model: Any, name: str, batch_tokens: int, queue_limit: int | None) -> None:
        super().__init__(name, batch_tokens, queue_limit)
        self._model = model

    def _serve(self) -> None:
        generation = self._begin()
        running: dict[int, Item] = {}
        while (joining := self._join(running)) is not None:
            if not running:  # the model or the choice of its adapters may have changed
                generation = self._begin()
            answers: list[Callable[[], None]] = []
            with self._model.inference():
                while joining or running:
                    kinds = by_kind(joining)
                    requests = kinds.pop(None, [])
                    for kind, items in kinds.items():
                        answers += answers_of(items, partial(kind, self._name, self._model))
                    try:
                        _step(generation, running, requests, answers)
                    except Exception as error:
                        answers += self._separate(running, error)
                        generation = self._begin()
                    if answers or not running:
                        break
                    joining = self._join(running) or []
            for answer in answers:  # the model has its own mode again
                answer()

    def _begin(self) -> Generation:
        return Generation(self._model, self._name)

    def _join(self, running: dict[int, Item]) -> list[Item] | None:
        """What joins now. Under load it waits until a quarter of the room is free: sources that join together are
        encoded together."""
        tokens = self._batch_tokens - sum(item.work.tokens for item in running.values())
        rows = self.MAX_ROWS - sum(item.work.rows for item in running.values())
        if running and (4 * tokens < self._batch_tokens or 4 * rows < self.MAX_ROWS):
            return []
        return self._take(tokens, rows, idle=not running)

    def _separate(self, running: dict[int, Item], error: Exception) -> list[Callable[[], None]]:
        """After an error of a step, all items run again, each alone: then the error is of the one to blame."""
        items = list(running.values())
        running.clear()
        if len(items) == 1:
            return [partial(items[0].fail, error)]
        self._put_back(items)
        return []


def _step(
    generation: Generation, running: dict[int, Item], joining: list[Item], answers: list[Callable[[], None]]
) -> None:
    """One step of `running` and of what joins it. Adds the answers to those that ended."""
    for item in joining:
        try:
            running[generation.add_checked(*item.work.value)] = item
        except Exception as error:
            answers.append(partial(item.fail, error))
    for key in [key for key, item in running.items() if item.dropped]:
        generation.cancel(key)
        del running[key]
    if not running:
        return
    for key in generation.step():
        item = running.pop(key)
        try:
            answers.append(partial(item.put, generation.take(key)))
        except Exception as error:
            answers.append(partial(item.fail, error))
    for key, item in running.items():
        if item.work.progress is not None:
            item.work.progress(generation.stable(key))
