"""Callback: what others may do while a Trainer works."""

from __future__ import annotations

from typing import Any

Record = dict[str, Any]  # one line of the log


class Callback:
    """Looks on while `Trainer.fit` runs; override what is of interest.

    The methods are called on the thread of `fit`, in the order of `Trainer.callbacks`, and must leave the model as
    it is. An exception ends the run; its last checkpoint stands.
    """

    def on_begin(self, step: int) -> None:
        """Before the first step; `step` is 0, or where a resumed run goes on."""

    def on_step(self, step: int, loss: float) -> None:
        """After every optimizer step, a skipped one too; `loss` is the mean per target token of its batches."""

    def on_record(self, record: Record) -> None:
        """After a line of the log about training steps or about the run was written."""

    def on_validation(self, record: Record) -> None:
        """After a line of the log about the validation data was written."""

    def on_end(self) -> None:
        """When `fit` ends, by an error or a signal too."""
