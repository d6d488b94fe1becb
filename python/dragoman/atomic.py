"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from contextlib import suppress
from pathlib import Path

_PREFIX = ".dragoman-"  # of temporary files
_CHUNK = 1 << 24


def atomic_write(path: str | Path, *parts: bytes | memoryview) -> None:
    """Writes a file so that a crash at any moment leaves the old content or the new one, never a mixture.

    The parts, end to end, go to a temporary file in the same folder, which is flushed to the disk and renamed over
    `path`.
    Temporary files of writers that were killed are removed first.

    Raises:
        OSError: naming `path`, when the disk is full or anything else fails.
    """
    path = Path(path)
    temporary = path.with_name(f"{_PREFIX}{secrets.token_hex(8)}")
    try:
        _remove_stale(path.parent)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # until it has its name: not stale
            for part in parts:
                _write(descriptor, part)
            os.fsync(descriptor)
            os.replace(temporary, path)
        finally:
            os.close(descriptor)
            temporary.unlink(missing_ok=True)
        _sync(path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def _write(descriptor: int, data: bytes | memoryview) -> None:
    left = memoryview(data)
    while left:
        written = os.write(descriptor, left[:_CHUNK])
        if not written:
            raise OSError(errno.EIO, "nothing could be written")
        left = left[written:]


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_stale(folder: Path) -> None:
    """Deletes the temporary files on which no living writer holds its lock."""
    for path in folder.glob(f"{_PREFIX}*"):
        with suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
