"""Validation: the loss and the task's scores on held-out examples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np

from dragoman.data.batches import cut_batches
from dragoman.data.columns import lengths_of
from dragoman.distributed.ranks import ALONE, Ranks
from dragoman.nn.module import Module
from dragoman.train.callbacks import Record
from dragoman.train.options import TrainingOptions
from dragoman.train.signals import Stopped, StopSignals
from dragoman.train.task import Batch, Scorer, Task

CHUNK = 1024  # examples that are held, encoded and sorted by cost together


class Validation:
    """Measures a model on examples; called for a record. Memory does not grow with the number of examples.

    Args:
        model: what to measure.
        task: what it learns.
        examples: of the task, or encoded ones.
        ranks: the processes that share the batches out. All of them call it together, and get the same record.
        options: of the run. `min_length`, `max_ratio` and `label_smoothing` are for training alone.

    Attributes:
        left_out: number of examples that the last measurement left out for their lengths.
        stop: on several ranks, a signal that one of them has received ends a measurement on all, with Stopped.

    Raises:
        ModuleNotFoundError: a library for the scores is missing.
        ValueError: no example is left, or the scores need a tokenizer.
    """

    def __init__(
        self, model: Module, task: Task, examples: Sequence[Any], options: TrainingOptions, ranks: Ranks = ALONE
    ) -> None:
        self._ranks = ranks
        self.model = model
        self.task = task
        self.examples = examples
        self.left_out = 0
        self.stop = StopSignals()
        self.options = replace(options, min_length=1, max_ratio=None, label_smoothing=0.0)
        task.scorer(model, self.options)  # so that a missing tokenizer or library is an error before training starts
        if next(self._batches(), None) is None:
            limit = f"max_length={options.max_length}"
            raise ValueError(f"validation: no {task.unit}s are left of {len(examples)} ({limit})")

    def __call__(self) -> Record:
        """The mean loss per target, without dropout and label smoothing, its perplexity, and the task's scores.

        All of them are infinitely bad if a loss, or what the model generates, is not finite.
        """
        try:
            return self._measure()
        except FloatingPointError:
            return {f"valid_{name}": value for name, value in self._worst().items()}

    def _worst(self) -> Record:
        measured = self.task.scores if self.task.scorer(self.model, self.options) is not None else {}
        scores = {name: -math.inf if score.larger_is_better else math.inf for name, score in measured.items()}
        return {"loss": math.inf, "perplexity": math.inf, **scores}

    def _measure(self) -> Record:
        """The record of `__call__`. FloatingPointError if the model's results are not finite."""
        total, targets, used = 0.0, 0, 0
        scorer = self.task.scorer(self.model, self.options)
        with self.model.inference():
            for measured in self._shared_out(scorer):
                loss, count, examples, part = measured
                total += loss
                targets += count
                used += examples
                if scorer is not None:
                    scorer.add(part)
        self.left_out = len(self.examples) - used
        loss = total / targets
        record: Record = {"valid_loss": loss, "valid_perplexity": math.exp(min(loss, 700.0))}
        if scorer is not None:
            record |= {f"valid_{name}": value for name, value in scorer.record().items()}
        return record

    def _shared_out(self, scorer: Scorer | None) -> Iterator[list[Any]]:
        """For each batch its loss, targets and examples, and what the scorer needs; of each round a rank measures one.
        FloatingPointError on all ranks if a loss or what the model generates is not finite; Stopped after a signal."""
        batches = self._batches()
        while batch_of_rank := list(islice(batches, self._ranks.size)):
            measured: list[Any] = []
            if self._ranks.rank < len(batch_of_rank):
                try:
                    measured = self._measured(scorer, *batch_of_rank[self._ranks.rank])
                except FloatingPointError as error:
                    measured = [str(error)]
            by_rank = self._ranks.gather([self._ranks.size > 1 and self.stop.received is not None, measured])
            if any(stopped for stopped, _ in by_rank):
                raise Stopped
            for _, each in by_rank[: len(batch_of_rank)]:
                if len(each) == 1:
                    raise FloatingPointError(each[0])
                yield each

    def _measured(self, scorer: Scorer | None, batch: Batch, examples: list[Any]) -> list[Any]:
        loss = self.task.loss(self.model, batch, batch.num_targets, self.options).item()
        if not math.isfinite(loss):
            raise FloatingPointError(f"validation: the loss must be finite, got {loss}")
        loss *= batch.num_targets
        part = None if scorer is None else scorer.measure(self.model, batch, examples, loss)
        return [loss, batch.num_targets, len(examples), part]

    def _batches(self) -> Iterator[tuple[Batch, list[Any]]]:
        """Batches of similar cost, and the examples that they were made of."""
        for first in range(0, len(self.examples), CHUNK):
            chunk = self.examples[first : first + CHUNK]
            columns = self.task.encode(chunk)
            lengths = {name: lengths_of(cells) for name, cells in columns.items()}
            costs = self.task.costs(lengths, self.model, self.options)
            kept = np.flatnonzero(costs)
            order = kept[np.argsort(costs[kept], kind="stable")].tolist()
            for number, chosen in enumerate(cut_batches(order, costs.tolist(), self.options.batch_tokens)):
                rows = {name: [cells[i] for i in chosen] for name, cells in columns.items()}
                batch = self.task.batch(rows, self.model, (self.options.seed, first, number))
                yield batch, [chunk[i] for i in chosen]


class Ranking:
    """How validations compare: by one score, and what is not finite is worse than anything.

    Args:
        task: whose scores they are.
        best_by: "loss" or the name of a score.
    """

    def __init__(self, task: Task, best_by: str) -> None:
        self._scores = task.scores
        self._name = f"valid_{best_by}"
        self._larger = best_by != "loss" and task.scores[best_by].larger_is_better

    def score(self, record: Record) -> float:
        """The score that decides."""
        return float(record[self._name])

    def is_better(self, record: Record, than: float | None) -> bool:
        """Whether a validation is finite, and better than one with the score `than`, if there is one."""
        if not self.is_finite(record):
            return False
        score = self.score(record)
        return than is None or not math.isfinite(than) or (score > than if self._larger else score < than)

    def is_finite(self, record: Record) -> bool:
        """Whether the loss and the score that decides are finite."""
        return math.isfinite(record["valid_loss"]) and math.isfinite(self.score(record))

    def describe(self, record: Record) -> str:
        """A validation in words."""
        if not self.is_finite(record):
            return "validation failed: the model's results are not finite"
        text = f"validation loss {record['valid_loss']:.4f}, perplexity {record['valid_perplexity']:.2f}"
        for name, score in self._scores.items():
            if (value := record.get(f"valid_{name}")) is not None:
                text += f", {score.label} {value:.2f}"
        return text
