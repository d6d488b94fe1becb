"""Task: what a model is trained to do. The Trainer handles data only through it."""

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
from dragoman.models.config import ModelConfig
from dragoman.models.transformer_config import TransformerConfig
from dragoman.nn.module import Module
from dragoman.tensor import Tensor
from dragoman.train.callbacks import Record
from dragoman.train.options import TrainingOptions

TASK = "task.json"  # the file of a task's name and settings


@dataclass(frozen=True)
class Batch:
    """The input of one forward pass.

    Attributes:
        columns: by name, one list of ids an example.
        num_targets: number of predictions in the loss.
        num_tokens: number of tokens that the model reads and predicts, for the speed in the log.
    """

    columns: Columns
    num_targets: int
    num_tokens: int


@dataclass(frozen=True)
class Later:
    """Examples that `Trainer.fit` makes when it needs them: after its checks, when the output folder is its own.

    Attributes:
        make: returns the examples, or a dataset.
    """

    make: Callable[[], Any]


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

    def measure(self, model: Any, batch: Batch, examples: Sequence[Any], loss: float) -> Any:
        """What `add` needs of a batch, as a value that JSON can hold: another process may have measured it.

        `examples` are those that the batch was made from, `loss` is the sum over its targets. Runs off the tape and
        without dropout."""

    def add(self, measured: Any) -> None:
        """Adds a batch that was measured."""

    def record(self) -> Record:
        """The scores by their names in `Task.scores`; other entries go to the log, too."""


class Task(ABC):
    """What a model is trained to do: examples, batches, loss and scores.

    Examples come from the user or, by `read`, from files. `encode` turns them into columns of token ids. Tuples of ids
    in the order of `columns`, which are encoded already, are examples too. A task that draws random numbers, for masks
    for instance, draws them from the seed given to `batch`. So a resumed run sees the same batches.

    Attributes:
        name: of the task, in checkpoints and on the command line.
        unit: the word for an example in messages.
        columns: the names of the columns.
        files: the names of the arguments of `read`.
        config_class: the config of the models that learn the task, for the command line.
        scores: the scores of validation, by their names in `best_by`. "loss" is always there and not among them.
        defaults: what `dragoman train` takes for options of training that are not given, where TrainingOptions would
            suit the task less. Its limits count where no limit is given, `final` with validation data alone.
    """

    name: ClassVar[str]
    unit: ClassVar[str] = "example"
    columns: ClassVar[tuple[str, ...]]
    files: ClassVar[tuple[str, ...]] = ()
    config_class: ClassVar[type[ModelConfig]] = TransformerConfig
    scores: ClassVar[Mapping[str, Score]] = {}
    defaults: ClassVar[Mapping[str, Any]] = {}

    @abstractmethod
    def check(self, name: str, examples: Any) -> None:
        """Checks the argument `name` of `Trainer.fit`, "train" or "validation". TypeError, ValueError otherwise."""

    @abstractmethod
    def encode(self, examples: Sequence[Any]) -> Columns:
        """The columns of some examples."""

    @abstractmethod
    def costs(self, lengths: Lengths, model: Any, options: TrainingOptions) -> npt.NDArray[np.integer[Any]]:
        """The cost of rows with these lengths, (rows,) in tokens; 0 leaves a row out."""

    @abstractmethod
    def batch(self, rows: Columns, model: Any, seed: Sequence[int]) -> Batch:
        """A batch of some rows. `seed` depends only on the run's seed, the epoch and the place of the batch in it."""

    def augment(self, rows: Columns, seed: Sequence[int]) -> Columns:
        """The rows of a training batch, changed at random. Validation reads rows as they are. `seed` as of `batch`."""
        return rows

    @abstractmethod
    def loss(self, model: Any, batch: Batch, num_targets: int, options: TrainingOptions) -> Tensor:
        """The sum over the batch's targets, divided by `num_targets`: of all batches of the step. A scalar."""

    def splitter(self, options: TrainingOptions) -> Callable[[Columns, Sequence[int]], Columns]:
        """What `bpe_dropout` does to the rows of a batch of training, from a seed as in `batch`.

        Raises:
            ValueError: a task without it, or a tokenizer of another kind than "bpe".
        """
        raise ValueError(f"Trainer: bpe_dropout must be 0 for the task {self.name}, got {options.bpe_dropout}")

    def check_model(self, model: Module) -> None:  # noqa: B027
        """TypeError or ValueError for a model that cannot learn this task."""

    def scorer(self, model: Any, options: TrainingOptions) -> Scorer | None:
        """A new scorer for one validation; None if only the loss is measured.

        Raises:
            ModuleNotFoundError: a library that the scores need is missing.
        """
        return None

    @property
    def vocab_size(self) -> int:
        """Tokens that a model for this task must know; needed on the command line."""
        raise NotImplementedError(f"{type(self).__name__}: vocab_size is needed on the command line")

    def config_fields(self) -> dict[str, Any]:
        """The fields of a `config_class` that the task decides, for instance the size of the vocabulary."""
        return {"vocab_size": self.vocab_size}

    def save(self, folder: Path) -> None:  # noqa: B027
        """Writes what a trained model needs beside its weights, for instance a tokenizer."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The task that `save` wrote. OSError, ValueError as its files demand."""
        raise NotImplementedError(f"{cls.__name__}: load is needed to resume from the command line")

    @classmethod
    def learn(cls, files: Mapping[str, Files], vocab_size: int, tokenizer_kind: str, **settings: Any) -> Self:
        """A task whose vocabulary is learned from files of training data; `settings` are its other arguments."""
        raise NotImplementedError(f"{cls.__name__}: learn is needed on the command line")

    def read(self, files: Mapping[str, Files]) -> Iterable[Any]:
        """The examples in files, by the names in `Task.files`. OSError, ValueError naming the file."""
        raise NotImplementedError(f"{type(self).__name__}: read is needed for files")

    def remarks(self) -> list[str]:
        """Sentences for the user about the examples that were encoded since the last call."""
        return []

    def made_of(self) -> dict[str, Any]:
        """What the ids depend on beside the files, as JSON values: for instance the digest of the tokenizer."""
        return {}

    def shards(
        self, files: Mapping[str, Files], folder: str | Path, report: Callable[[str], None] | None = None
    ) -> Shards:
        """The examples in files, as shards in `folder`: see `dragoman.data.write_shards`."""
        made_of = {"task": self.name, **self.made_of()}
        return write_shards(folder, files, made_of, lambda: self.read(files), self.encode, report, unit=self.unit)
