"""Pipes as files: what they give is copied, once, so that it can be read again."""

from __future__ import annotations

import os
import selectors
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

_CHUNK = 1 << 20


@contextmanager
def spooled(paths: Iterable[str], report: Callable[[str], None]) -> Iterator[dict[str, str]]:
    """The pipes among `paths`, each with the name of a copy, which is deleted in the end.

    All pipes are read side by side, because one program may write them all. Errors about the copies name the pipes.

    Args:
        paths: files and pipes, for instance of `<(command)` in bash.
        report: called with a line that names the pipes, before they are read.

    Raises:
        OSError: a pipe cannot be read, or no copy written.
    """
    pipes = pipes_among(paths)
    if not pipes:
        yield {}
        return
    report(f"reading {', '.join(pipes)}")
    with TemporaryDirectory(prefix="dragoman-") as folder:
        first = {identity: path for path, identity in reversed(pipes.items())}  # one pipe may have several names
        files = {pipe: f"{folder}/{number}-{Path(pipe).name}" for number, pipe in enumerate(first.values())}
        _copy(files)
        copies = {path: files[first[identity]] for path, identity in pipes.items()}
        try:
            yield copies
        except ValueError as error:
            text = str(error)
            for pipe, copy in copies.items():
                text = text.replace(copy, pipe)
            raise ValueError(text) from error


def pipes_among(paths: Iterable[str]) -> dict[str, tuple[int, int]]:
    """The pipes among `paths`, each with what identifies it."""
    return {path: identity for path in paths if (identity := _pipe(path)) is not None}


def _pipe(path: str) -> tuple[int, int] | None:
    """What identifies a pipe; None for anything else."""
    try:
        status = os.stat(path)
    except OSError:
        return None  # whoever reads it says so
    return (status.st_dev, status.st_ino) if stat.S_ISFIFO(status.st_mode) else None


def _copy(copies: dict[str, str]) -> None:
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for pipe, copy in copies.items():
            descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # does not wait for a writer
            stack.callback(os.close, descriptor)
            selector.register(descriptor, selectors.EVENT_READ, stack.enter_context(open(copy, "wb")))
        while selector.get_map():
            for key, _ in selector.select():
                if chunk := os.read(key.fd, _CHUNK):
                    key.data.write(chunk)
                else:
                    selector.unregister(key.fd)
