"""Text files: lines, pairs of lines, samples."""

from __future__ import annotations

import codecs
import os
import random
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from dragoman import arguments
from dragoman.data.compressed import iter_bytes


@dataclass(frozen=True)
class Column(os.PathLike[str]):
    """One column of a file of tab-separated values; it stands where a file of text may. Cells are not quoted.

    Args:
        path: of the file.
        column: its number, from 1, or its name in the first line, which then is no text.
    """

    path: str | Path
    column: int | str

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __str__(self) -> str:
        return f"{self.path} (column {self.column})"


File = str | Path | Column
Files = File | Sequence[File]  # one or several


def iter_lines(path: File) -> Iterator[str]:
    """The lines of a UTF-8 text file. Only a line feed ends a line. Memory holds one line.

    A file may be compressed, as its ending says: `.gz`, `.bz2`, `.xz`, and `.zst` from Python 3.14 on.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: a damaged file, bytes that are not UTF-8, a line of more than 16 MiB or without the column, naming
            the line.
    """
    arguments.check_path("lines", "path", path)
    lines = (decode_line(line, path, number) for number, line in enumerate(iter_bytes(os.fspath(path)), 1))
    return _cells(path, lines) if isinstance(path, Column) else lines


def _cells(file: Column, lines: Iterator[str]) -> Iterator[str]:
    place = file.column
    skipped = isinstance(place, str)
    if isinstance(place, str):
        names = next(lines, "").split("\t")
        if place not in names:
            raise ValueError(f"{file.path}: has no column {place!r} in its first line, only {', '.join(names)}")
        place = 1 + names.index(place)
    for number, line in enumerate(lines, 1 + skipped):
        cells = line.split("\t")
        if len(cells) < place:
            raise ValueError(f"{file.path}: line {number} has {len(cells)} columns, too few for column {file.column}")
        yield cells[place - 1]


def read_lines(path: File) -> list[str]:
    """All lines of `iter_lines`, as a list."""
    return list(iter_lines(path))


def decode_line(line: bytes, path: File, number: int) -> str:
    """One line as text, without its ending and, on line 1, without a byte order mark.

    Raises ValueError, naming file and line, if it is not UTF-8 or the file has other line endings.
    """
    if number == 1:
        line = line.removeprefix(codecs.BOM_UTF8)
        marked = line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        if marked or 4 * line.count(0) > len(line):  # of Latin letters in UTF-16, every other byte is 0
            raise ValueError(f"{path}: looks like UTF-16; make it UTF-8, for instance by iconv -f UTF-16 -t UTF-8")
        if not line.endswith(b"\n") and b"\r" in line.rstrip(b"\r"):
            raise ValueError(
                f"{path}: its lines end in carriage returns alone; make them line feeds, by tr '\\r' '\\n'"
            )
    try:
        return line.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: line {number} is not UTF-8") from None


def iter_texts(files: Files) -> Iterator[str]:
    """The lines of one file or several in which there is anything to read. Memory holds one line.

    Raises:
        OSError, ValueError: as in `iter_lines`; ValueError for files without such a line.
    """
    count = 0
    for path in as_files(files):
        for line in iter_lines(path):
            if line.strip():
                count += 1
                yield line
    if not count:
        raise ValueError(f"{as_files(files)[0]} has no lines of text")


def iter_parallel(source: Files, target: Files) -> Iterator[tuple[str, str]]:
    """Pairs of lines: line i of one file is the translation of line i of the other. Memory holds one pair.

    A tab inside a line is text, which is said once by a UserWarning.

    Args:
        source: a file, or several, read one after the other.
        target: as many files; each has as many lines as its source.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: different numbers of files or lines, a file without lines, an empty line, or as in `iter_lines`.
    """
    sources, targets = as_files(source, "lines", "source"), as_files(target, "lines", "target")
    if len(sources) != len(targets):
        raise ValueError(f"source has {len(sources)} files, target has {len(targets)}: they must pair up")
    told = False
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
                    raise ValueError(f"{path}: line {number + _skipped(path)} is empty")
                if not told and "\t" in line:
                    told = True
                    warnings.warn(f"{path}: line {number} holds a tab, which {_TABS}", stacklevel=2)
            yield pair[0], pair[1]
        if not number:
            raise ValueError(f"{paths[0]} has no lines")


def read_parallel(source: Files, target: Files) -> list[tuple[str, str]]:
    """All pairs of `iter_parallel`, as a list."""
    return list(iter_parallel(source, target))


def as_files(files: Files, op: str = "lines", name: str = "files") -> list[File]:
    """TypeError, in the name of `op` and `name`, for what is neither a path nor a list of paths."""
    if isinstance(files, str | Path | Column):
        arguments.check_path(op, name, files)
        return [files]
    if not isinstance(files, Sequence) or isinstance(files, bytes):
        raise TypeError(f"{op}: {name} must be a path or a list of paths, got {type(files).__name__}")
    for i, path in enumerate(files):
        arguments.check_path(op, f"{name}[{i}]", path)
    return list(files)


def check_rereadable(path: File) -> None:
    """ValueError for a pipe or a device, which can be read once and has no size. OSError if the file is missing."""
    arguments.check_regular(path, ", because it is read more than once")


_TABS = "stays in the text; one column of a file can be chosen (option --columns, dragoman.data.Column)"


def _skipped(path: File) -> int:
    """Lines before the text."""
    return int(isinstance(path, Column) and isinstance(path.column, str))


def sample_lines(files: Files, max_bytes: int) -> Iterator[str]:
    """All lines of the files, or a random sample of about `max_bytes` bytes where the files are larger.

    The same files give the same lines.

    Args:
        files: one or several, as for `iter_lines`.
        max_bytes: limit, compared with the size of the files on the disk.

    Raises:
        OSError, ValueError: as in `iter_lines`; ValueError for a pipe.
    """
    max_bytes = arguments.integer("sample_lines", "max_bytes", max_bytes)
    return sample_texts((line for path in as_files(files) for line in iter_lines(path)), files, max_bytes)


def sample_texts(texts: Iterable[str], files: Files, max_bytes: int) -> Iterator[str]:
    """All texts, or a random sample where the files that they come from have more than about `max_bytes` bytes.

    Raises:
        OSError: a file is missing.
        ValueError: a pipe.
    """
    paths = as_files(files)
    for path in paths:
        check_rereadable(path)
    share = min(1.0, max_bytes / max(1, sum(os.path.getsize(path) for path in paths)))
    draw = random.Random(0).random
    for text in texts:
        if share == 1.0 or draw() < share:
            yield text
