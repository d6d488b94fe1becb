"""A file of results that appears whole, while what is done so far is never lost."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from dragoman.files import lock


class OutputFile:
    """Grows as PATH.part and takes its name at `commit`; a context manager.

    PATH.part can be read while it grows. It stays if the work fails after the first write. A pipe or a device is
    written as it is.

    Args:
        path: of the file.

    Raises:
        OSError: the file cannot be written, naming it.
        ValueError: another process writes it.
    """

    def __init__(self, path: str | Path) -> None:
        special = os.path.exists(path) and not os.path.isfile(path)
        self._path = Path(path if special else os.path.realpath(path))
        self._part = self._path if special else self._path.with_name(f"{self._path.name}.part")
        self._written = False
        self._descriptor = os.open(self._part, os.O_WRONLY | os.O_CREAT, 0o666)
        if special:
            return
        try:
            lock(self._descriptor)
        except BlockingIOError:
            os.close(self._descriptor)
            raise ValueError(f"{self._part}: another process writes it") from None
        os.ftruncate(self._descriptor, 0)

    def write(self, data: bytes) -> None:
        """Appends bytes, which other processes see at once."""
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
                self._written = True
        except OSError as error:
            raise type(error)(error.errno, error.strerror, str(self._part)) from None

    def commit(self) -> None:
        """Gives the file its name, once it is on the disk."""
        if self._part != self._path:
            os.fsync(self._descriptor)
            os.replace(self._part, self._path)

    def __enter__(self) -> OutputFile:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        os.close(self._descriptor)
        if kind is None or self._part == self._path:
            return
        if self._written:
            print(f"{self._part} holds what was done before", file=sys.stderr, flush=True)
        else:
            self._part.unlink(missing_ok=True)
