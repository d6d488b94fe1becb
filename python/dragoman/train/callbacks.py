"""Callback: code of the user that runs during training."""

from __future__ import annotations

from typing import Any

Record = dict[str, Any]  # one line of the log


class Callback:
    """Base of objects that `Trainer.fit` calls during training. Override the methods that you need.

    The methods run on the thread of `fit`, in the order of `Trainer.callbacks`. They must not change the model. An
    exception ends the run and keeps its last checkpoint.
    """

    def on_begin(self, step: int) -> None:
        """Before the first step. `step` is the number of steps so far: 0, or the step of the resumed checkpoint."""

    def on_step(self, step: int, loss: float) -> None:
        """After every optimizer step, also a skipped one. `loss` is the mean over the targets of its batches."""

    def on_record(self, record: Record) -> None:
        """After each line of the log about training steps or the run. `record` holds the fields of that line."""

    def on_validation(self, record: Record) -> None:
        """After each line of the log about validation. `record` holds the fields of that line."""

    def on_end(self) -> None:
        """When `fit` ends, also after an error or a signal."""
