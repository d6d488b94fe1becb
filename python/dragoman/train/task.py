"""Task: what a model is trained to do. The Trainer knows no more of its data than this."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt

from dragoman.data.columns import Columns, Lengths
from dragoman.data.shards import Shards, write_shards
from dragoman.data.text import Files
from dragoman.nn.module import Module
from dragoman.tensor import Tensor
from dragoman.train.callbacks import Record
from dragoman.train.options import TrainingOptions


@dataclass(frozen=True)
class Batch:
    """What a model reads in one forward pass.

    Attributes:
        columns: by name, one list of ids an example.
        num_targets: predictions that the loss sums over.
        num_tokens: tokens that the model reads and writes, for the speed in the log.
    """

    columns: Columns
    num_targets: int
    num_tokens: int


@dataclass(frozen=True)
class Score:
    """A score of validation.

    Attributes:
        label: its name in messages.
        larger_is_better: how two values compare.
    """

    label: str
    larger_is_better: bool = True


class Scorer(Protocol):
    """Scores of a corpus that comes batch by batch."""

    def add(self, model: Any, batch: Batch, examples: Sequence[Any]) -> None:
        """Takes in a batch, off the tape and without dropout; `examples` are those that it was encoded from."""

    def record(self) -> Record:
        """The scores by the names in `Task.scores`, and what else the log should hold."""


class Task(ABC):
    """What a model is trained to do: examples, batches, loss and scores.

    Examples are what users hand in, or what `read` finds in files. `encode` turns them into columns of token ids;
    encoded examples, tuples of ids in the order of `columns`, are examples too. A task that draws random numbers,
    a mask for one, takes them from the seed that `batch` is given, so that a resumed run sees the same batches.

    Attributes:
        name: in checkpoints and on the command line.
        unit: what one example is called in messages.
        columns: the names of the columns.
        files: the names of the files that `read` takes.
        scores: of validation, by their names in `best_by`; the loss, "loss", is always measured.
    """

    name: ClassVar[str]
    unit: ClassVar[str] = "example"
    columns: ClassVar[tuple[str, ...]]
    files: ClassVar[tuple[str, ...]] = ()
    scores: ClassVar[Mapping[str, Score]] = {}

    @abstractmethod
    def check(self, name: str, examples: Any) -> None:
        """Checks data that a user hands in as `name`, "train" or "validation". TypeError, ValueError otherwise."""

    @abstractmethod
    def encode(self, examples: Sequence[Any]) -> Columns:
        """The columns of some examples."""

    @abstractmethod
    def costs(self, lengths: Lengths, model: Any, options: TrainingOptions) -> npt.NDArray[np.integer[Any]]:
        """What rows of these lengths cost in a batch, (rows,) in tokens; 0 leaves a row out."""

    @abstractmethod
    def batch(self, rows: Columns, model: Any, seed: Sequence[int]) -> Batch:
        """The batch of some rows. The seed is the same whenever an epoch of a run comes to this batch."""

    @abstractmethod
    def loss(self, model: Any, batch: Batch, num_targets: int, options: TrainingOptions) -> Tensor:
        """The batch's loss: a sum over its targets, divided by `num_targets` (those of all batches of a step)."""

    def check_model(self, model: Module) -> None:  # noqa: B027
        """TypeError or ValueError for a model that cannot learn this task."""

    def scorer(self, model: Any, options: TrainingOptions) -> Scorer | None:
        """A new scorer for one validation; None measures the loss alone.

        Raises:
            ModuleNotFoundError: a library that the scores need is missing.
        """
        return None

    @property
    def vocab_size(self) -> int:
        """Tokens that a model for this task must know; needed on the command line."""
        raise NotImplementedError(f"{type(self).__name__}: vocab_size is needed on the command line")

    def save(self, folder: Path) -> None:  # noqa: B027
        """Writes what a model needs beside its weights in use, a tokenizer for one."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The task that `save` wrote. OSError, ValueError as its files demand."""
        raise NotImplementedError(f"{cls.__name__}: load is needed to resume from the command line")

    @classmethod
    def learn(cls, files: Mapping[str, Files], vocab_size: int, tokenizer_kind: str) -> Self:
        """The task for files of training data: learns a vocabulary from them."""
        raise NotImplementedError(f"{cls.__name__}: learn is needed on the command line")

    def read(self, files: Mapping[str, Files]) -> Iterable[Any]:
        """The examples in files, by the names in `Task.files`. OSError, ValueError naming the file."""
        raise NotImplementedError(f"{type(self).__name__}: read is needed for files")

    def made_of(self) -> dict[str, Any]:
        """What decides the ids of an example beside its text, as JSON holds it: the tokenizer's digest for one."""
        return {}

    def shards(
        self, files: Mapping[str, Files], folder: str | Path, report: Callable[[str], None] | None = None
    ) -> Shards:
        """The examples in files as shards in `folder`: see `dragoman.data.write_shards`."""
        made_of = {"task": self.name, **self.made_of()}
        return write_shards(folder, files, made_of, lambda: self.read(files), self.encode, report, unit=self.unit)
