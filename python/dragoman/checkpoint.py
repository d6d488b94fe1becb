"""Checkpoints: all that a training run needs to go on, in one safetensors file that appears at once or never.

Arrays are named "model.<parameter>" and "optimizer.<name>"; the metadata holds one JSON object, the state of
the run.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

FORMAT = "dragoman.checkpoint.1"

Arrays = dict[str, np.ndarray[Any, Any]]
State = dict[str, Any]


class Stateful(Protocol):
    """A model or an optimizer."""

    def state_dict(self) -> Arrays: ...

    def load_state_dict(self, state: Arrays, /) -> None: ...


def atomic_write(path: str | Path, data: bytes) -> None:
    """Writes a file so that a crash at any moment leaves the old content or the new one, never a mixture.

    The data goes to a temporary file in the same folder, is flushed to the disk and renamed over `path`.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def save_checkpoint(path: str | Path, model: Stateful, optimizer: Stateful, state: State) -> None:
    """Writes model, optimizer and `state` (anything JSON holds) as one file, atomically."""
    arrays = {f"model.{name}": array for name, array in model.state_dict().items()}
    arrays |= {f"optimizer.{name}": array for name, array in optimizer.state_dict().items()}
    contiguous = {name: np.require(array, requirements="C") for name, array in arrays.items()}
    atomic_write(path, save(contiguous, metadata={"format": FORMAT, "state": json.dumps(state)}))


def read_state(path: str | Path) -> State:
    """The state of a checkpoint, without its arrays. Raises ValueError, naming the file, for a bad one."""
    with _open(path) as file:
        return _state(path, file.metadata())


def load_checkpoint(path: str | Path, model: Stateful, optimizer: Stateful) -> State:
    """Puts a checkpoint's arrays into model and optimizer; returns its state.

    Raises:
        ValueError: naming the file, when it is no checkpoint or does not fit the model.
    """
    with _open(path) as file:
        state = _state(path, file.metadata())
        try:
            model.load_state_dict(_part(file, "model."))
            optimizer.load_state_dict(_part(file, "optimizer."))
        except (ValueError, SafetensorError) as error:
            raise ValueError(f"{path}: {error}") from None
    return state


def average_checkpoints(paths: Sequence[str | Path]) -> Arrays:
    """The mean of the models in several checkpoints, as a state dict; holds one array of each at a time.

    Raises:
        ValueError: naming the file and the array in which it differs from the first file.
    """
    files = [(path, _open(path)) for path in paths]
    if not files:
        raise ValueError("average_checkpoints: paths must name at least one file, got none")
    names = _names(files[0][1], "model.")
    for path, file in files:
        if different := sorted(set(names) ^ set(_names(file, "model."))):
            raise ValueError(f"{path}: array {different[0]} is not in every checkpoint of the average")
    return {name.removeprefix("model."): _mean(files, name) for name in names}


def _mean(files: Sequence[tuple[str | Path, Any]], name: str) -> np.ndarray[Any, Any]:
    first = files[0][1].get_tensor(name)
    total = first.astype(np.float64)
    for path, file in files[1:]:
        array = file.get_tensor(name)
        if array.shape != first.shape:
            raise ValueError(f"{path}: array {name} must have shape {first.shape}, got {array.shape}")
        total += array
    mean: np.ndarray[Any, Any] = (total / len(files)).astype(first.dtype)
    return mean


def _open(path: str | Path) -> Any:
    try:
        return safe_open(str(path), framework="np")
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file ({error})") from None


def _state(path: str | Path, metadata: Mapping[str, str] | None) -> State:
    metadata = metadata or {}
    if (got := metadata.get("format")) != FORMAT:
        raise ValueError(f"{path}: metadata field format must be {FORMAT!r}, got {got!r}")
    try:
        state = json.loads(metadata.get("state", ""))
    except ValueError as error:
        raise ValueError(f"{path}: metadata field state is not JSON ({error})") from None
    if not isinstance(state, dict):
        raise ValueError(f"{path}: metadata field state must be an object, got {type(state).__name__}")
    return state


def _names(file: Any, prefix: str) -> list[str]:
    return [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 (not a mapping)


def _part(file: Any, prefix: str) -> Arrays:
    return {name.removeprefix(prefix): file.get_tensor(name) for name in _names(file, prefix)}


class CheckpointFolder:
    """The checkpoints of one run.

    `step-*.safetensors` are written at regular points of the run, and the newest `keep` stay to be averaged.
    `stop-*.safetensors` is where a run stopped in between; the next regular checkpoint replaces it, so that a
    run that was interrupted and resumed averages the same checkpoints as one that was not.

    Args:
        folder: made when the first checkpoint is written.
        keep: number of regular checkpoints that stay, at least 1.
    """

    def __init__(self, folder: str | Path, keep: int) -> None:
        self.folder = Path(folder)
        self.keep = keep

    def save(self, step: int, model: Stateful, optimizer: Stateful, state: State, *, regular: bool = True) -> None:
        """Writes the checkpoint of `step`, then deletes those it makes superfluous."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{'step' if regular else 'stop'}-{step:08d}.safetensors"
        save_checkpoint(path, model, optimizer, state)
        superfluous = [old for old in self._files("stop") if old != path]
        for old in [*superfluous, *self._files("step")[: -self.keep]]:
            old.unlink()

    def files(self) -> list[Path]:
        """Every checkpoint, oldest first."""
        return sorted(self._files("step") + self._files("stop"), key=_step)

    def newest(self) -> Path:
        """The newest checkpoint that can be read. Raises ValueError when there is none."""
        for path in reversed(self.files()):
            try:
                read_state(path)
            except ValueError:
                continue
            return path
        raise ValueError(f"{self.folder}: no checkpoint to resume from")

    def to_average(self) -> list[Path]:
        """The newest `keep` checkpoints, but none from the first half of the run, when it was still rough."""
        files = self.files()
        return [path for path in files[-self.keep :] if 2 * _step(path) >= _step(files[-1])]

    def _files(self, kind: str) -> list[Path]:
        return sorted(self.folder.glob(f"{kind}-*.safetensors"), key=_step)


def _step(path: Path) -> int:
    digits = path.stem.partition("-")[2]
    return int(digits) if digits.isdecimal() else -1
