"""What a training run keeps on disk, and how it finds back to where it was."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dragoman import random
from dragoman.data.batches import Batches
from dragoman.train.checkpoint import CheckpointFolder, State, Stateful, load_checkpoint
from dragoman.train.options import TrainingOptions
from dragoman.train.task import Task

_SAME = ("batch_tokens", "max_length", "accumulate", "seed", "compute_dtype")  # what decides order and arithmetic


@dataclass
class Position:
    """How far a run has come.

    Attributes:
        step: optimizer steps, skipped ones included.
        epoch, batch: the next epoch and batch of it.
        seconds: spent in steps.
        skipped, skipped_in_row: steps without a finite gradient.
        best_step, best_score: of the best validation.
        since_best: validations after it.
        due: the validation and the checkpoint of `step` are still to come.
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
    """Since the last record."""

    loss: float = 0.0  # of all targets
    targets: int = 0
    tokens: int = 0
    seconds: float = 0.0
    gradient_norm: float = 0.0  # of the last step


class RunStore:
    """The output folder of a run; without one, nothing is kept.

    Args:
        model: what is trained.
        task: what it learns.
        options: of the run.
        batches: its data, by which a checkpoint of other data is known.
        parts: what a checkpoint holds beside the state.

    Attributes:
        saved: step of the newest checkpoint.
        damaged: checkpoints that were passed over by `restore`.
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
        """Writes the untrained model, what its task needs in use, and a first checkpoint.

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
        """Puts everything back to the newest checkpoint that is whole.

        Raises:
            ValueError: no folder, no checkpoint, or one of other data, another task or another model.
        """
        if self.checkpoints is None:
            raise ValueError("Trainer: resume needs an output folder, got none")
        path = self.checkpoints.newest()
        state = load_checkpoint(path, self.parts)
        _check_identity(path, state.get("data", {}), self.run)
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
    """What must be the same in a resumed run: task, data, and all that decides order and arithmetic."""
    return {
        "task": task.name,
        f"{task.unit}s": batches.count,
        "lengths": zlib.crc32(batches.costs.data),
        **{name: getattr(options, name) for name in _SAME},
        "columns": batches.rows.digests(),
    }


def _check_identity(path: Path, saved: State, run: State) -> None:
    """ValueError unless a checkpoint is of this run. Older ones name neither task nor columns."""
    for name, value in run.items():
        got: Any = saved.get(name, value if name in ("task", "columns") else None)
        if name == "columns":
            if different := [column for column in value if value[column] != got.get(column)]:
                raise ValueError(f"{path}: the data must be the same to resume, got other ids in {different[0]}")
        elif got != value:
            raise ValueError(f"{path}: {name} must be the same to resume, was {got}, got {value}")
