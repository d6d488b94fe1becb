"""Checkpoints: one safetensors file each, that appears whole or not at all and proves its content by SHA-256."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dragoman.files import BLANK, DIGEST, SafetensorsFile, write_arrays
from dragoman.json_file import parse_object
from dragoman.nn.module import Module

FORMAT = "dragoman.checkpoint.3"
_FORMATS = ("dragoman.checkpoint.2", FORMAT)  # that can be read; 2 kept each of the optimizer's moments as one array

_CHUNK = 1 << 20
_KEPT_BYTES = 4 << 30  # of the checkpoints of a run

Arrays = dict[str, np.ndarray[Any, Any]]
State = dict[str, Any]


class Stateful(Protocol):
    """A model, an optimizer, an average."""

    def state_dict(self, *, copy: bool = True) -> Arrays: ...

    def load_state_dict(self, state: Arrays, /) -> None: ...


Parts = Mapping[str, Stateful]  # by name, "model" among them


def save_checkpoint(path: str | Path, parts: Parts, state: State) -> None:
    """Writes parts (arrays `part.name`) and `state` (anything JSON holds) as one file, atomically.

    The metadata holds the SHA-256 of the whole file with the digest's own 64 digits as zeros.

    Raises:
        OSError: naming the file; what was there before is untouched.
    """
    arrays = {
        f"{part}.{name}": array for part, owner in parts.items() for name, array in owner.state_dict(copy=False).items()
    }
    write_arrays(path, arrays, {"format": FORMAT, "state": json.dumps(state)}, digest=True)


def read_state(path: str | Path) -> State:
    """The state of a checkpoint. Raises ValueError, naming the file, for a bad one."""
    return CheckpointFile(path).state


def load_checkpoint(path: str | Path, parts: Parts) -> State:
    """Puts a checkpoint's arrays into `parts`; returns its state.

    Raises:
        OSError: the file cannot be read.
        ValueError: naming the file, when it is no checkpoint, is damaged, or does not fit a part.
    """
    file = CheckpointFile(path)
    for part, owner in parts.items():
        try:
            owner.load_state_dict(file.part(part))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    return file.state


def checkpoints_to_keep(model: Module, *, ema: bool) -> int:
    """How many checkpoints of a model to keep: as many as fit in 4 GiB, at least 2, at most 8."""
    trained = sum(parameter.size for parameter in model.parameters() if parameter.requires_grad)
    size = 4 * model.num_parameters() + (12 if ema else 8) * trained
    return min(8, max(2, _KEPT_BYTES // max(size, 1)))


class CheckpointFile:
    """A checkpoint that was verified; its arrays are read when asked for.

    Attributes:
        path: of the file.
        state: what was saved beside the arrays.

    Raises:
        OSError: the file cannot be read.
        ValueError: naming the file, when it is no checkpoint or is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self._file = SafetensorsFile(path)
        metadata = self._file.metadata
        if (got := metadata.get("format")) not in _FORMATS:
            raise ValueError(f"{path}: metadata field format must be one of {', '.join(_FORMATS)}, got {got!r}")
        _verify(path)
        self.state = parse_object(metadata.get("state", ""), f"{path}: metadata field state")

    def names(self, part: str) -> list[str]:
        """The arrays of a part."""
        return [name.removeprefix(f"{part}.") for name in self._file.headers if name.startswith(f"{part}.")]

    def array(self, part: str, name: str) -> np.ndarray[Any, Any]:
        """One array."""
        return self._file.array(f"{part}.{name}")

    def part(self, part: str) -> Arrays:
        """All arrays of a part."""
        return {name: self.array(part, name) for name in self.names(part)}


def _verify(path: str | Path) -> None:
    """Raises ValueError unless the file has the digest that it holds."""
    with Path(path).open("rb") as file:
        size = file.read(8)
        header = file.read(int.from_bytes(size, "little"))
        found = re.search(DIGEST + rb'([0-9a-f]{64})"', header)
        if found is None:
            raise ValueError(f"{path}: metadata field sha256 must hold 64 hexadecimal digits")
        digest = sha256(size + header[: found.start(1)] + BLANK + header[found.end(1) :])
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest().encode() != found[1]:
        raise ValueError(f"{path}: damaged: SHA-256 must be {found[1].decode()}, got {digest.hexdigest()}")


class CheckpointFolder:
    """The checkpoints of one run.

    `step-*.safetensors` are written at regular points of the run; the newest `keep` and the best one stay.
    `stop-*.safetensors` is where a run began or stopped in between; the next regular checkpoint replaces it, so
    that a run that was interrupted and resumed averages the same checkpoints as one that was not.

    Args:
        folder: made when the first checkpoint is written.
        keep: number of regular checkpoints that stay, at least 1.
    """

    def __init__(self, folder: str | Path, keep: int) -> None:
        self.folder = Path(folder)
        self.keep = keep

    def save(self, step: int, parts: Parts, state: State, *, regular: bool = True, best: int | None = None) -> None:
        """Writes the checkpoint of `step`, then deletes those it makes superfluous, never that of step `best`.

        Checkpoints of later steps go too: they are of a run that went back to an earlier one.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.path(step) if regular else self.folder / f"stop-{step:08d}.safetensors"
        save_checkpoint(path, parts, state)
        later = [old for old in self.files() if _step(old) > step]
        stops = [old for old in self._files("stop") if old != path]
        former = [old for old in self._files("step") if old not in later][: -self.keep]
        for old in {*later, *stops, *former}:
            if best is None or old != self.path(best):
                old.unlink()

    def path(self, step: int) -> Path:
        """Of the regular checkpoint of a step."""
        return self.folder / f"step-{step:08d}.safetensors"

    def files(self) -> list[Path]:
        """Every checkpoint, oldest first."""
        return sorted(self._files("step") + self._files("stop"), key=_step)

    def newest(self) -> Path:
        """The newest checkpoint that is whole. Raises ValueError when there is none."""
        reason = ""
        for path in reversed(self.files()):
            try:
                read_state(path)
            except ValueError as error:
                reason = reason or f" ({error})"
                continue
            return path
        raise ValueError(f"{self.folder}: no checkpoint to resume from{reason}")

    def to_average(self) -> list[Path]:
        """The newest `keep` checkpoints, but none from the first half of the run, when it was still rough."""
        files = self.files()
        return [path for path in files[-self.keep :] if 2 * _step(path) >= _step(files[-1])]

    def _files(self, kind: str) -> list[Path]:
        return sorted(self.folder.glob(f"{kind}-*.safetensors"), key=_step)


def _step(path: Path) -> int:
    digits = path.stem.partition("-")[2]
    return int(digits) if digits.isdecimal() else -1
