"""Text files: lines, pairs of lines, samples."""

from __future__ import annotations

import codecs
import gzip
import os
import random
import zlib
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

Files = str | Path | Sequence[str | Path]  # one or several


def iter_lines(path: str | Path) -> Iterator[str]:
    """The lines of a UTF-8 text file, plain or `.gz`. Only a line feed ends a line. Memory holds one line.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: a broken gzip file, or bytes that are not UTF-8, naming the line.
    """
    packed = str(path).endswith(".gz")
    with open(path, "rb") as raw, gzip.GzipFile(fileobj=raw) if packed else raw as file:
        number = 0
        while True:
            try:
                line = file.readline()
            except (gzip.BadGzipFile, EOFError, zlib.error) as error:
                raise ValueError(f"{path}: not a gzip file ({error})") from None
            if not line:
                return
            number += 1
            yield decode_line(line.removeprefix(codecs.BOM_UTF8) if number == 1 else line, path, number)


def read_lines(path: str | Path) -> list[str]:
    """All lines of `iter_lines`, as a list."""
    return list(iter_lines(path))


def decode_line(line: bytes, path: str | Path, number: int) -> str:
    """One line as text, without its ending. Raises ValueError, naming file and line, if it is not UTF-8."""
    try:
        return line.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: line {number} is not UTF-8") from None


def iter_parallel(source: Files, target: Files) -> Iterator[tuple[str, str]]:
    """Pairs of lines: line i of one file is the translation of line i of the other. Memory holds one pair.

    Args:
        source: a file, or several, read one after the other.
        target: as many files; each has as many lines as its source.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: different numbers of files or lines, a file without lines, an empty line, or as in `iter_lines`.
    """
    sources, targets = as_files(source), as_files(target)
    if len(sources) != len(targets):
        raise ValueError(f"source has {len(sources)} files, target has {len(targets)}: they must pair up")
    for paths in zip(sources, targets, strict=True):
        number = 0
        sides = [iter_lines(path) for path in paths]
        for number, pair in enumerate(zip_longest(*sides), 1):
            if None in pair:
                more = 1 + sum(1 for lines in sides for _ in lines)
                counts = [number - 1 + (0 if line is None else more) for line in pair]
                raise ValueError(f"{paths[0]} has {counts[0]} lines, {paths[1]} has {counts[1]}: they must pair up")
            for path, line in zip(paths, pair, strict=True):
                if not line.strip():
                    raise ValueError(f"{path}: line {number} is empty")
            yield pair[0], pair[1]
        if not number:
            raise ValueError(f"{paths[0]} has no lines")


def read_parallel(source: Files, target: Files) -> list[tuple[str, str]]:
    """All pairs of `iter_parallel`, as a list."""
    return list(iter_parallel(source, target))


def as_files(files: Files) -> list[str | Path]:
    return [files] if isinstance(files, str | Path) else list(files)


def sample_lines(files: Files, max_bytes: int) -> Iterator[str]:
    """All lines of the files, or a random sample of about `max_bytes` bytes where the files are larger.

    The same files give the same lines.

    Args:
        files: one or several, plain or `.gz`.
        max_bytes: limit, compared with the size of the files on the disk.

    Raises:
        OSError, ValueError: as in `iter_lines`.
    """
    paths = as_files(files)
    share = min(1.0, max_bytes / max(1, sum(os.path.getsize(path) for path in paths)))
    draw = random.Random(0).random
    for path in paths:
        for line in iter_lines(path):
            if share == 1.0 or draw() < share:
                yield line
