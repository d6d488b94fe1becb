"""Lines from a file descriptor, handed on as soon as they have come."""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Iterator

_READ = 1 << 16  # bytes, as much as a pipe holds


def arriving_lines(descriptor: int, most: int) -> Iterator[list[bytes]]:
    """Lists of lines with their line feeds: those that have come, at most `most` at a time.

    It waits only for the first line of a list. A last line may have no line feed.

    Raises:
        OSError: the descriptor cannot be read.
    """
    lines: list[bytes] = []
    rest: list[bytes] = []  # of a line that has not ended
    ended = False
    while True:
        while not ended and (not lines or (len(lines) < most and _has_come(descriptor, 0))):
            _has_come(descriptor, None)  # a descriptor in non-blocking mode is waited for, too
            chunk = os.read(descriptor, _READ)
            ended = not chunk
            *whole, begun = chunk.split(b"\n")
            if whole:
                whole[0] = b"".join([*rest, whole[0]])
                lines += [line + b"\n" for line in whole]
                rest = []
            rest.append(begun)
        if ended and (last := b"".join(rest)):
            lines.append(last)
            rest = []
        if not lines:
            return
        yield lines[:most]
        del lines[:most]


def count_lines(descriptor: int) -> int | None:
    """How many line feeds are still to be read from a regular file; None for anything else."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return None
    place, count = os.lseek(descriptor, 0, os.SEEK_CUR), 0
    while chunk := os.pread(descriptor, 1 << 20, place):
        place += len(chunk)
        count += chunk.count(b"\n")
    return count


def _has_come(descriptor: int, seconds: float | None) -> bool:
    """Whether a read would not wait. Waits for that so many seconds, without limit for None."""
    return bool(select.select([descriptor], [], [], seconds)[0])
