"""The files of a training run, and how it resumes from them."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from dragoman import _core, random
from dragoman.arguments import shown
from dragoman.data.batches import Batches
from dragoman.distributed.ranks import ALONE, Ranks
from dragoman.models.base import TOKENIZER
from dragoman.models.config import ModelConfig
from dragoman.train.checkpoint import CheckpointFile, CheckpointFolder, State, Stateful, load_checkpoint
from dragoman.train.folder import CHECKPOINTS, LOG, clear
from dragoman.train.options import TrainingOptions
from dragoman.train.task import Task
from dragoman.version import VERSION

_SAME = ("batch_tokens", "max_length", "accumulate", "seed", "compute_dtype")  # order and arithmetic depend on these
_LIMITS = ("epochs", "max_steps", "max_minutes")
_UNTOLD = {  # options that belong to one call of `fit`, and those that are the same
    *_SAME, *_LIMITS, "output", "device", "warmup", "callbacks", "tensorboard",
    "log_interval", "checkpoint_layers",
}  # fmt: skip


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
        warmup: steps of the warm-up, where a time limit has cut it.
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
    warmup: int | None = None


@dataclass
class Sums:
    """Totals since the last record."""

    loss: float = 0.0  # of all targets
    targets: int = 0
    tokens: int = 0
    seconds: float = 0.0
    gradient_norm: float = 0.0  # of the last step


class RunStore:
    """What a run keeps in its output folder. Without a folder, nothing is kept.

    Args:
        model: what is trained.
        task: what it learns.
        options: of the run.
        resume: go on from the newest checkpoint that is not damaged.
        ranks: the processes that train together; the first one writes, all of them read.

    Attributes:
        saved: step of the newest checkpoint.
        damaged: checkpoints that are passed over.
        differences: options that a resumed run has changed, in words.

    Raises:
        ValueError: there is nothing to resume, or it is of another task or model, or with other options that must
            stay the same.
    """

    def __init__(self, model: Any, task: Task, options: TrainingOptions, *, resume: bool, ranks: Ranks = ALONE) -> None:
        self.ranks = ranks
        self.model = model
        self.task = task
        self.options = options
        self.parts: dict[str, Stateful] = {}
        self._batches: Batches | None = None
        self.output: Path | None = None
        self.log: Path | None = None
        self.checkpoints: CheckpointFolder | None = None
        self.saved = -1
        self.damaged: list[Path] = []
        self.differences: list[str] = []
        self._run = _identity(model, task, options, ranks.size)
        self._options = _changeable(model, options)
        self._resumed: CheckpointFile | None = None
        if options.output is not None:
            assert options.average is not None
            self.output = Path(options.output)
            self.log = self.output / LOG if ranks.first else None
            self.checkpoints = CheckpointFolder(self.output / CHECKPOINTS, options.average)
        if resume:
            self._open()

    @property
    def resumed(self) -> bool:
        """Whether there is a checkpoint to restore."""
        return self._resumed is not None

    def _open(self) -> None:
        """Takes the newest checkpoint that is whole and checks what does not depend on the data."""
        if self.checkpoints is None:
            raise ValueError("Trainer: resume needs an output folder, got none")
        path = self.checkpoints.newest()
        files = self.checkpoints.files()
        self.damaged = files[files.index(path) + 1 :]
        self._resumed = file = CheckpointFile(path)
        _check_identity(path, _section(file, "data", {}), self._run, self.ranks.size)

    def begin(self, position: Position, sums: Sums) -> None:
        """Writes the first checkpoint, the untrained model and the files of its task, in place of an earlier run's.

        Until a checkpoint of a later step is written, a new run may replace them.
        """
        if self.output is None:
            return
        if self.ranks.first:
            clear(self.output)
        self.save(position, sums, regular=False)
        self._write_files()

    def save(self, position: Position, sums: Sums, *, regular: bool = True) -> None:
        """Writes a checkpoint. All ranks call it together, and return when it is written."""
        if self.checkpoints is None:
            return
        if self.ranks.first:
            self._save(self.checkpoints, position, sums, regular)
        else:
            for part in self.parts.values():
                part.state_dict(copy=False)  # sends the first rank the moments that this one keeps
        self.ranks.gather(None)
        self.saved = position.step

    def _save(self, checkpoints: CheckpointFolder, position: Position, sums: Sums, regular: bool) -> None:
        state = {
            "position": asdict(position),
            "sums": asdict(sums),
            "data": self._run,
            "options": self._options,
            "random": random.get_state(),
        }
        checkpoints.save(position.step, self.parts, state, regular=regular, best=position.best_step)

    def save_model(self) -> None:
        """Writes the model as it is."""
        if self.output is not None and self.ranks.first:
            options = {"beside": [TOKENIZER]} if (self.output / TOKENIZER).exists() else {}
            self.model.save(self.output, **options)

    def use(self, parts: Mapping[str, Stateful], batches: Batches, plan: State, same: State) -> None:
        """Takes what is known when the data are read.

        Args:
            parts: the objects whose arrays a checkpoint holds.
            batches: the training data.
            plan: what follows from the options and the data, by name, to compare with a resumed run's.
            same: what else must be equal on all ranks, by name.

        Raises:
            ValueError: the checkpoint to resume from is of other data.
        """
        self.parts = dict(parts)
        self._batches = batches
        if self.output is None and self.ranks.size == 1:
            return
        self._run |= _identity_of_data(self.task, batches)
        self._options |= plan
        self._agree(same)
        if self._resumed is not None:
            before = _section(self._resumed, "data", {})
            _check_identity(self._resumed.path, before, self._run, self.ranks.size)
            before = _section(self._resumed, "options", {})
            self.differences = [
                f"{name} {_words(value)} (before: {_words(before[name])})"
                for name, value in self._options.items()
                if name in before and before[name] != value
            ]

    def _agree(self, same: State) -> None:
        """ValueError, on all ranks, unless they have the same program, options, data and checkpoint."""
        resumed = None if self._resumed is None else Path(self._resumed.path).name
        device = next(iter(self.model.parameters())).device
        own = {"dragoman": VERSION, "instruction set": _core.cpu_isa(), "device": device, "checkpoint": resumed}
        limits = {name: getattr(self.options, name) for name in _LIMITS}
        values = own | same | self._run | self._options | limits
        if resumed is None and self.ranks.size > 1:
            values["the checksum of the first weights"] = _checksum(self.model)
        self.ranks.agree(values)

    def restore(self) -> tuple[Position, Sums, set[str]]:
        """Puts the checkpoint's arrays into the parts; returns the state of the run, and the parts that it lacked.

        Raises:
            ValueError: the checkpoint does not fit the model, or is incomplete.
        """
        assert self._resumed is not None
        file, self._resumed = self._resumed, None
        held = {name: part for name, part in self.parts.items() if name != "ema" or file.names(name)}
        load_checkpoint(file.path, held)
        try:
            random.set_state(file.state["random"])
            position = Position(**_section(file, "position"))
            sums = Sums(**_section(file, "sums"))
            _check_numbers(position, sums)
            self._check_position(position, sums)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{file.path}: metadata field state is incomplete ({error})") from None
        self.saved = position.step
        if position.step == 0:
            self._write_files()  # the run may have been killed before it had written them
        return position, sums, self.parts.keys() - held.keys()

    def _check_position(self, position: Position, sums: Sums) -> None:
        """ValueError for numbers that no run could have."""
        assert self._batches is not None
        if not 0 <= position.batch < len(self._batches.epoch(position.epoch)):
            raise ValueError(f"batch must be one of the epoch, got {position.batch}")
        if sums.targets and not sums.seconds:
            raise ValueError(f"seconds must be above 0 where there are targets, got {sums.seconds}")

    def _write_files(self) -> None:
        assert self.output is not None
        if self.ranks.first:
            self.task.save(self.output)
            self.save_model()


def _checksum(model: Any) -> int:
    """CRC-32 of all weights."""
    checksum = 0
    for array in model.state_dict(copy=False).values():
        checksum = zlib.crc32(array.tobytes(), checksum)
    return checksum


def _section(file: CheckpointFile, name: str, default: State | None = None) -> State:
    """A part of a checkpoint's state. ValueError unless it is an object."""
    value = file.state.get(name, default)
    if not isinstance(value, dict):
        raise ValueError(f"{file.path}: metadata field state must hold an object {name}, got {type(value).__name__}")
    return value


def _check_numbers(*values: Any) -> None:
    """ValueError unless every field of the dataclasses is a number as its default is, or may be None and is.

    Scores alone may be below 0.
    """
    for value in values:
        for field in fields(value):
            got, kind = getattr(value, field.name), str(field.type)
            good = type(got) is bool if kind == "bool" else type(got) in ((int, float) if "float" in kind else (int,))
            if good and kind != "bool":
                good = got < 2**62 and math.isfinite(got) and (got >= 0 or field.name == "best_score")
            if not good and not (got is None and "None" in kind):
                raise ValueError(f"{field.name} must be {kind}, got {shown(got)}")


def _identity(model: Any, task: Task, options: TrainingOptions, ranks: int) -> State:
    """What a resumed run must have in common, without its data: task, model, and what order and arithmetic need.

    The batches of a step must be as many, whatever the number of ranks is.
    """
    same = {name: getattr(options, name) for name in _SAME} | {"accumulate": options.accumulate * ranks}
    return {"task": task.name, **same, "config": _config(model, rates=False)}


def _identity_of_data(task: Task, batches: Batches) -> State:
    return {
        f"{task.unit}s": batches.count,
        "lengths": zlib.crc32(batches.costs.data),
        "columns": batches.dataset.digests(),
    }


def _changeable(model: Any, options: TrainingOptions) -> State:
    """The options that a resumed run may change, by name, as JSON gives them back."""
    values = {field.name: getattr(options, field.name) for field in fields(options) if field.name not in _UNTOLD}
    listed = {name: list(value) for name, value in values.items() if isinstance(value, tuple)}
    return {**values, **listed, **_config(model, rates=True)}


def _config(model: Any, *, rates: bool) -> State:
    """The fields of the model's config: its dropout rates, or all others."""
    config = getattr(model, "config", None)
    values = config.to_dict() if isinstance(config, ModelConfig) else {}
    return {name: value for name, value in values.items() if name.endswith("dropout") == rates}


def _words(value: Any) -> str:
    return "none" if value in (None, []) else str(value)


def _check_identity(path: str | Path, saved: State, run: State, ranks: int) -> None:
    """ValueError unless the checkpoint is from this run. Older checkpoints name neither task, columns nor config."""
    for name, value in run.items():
        got: Any = saved.get(name, value if name in ("task", "columns", "config") else None)
        if name in ("columns", "config"):
            got = got if isinstance(got, dict) else {}
            known = value if name == "columns" else got  # a later version may add fields to a config
            different = [key for key in value if key in known and value[key] != got.get(key)]
            if different and name == "columns":
                raise ValueError(f"{path}: the data must be the same to resume, got other ids in {different[0]}")
            if different:
                key = different[0]
                raise ValueError(
                    f"{path}: {key} must be the same to resume, was {shown(got.get(key))}, got {value[key]}"
                )
        elif name == "lengths" and got != value:
            raise ValueError(f"{path}: the data must be the same to resume, got examples of other lengths")
        elif got != value:
            was = got[:80] if isinstance(got, str) else shown(got)
            if name == "accumulate" and ranks > 1:
                name = "accumulate times the number of ranks"
            raise ValueError(f"{path}: {name} must be the same to resume, was {was}, got {value}")
