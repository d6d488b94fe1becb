"""The files of a training run, and how it resumes from them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dragoman import random
from dragoman.data.batches import Batches
from dragoman.train.checkpoint import CheckpointFolder, State, Stateful, load_checkpoint, read_state
from dragoman.train.options import TrainingOptions
from dragoman.train.task import Task

_SAME = ("batch_tokens", "max_length", "accumulate", "seed", "compute_dtype")  # order and arithmetic depend on these


@dataclass
class Position:
    """The state of a run between two steps.

    Attributes:
        step: optimizer steps, skipped ones included.
        epoch, batch: the next epoch, and the next batch in it.
        seconds: time spent in steps.
        skipped, skipped_in_row: number of bad steps, in all and since the last good one.
        best_step, best_score: of the best validation.
        since_best: number of validations after the best one.
        due: whether the validation and the checkpoint of `step` are still missing.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    seconds: float = 0.0
    skipped: int = 0
    skipped_in_row: int = 0
    best_step: int | None = None
    best_score: float | None = None
    since_best: int = 0
    due: bool = False


@dataclass
class Sums:
    """Totals since the last record."""

    loss: float = 0.0  # of all targets
    targets: int = 0
    tokens: int = 0
    seconds: float = 0.0
    gradient_norm: float = 0.0  # of the last step


class RunStore:
    """The output folder of a run. Without a folder, nothing is kept.

    Args:
        model: what is trained.
        task: what it learns.
        options: of the run.
        batches: the training data; checkpoints of other data are refused.
        parts: the objects whose arrays a checkpoint holds.

    Attributes:
        saved: step of the newest checkpoint.
        damaged: checkpoints that `restore` skipped.
    """

    def __init__(
        self, model: Any, task: Task, options: TrainingOptions, batches: Batches, parts: Mapping[str, Stateful]
    ) -> None:
        self.model = model
        self.task = task
        self.parts = parts
        self.output: Path | None = None
        self.log: Path | None = None
        self.checkpoints: CheckpointFolder | None = None
        self.run: State = {}
        if options.output is not None:
            self.output = Path(options.output)
            self.log = self.output / "log.jsonl"
            self.checkpoints = CheckpointFolder(self.output / "checkpoints", options.average)
            self.run = _identity(task, options, batches)
        self.saved = -1
        self.damaged: list[Path] = []

    def begin(self, position: Position, sums: Sums) -> None:
        """Writes the untrained model, the files of its task, and a first checkpoint.

        Raises:
            ValueError: the folder holds a run already.
        """
        if self.output is None or self.checkpoints is None:
            return
        if self.checkpoints.files():
            raise ValueError(f"{self.output}: holds a training run; resume it or choose another folder")
        self.output.mkdir(parents=True, exist_ok=True)
        self.task.save(self.output)
        self.model.save(self.output)
        self.save(position, sums, regular=False)

    def save(self, position: Position, sums: Sums, *, regular: bool = True) -> None:
        """Writes a checkpoint."""
        if self.checkpoints is None:
            return
        state = {
            "position": asdict(position),
            "sums": asdict(sums),
            "data": self.run,
            "random": random.get_state(),
        }
        self.checkpoints.save(position.step, self.parts, state, regular=regular, best=position.best_step)
        self.saved = position.step

    def save_model(self) -> None:
        """Writes the model as it is."""
        if self.output is not None:
            self.model.save(self.output)

    def restore(self) -> tuple[Position, Sums]:
        """Restores everything from the newest checkpoint that is not damaged.

        Raises:
            ValueError: no folder, no checkpoint, or one of other data, another task or another model.
        """
        if self.checkpoints is None:
            raise ValueError("Trainer: resume needs an output folder, got none")
        path = self.checkpoints.newest()
        state = read_state(path)
        _check_identity(path, state.get("data", {}), self.run)
        load_checkpoint(path, self.parts)
        try:
            random.set_state(state["random"])
            position, sums = Position(**state["position"]), Sums(**state["sums"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: metadata field state is incomplete ({error})") from None
        files = self.checkpoints.files()
        self.damaged = files[files.index(path) + 1 :]
        self.saved = position.step
        return position, sums


def _identity(task: Task, options: TrainingOptions, batches: Batches) -> State:
    """What a resumed run must have in common: task, data, and the options that order and arithmetic depend on."""
    return {
        "task": task.name,
        f"{task.unit}s": batches.count,
        "lengths": zlib.crc32(batches.costs.data),
        **{name: getattr(options, name) for name in _SAME},
        "columns": batches.dataset.digests(),
    }


def _check_identity(path: Path, saved: State, run: State) -> None:
    """ValueError unless the checkpoint is from this run. Older checkpoints name neither task nor columns."""
    for name, value in run.items():
        got: Any = saved.get(name, value if name in ("task", "columns") else None)
        if name == "columns":
            if different := [column for column in value if value[column] != got.get(column)]:
                raise ValueError(f"{path}: the data must be the same to resume, got other ids in {different[0]}")
        elif name == "lengths" and got != value:
            raise ValueError(f"{path}: the data must be the same to resume, got examples of other lengths")
        elif got != value:
            raise ValueError(f"{path}: {name} must be the same to resume, was {got}, got {value}")
