"""Standard streams that are closed, full or without a reader."""

from __future__ import annotations

import io
import os
import sys

_STREAMS = (("stdin", os.O_RDONLY), ("stdout", os.O_RDONLY), ("stderr", os.O_WRONLY))


def open_closed_streams() -> None:
    """Gives a file to each standard stream that is closed, as by `>&-`: otherwise the next file opened has its number.

    Reading finds the end, errors go nowhere, and a write to standard output fails, because it would be lost.
    """
    for number, (name, flags) in enumerate(_STREAMS):
        if getattr(sys, name) is None:
            _replace(number, flags)
            setattr(sys, name, open(number, "r" if name == "stdin" else "w", closefd=False))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name or a text that the terminal's encoding has not


def flush_or_drop() -> None:
    """Drops the end of standard output if nobody can take it, so that Python does not try again when it exits."""
    try:
        sys.stdout.flush()
    except OSError:
        _replace(sys.stdout.fileno(), os.O_WRONLY)


def _replace(number: int, flags: int) -> None:
    descriptor = os.open(os.devnull, flags)
    if descriptor != number:
        os.dup2(descriptor, number)
        os.close(descriptor)
