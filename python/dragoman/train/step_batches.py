"""The batches of each step, and the share of this rank."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dragoman.data.batches import Batches
from dragoman.data.columns import Columns
from dragoman.distributed.ranks import Ranks
from dragoman.nn.module import Module
from dragoman.train.options import TrainingOptions
from dragoman.train.task import Batch, Task


@dataclass(frozen=True)
class StepOfBatches:
    """What one step trains on.

    Attributes:
        own: the batches of this rank.
        count: number of batches of all ranks.
        end: number of batches of the epoch up to and with this step.
    """

    own: list[Batch]
    count: int
    end: int


class StepBatches:
    """Cuts the order of each epoch into steps. In each round of a step, rank r takes the batch at place r.

    Args:
        task: makes the batches.
        model: that reads them.
        batches: the order of each epoch.
        options: of the run.
        ranks: the processes that train together.
    """

    def __init__(self, task: Task, model: Module, batches: Batches, options: TrainingOptions, ranks: Ranks) -> None:
        self._task = task
        self._model = model
        self._batches = batches
        self._seed = options.seed
        self._ranks = ranks
        self._in_step = options.accumulate * ranks.size
        self._split = task.splitter(options) if options.bpe_dropout else None
        self.epoch_steps = math.ceil(len(batches.epoch(0)) / self._in_step)  # of the first epoch

    def steps(self, epoch: int, first: int) -> Iterator[StepOfBatches]:
        """The steps of an epoch, from its batch at place `first` on."""
        order, ranks = self._batches.epoch(epoch), self._ranks
        for begin in range(first, len(order), self._in_step):
            end = min(begin + self._in_step, len(order))
            places = range(begin + ranks.rank, end, ranks.size)
            own = [self._training_batch(order[place], (self._seed, epoch, place)) for place in places]
            yield StepOfBatches(own, end - begin, end)

    def batch(self, rows: Columns, seed: tuple[int, ...] = (0,)) -> Batch:
        """The batch of these rows, as they are."""
        return self._task.batch(rows, self._model, seed)

    def _training_batch(self, places: Sequence[int], seed: tuple[int, ...]) -> Batch:
        rows = self._batches.dataset.take(places)
        rows = self._task.augment(rows if self._split is None else self._split(rows, seed), seed)
        return self.batch(rows, seed)
