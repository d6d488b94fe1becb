"""BatchExecutor: answers items in batches, each by one run of the model."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from dragoman.predict.call import Item
from dragoman.predict.executor import Executor


class BatchExecutor(Executor):
    """Runs what waits in batches.

    Args:
        answer: gives a result for each value of a batch, whose work is of one kind.
        name, batch_tokens, queue_limit: as of `Executor`.
    """

    def __init__(
        self, answer: Callable[[list[Any]], Sequence[Any]], name: str, batch_tokens: int, queue_limit: int | None
    ) -> None:
        super().__init__(name, batch_tokens, queue_limit)
        self._answer = answer

    def _serve(self) -> None:
        while (items := self._take(self._batch_tokens, self.MAX_ROWS, idle=True)) is not None:
            kinds: dict[Hashable, list[Item]] = {}
            for item in items:
                kinds.setdefault(item.work.kind, []).append(item)
            for batch in kinds.values():
                self._answer_batch(batch)

    def _answer_batch(self, items: list[Item]) -> None:
        """The error of one item is no other's: after an error, each runs alone."""
        try:
            found = list(zip(items, self._answer([item.work.value for item in items]), strict=True))
        except Exception as error:
            if len(items) == 1:
                items[0].fail(error)
                return
            for item in items:
                if not item.dropped:
                    self._answer_batch([item])
            return
        for item, result in found:
            item.put(result)
