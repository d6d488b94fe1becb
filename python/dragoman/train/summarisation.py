"""Summarisation: the task of long sources and short targets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from dragoman.files import atomic_write
from dragoman.train.options import TrainingOptions
from dragoman.train.scores import ROUGES, Metric, rouge
from dragoman.train.task import TASK, Score
from dragoman.train.translation import Translation

SOURCE_LENGTH = 1024  # tokens of a source, </s> included, where nothing else is said


class Summarisation(Translation):
    """Pairs of a text and its summary: as of `Translation`, with ROUGE for scores.

    Sources are cut to the config's `max_source_length`, and `max_length` limits only the targets. Validation writes
    summaries, for the scores "rouge1", "rouge2" and "rougeL", only if `best_by` names one of them.

    Args:
        tokenizer: needed for pairs of text and ROUGE; saved with the model.
    """

    name = "summarise"
    scores: ClassVar[Mapping[str, Score]] = {name: Score(label) for name, label in ROUGES.items()}

    def metrics(self, options: TrainingOptions) -> dict[str, Metric]:
        return {name: rouge(name) for name in ROUGES}

    def config_fields(self) -> dict[str, Any]:
        return {**super().config_fields(), "max_source_length": SOURCE_LENGTH}

    def save(self, folder: Path) -> None:
        super().save(folder)
        atomic_write(folder / TASK, json.dumps({"task": self.name}).encode())
