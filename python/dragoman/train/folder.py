"""RunFolder: the output folder of a run. One run holds it at a time, and replaces no files unasked."""

from __future__ import annotations

import os
import socket
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Self

from dragoman.data.shards import INDEX
from dragoman.distributed.ranks import Ranks
from dragoman.files import lock
from dragoman.json_file import read_object
from dragoman.models.base import CONFIG, TOKENIZER, WEIGHTS
from dragoman.train.checkpoint import CheckpointFolder
from dragoman.train.task import TASK

CHECKPOINTS = "checkpoints"
DATA = "data"
LOG = "log.jsonl"
TENSORBOARD = "tensorboard"
OPTIONS = "train.toml"

_LOCK = ".lock"
_MODEL = (WEIGHTS, f"{WEIGHTS}.index.json", CONFIG, TOKENIZER)
_RUN = {*_MODEL, CHECKPOINTS, DATA, LOG, TENSORBOARD, OPTIONS, TASK}  # names of a run's files


class RunFolder:
    """A context: inside, the folder is this run's alone.

    The lock is the kernel's, on a file in the folder, so a killed run leaves none. The file goes with the run. On a
    file system without locks there is none, which is said by a UserWarning.

    Args:
        path: of the folder, made where missing; None for a run without one.
        resume: the run goes on from the checkpoints in the folder.
        overwrite: the run may replace what is there.

    Raises (on entering):
        OSError: the folder cannot be made or locked.
        ValueError: another run holds the folder; there is nothing to resume; the folder holds anything that
            a new run would replace, or files of another origin.
    """

    def __init__(self, path: str | Path | None, *, resume: bool = False, overwrite: bool = False) -> None:
        if resume and overwrite:
            raise ValueError("Trainer: resume=True and overwrite=True must not be given together")
        self.path = None if path is None else Path(path)
        self._resume = resume
        self._overwrite = overwrite
        self._descriptor: int | None = None
        self._made = False

    def __enter__(self) -> Self:
        if self.path is None:
            return self
        if self._resume and not _checkpoints(self.path):
            raise ValueError(f"{self.path / CHECKPOINTS}: no checkpoint to resume from")
        self._made = not self.path.exists()
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self._descriptor = _lock(self.path)
            if not (self._resume or self._overwrite) and (content := _content(self.path)) is not None:
                raise ValueError(f"{self.path}: {content}")
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        if self.path is None:
            return
        if self._descriptor is not None:
            with suppress(OSError):
                (self.path / _LOCK).unlink()  # while it is locked: nobody else has locked this file
            os.close(self._descriptor)
            self._descriptor = None
        if self._made:
            with suppress(OSError):
                self.path.rmdir()  # of a run that was refused: empty


def check_shared(path: str | Path, ranks: Ranks) -> None:
    """ValueError, on all ranks, unless all see the folder that the first one has locked. They call it together."""
    if ranks.size == 1:
        return
    ranks.gather(None)  # until the first has locked it
    for rank, holder in enumerate(holders := ranks.gather(_holder(Path(path)))):
        if holder != holders[0]:
            raise ValueError(
                f"{path}: rank {rank} does not see what rank 0 writes there; output must be one folder, on a file "
                "system that all ranks share"
            )


def check_folder(path: str | Path, *, resume: bool, overwrite: bool) -> None:
    """Raises what `RunFolder` would raise now. Makes no folder."""
    folder = RunFolder(path, resume=resume, overwrite=overwrite)
    if resume or Path(path).exists():
        with folder:
            pass


def clear(folder: Path) -> None:
    """Deletes what an earlier run left, so that nothing of it passes for the new run's. The new run replaces the rest.

    The checkpoints go first: without them, what is left is a model that no run replaces unasked.
    """
    for path in _checkpoints(folder):
        path.unlink()
    for name in (LOG, OPTIONS, TASK, TOKENIZER, f"{WEIGHTS}.index.json"):
        (folder / name).unlink(missing_ok=True)
    for path in (folder / TENSORBOARD).glob("events.out.tfevents.*"):
        path.unlink()


def _holder(folder: Path) -> str | None:
    """The process that has locked the folder, in words; None where nobody has."""
    try:
        return (folder / _LOCK).read_text(errors="replace")
    except OSError:
        return None


def _lock(folder: Path) -> int:
    """Locks the folder; returns the descriptor that holds the lock. ValueError if another run holds it."""
    path = folder / _LOCK
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not lock(descriptor):
                warnings.warn(
                    f"{folder}: its file system has no locks, so a second run here is not refused", stacklevel=4
                )
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
                    return descriptor
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace")
            os.close(descriptor)
            raise ValueError(f"{folder}: another run is at work here ({holder}); choose another folder") from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # of a run that has just ended, and has deleted the file


def _content(folder: Path) -> str | None:
    """What keeps a new run out of a folder, in words; None if nothing does.

    Hidden files, token ids and the files of a run that has trained nothing keep no run out.
    """
    names = {name for name in os.listdir(folder) if not name.startswith(".")}
    checkpoints = [path.stem.partition("-")[2] for path in _checkpoints(folder)]
    if any(step.strip("0") for step in checkpoints):
        return "holds a training run; resume=True goes on with it, overwrite=True replaces it"
    if checkpoints:  # of step 0 alone
        names -= _RUN - {DATA}
    if names.intersection(_MODEL):
        return "holds a model, but no run that resume=True could go on with; overwrite=True replaces it"
    if DATA in names and _is_shards(folder / DATA):
        names.remove(DATA)
    if names:
        return (
            f"holds files that are not of a run ({min(names)}), so there is none for resume=True; choose another "
            "folder; overwrite=True replaces what has the name of a run's file, and leaves the others"
        )
    return None


def _checkpoints(folder: Path) -> list[Path]:
    return CheckpointFolder(folder / CHECKPOINTS, 1).files()


def _is_shards(folder: Path) -> bool:
    """Whether all files of a folder are token ids, as `write_shards` leaves them, finished or not."""
    try:
        names = {name for name in os.listdir(folder) if not name.startswith(".")}
        if INDEX in names:
            index = read_object(folder / INDEX)
            if not index["format"].startswith("dragoman.data."):
                return False
    except (OSError, ValueError, KeyError, AttributeError):
        return False
    return all(name.endswith((".ids", ".offsets")) for name in names - {INDEX})
