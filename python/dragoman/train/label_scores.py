"""Scores of predicted labels: accuracy, macro F1, and precision, recall and F1 of each label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman import arguments
from dragoman.train.callbacks import Record
from dragoman.train.task import Score

# An encoder with a new head learns at a lower rate than a translator, and soon knows the training data by heart.
LABEL_DEFAULTS: dict[str, Any] = {
    "lr": 1e-3,
    "warmup": 200,
    "schedule": "linear",
    "epochs": 10,
    "best_by": "accuracy",
    "final": "best",
}
LABEL_SCORES = {"accuracy": Score("accuracy"), "macro_f1": Score("macro F1")}


class LabelScores:
    """Counts of pairs (true label, predicted label), added in parts.

    Args:
        labels: the names of the labels.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = checked_labels("LabelScores", "labels", labels)
        self._counts = np.zeros((len(labels), len(labels)), np.int64)  # [true, predicted]

    def add(self, truth: npt.ArrayLike, predicted: npt.ArrayLike) -> None:
        """Adds numbers of labels, both (n,)."""
        np.add.at(self._counts, (np.asarray(truth, np.int64), np.asarray(predicted, np.int64)), 1)

    def accuracy(self) -> float:
        """The share of right predictions in percent."""
        return 100.0 * _ratio(np.trace(self._counts), self._counts.sum())

    def macro_f1(self) -> float:
        """The mean F1 of the labels that occur, in truth or in predictions, in percent."""
        rows = [row for row in self.report().values() if row["support"] or row["predicted"]]
        return float(np.mean([row["f1"] for row in rows])) if rows else 0.0

    def report(self) -> dict[str, dict[str, float]]:
        """For each label precision, recall and F1 in percent, 0 where nothing can be divided; "support", how often it
        is the truth, and "predicted", how often it is predicted."""
        found: dict[str, dict[str, float]] = {}
        for i, label in enumerate(self.labels):
            right, support, predicted = (
                int(n) for n in (self._counts[i, i], self._counts[i].sum(), self._counts[:, i].sum())
            )
            found[label] = {
                "precision": 100.0 * _ratio(right, predicted),
                "recall": 100.0 * _ratio(right, support),
                "f1": 100.0 * _ratio(2 * right, support + predicted),
                "support": support,
                "predicted": predicted,
            }
        return found

    def record(self) -> Record:
        """Accuracy and macro F1, for the log."""
        return {"accuracy": self.accuracy(), "macro_f1": self.macro_f1()}

    def __str__(self) -> str:
        """The report as a table."""
        width = max(map(len, (*self.labels, "label")))
        lines = [f"{'label':{width}}  precision  recall      F1  support"]
        for label, row in self.report().items():
            values = f"{row['precision']:9.2f}  {row['recall']:6.2f}  {row['f1']:6.2f}  {row['support']:7d}"
            lines.append(f"{label:{width}}  {values}")
        return "\n".join(lines)


def checked_labels(op: str, name: str, labels: Sequence[str]) -> tuple[str, ...]:
    """The labels as a tuple. TypeError unless they are a list of texts."""
    if not isinstance(labels, list | tuple) or not all(isinstance(label, str) for label in labels):
        raise TypeError(f"{op}: {name} must be a list of texts, got {arguments.shown(labels)}")
    return tuple(labels)


def largest(logits: npt.NDArray[Any]) -> npt.NDArray[np.integer[Any]]:
    """The number of the largest value of each row."""
    numbers: npt.NDArray[np.integer[Any]] = logits.argmax(1)
    return numbers


def _ratio(a: Any, b: Any) -> float:
    return float(a) / float(b) if b else 0.0
