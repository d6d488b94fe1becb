"""Predictor: serves a model to any number of threads, and in forked children."""

from __future__ import annotations

import os
import weakref
from abc import ABC, abstractmethod
from functools import partial
from typing import Any, ClassVar, Self

from dragoman import arguments
from dragoman.predict.executor import Executor


class Predictor(ABC):
    """Base of what serves a model.

    Any number of threads may call it or `submit`: one thread of its own runs the model, on all the library's threads,
    and merges what waits into batches. It works in a forked child too, whatever runs at the fork; only the futures of
    the parent stay the parent's. `with` closes it at the end.

    Args:
        parts: the arguments of the subclass's constructor, for `copy` and `pickle`: the model, and a tokenizer.
        queue_limit: maximum number of texts that may wait when another call comes, at least 1; None for any number.
        batch_tokens: maximum number of tokens that the model reads together, at least 1; a longer text runs alone.

    Raises:
        TypeError, ValueError: another limit.
    """

    batch_tokens: ClassVar[int] = 4096  # by default

    def __init__(self, *parts: Any, queue_limit: int | None = None, batch_tokens: int | None = None) -> None:
        name = type(self).__name__
        if queue_limit is not None:
            queue_limit = arguments.integer(name, "queue_limit", queue_limit, 1)
        if batch_tokens is not None:
            batch_tokens = arguments.integer(name, "batch_tokens", batch_tokens, 1)
        self._parts = parts
        self._limits = {"queue_limit": queue_limit, "batch_tokens": batch_tokens}
        self._start()
        _predictors.add(self)

    def close(self) -> None:
        """Refuses more texts and waits for those that are here. A call after it is a RuntimeError."""
        self._executor.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def waiting(self) -> int:
        """Number of texts that wait, beside those that run."""
        return self._executor.waiting

    def __reduce__(self) -> tuple[Any, ...]:
        """For `copy` and `pickle`: what it was made of; the copy has a queue and a thread of its own."""
        return partial(type(self), **self._limits), self._parts

    def __repr__(self) -> str:
        model, *tokenizer = self._parts
        size = f", {model.num_parameters():,} parameters" if hasattr(model, "num_parameters") else ""
        tokens = f", vocab_size={tokenizer[0].vocab_size}" if tokenizer else ""
        return f"{type(self).__name__}({type(model).__name__}{size}{tokens})"

    def _start(self) -> None:
        """Makes what belongs to one process: a queue and a thread."""
        queue_limit = self._limits["queue_limit"]
        self._executor = self._make_executor(
            type(self).__name__, self._limits["batch_tokens"] or self.batch_tokens, queue_limit
        )

    @abstractmethod
    def _make_executor(self, name: str, batch_tokens: int, queue_limit: int | None) -> Executor:
        """The executor of this kind of model."""


_predictors: weakref.WeakSet[Predictor] = weakref.WeakSet()


def _after_fork() -> None:
    """In a child, makes the queues and threads of all predictors anew: the old ones are the parent's."""
    for predictor in list(_predictors):
        predictor._start()


os.register_at_fork(after_in_child=_after_fork)
