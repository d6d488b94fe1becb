"""BatchExecutor: answers items in batches, each by one run of the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dragoman.predict.executor import Executor, answers_of, by_kind


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
            for batch in by_kind(items).values():
                for tell in answers_of(batch, self._answer):
                    tell()
