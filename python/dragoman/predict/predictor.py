"""Predictor: one prediction at a time, from any number of threads, and in forked children."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")


class Predictor:
    """Base of what serves a model.

    Any number of threads may call it: one prediction runs at a time, on all the library's threads. It works in a forked
    child too, whatever runs at the fork; only the futures of the parent stay the parent's.

    Args:
        parts: the arguments of the subclass's constructor, for `copy` and `pickle`: the model, and a tokenizer.
    """

    def __init__(self, *parts: Any) -> None:
        self._parts = parts
        self._start()
        _predictors.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """For `copy` and `pickle`: what it was made of; the copy has a lock and a thread of its own."""
        return type(self), self._parts

    def __repr__(self) -> str:
        model, *tokenizer = self._parts
        size = f", {model.num_parameters():,} parameters" if hasattr(model, "num_parameters") else ""
        tokens = f", vocab_size={tokenizer[0].vocab_size}" if tokenizer else ""
        return f"{type(self).__name__}({type(model).__name__}{size}{tokens})"

    def _start(self) -> None:
        """Makes what belongs to one process: a lock and a thread."""
        self._running = threading.Lock()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="dragoman-predictor")

    def _submit(self, run: Callable[[], Result]) -> Future[Result]:
        """Queues a call of this object and returns at once."""
        return self._executor.submit(run)


_predictors: weakref.WeakSet[Predictor] = weakref.WeakSet()


def _after_fork() -> None:
    """In a child, makes the locks and threads of all predictors anew: the old ones are the parent's."""
    for predictor in list(_predictors):
        predictor._start()


os.register_at_fork(after_in_child=_after_fork)
