"""Shards: a dataset on the disk. Batches are read from mapped files when they are needed."""

from __future__ import annotations

import json
import mmap
import os
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt

from dragoman import arguments
from dragoman.arguments import shown
from dragoman.data.columns import ID_DTYPE, ColumnDigest, Columns, Ids, Lengths, flat_ids, lengths_of
from dragoman.data.pairs import SIDES, encode_pairs
from dragoman.data.text import Column, File, Files, as_files, check_rereadable, iter_parallel
from dragoman.data.tokenizer import Tokenizer
from dragoman.files import AtomicFile, atomic_write, made_folder
from dragoman.json_file import read_object

FORMAT = "dragoman.data.shards.2"
INDEX = "data.json"  # written last: without it there are no shards

Example = TypeVar("Example")
Row = tuple[Ids, ...]  # one cell a column

_BLOCK = 8192  # examples that are encoded together
_OFFSETS = np.dtype("<i8")
_DTYPES: dict[str, np.dtype[Any]] = {"ids": ID_DTYPE, "offsets": _OFFSETS}
_REPORT_SECONDS = 10.0


class Shards(Sequence[Row]):
    """A dataset on the disk. `Trainer.fit` and `Batches` take it like one in memory.

    For each column a folder holds `NAME.ids` (int32, all rows end to end) and `NAME.offsets` (int64, rows + 1, where
    each begins and the last one ends). The files stay open: new shards in the same folder do not change these.
    Every read maps the files and unmaps them: memory does not grow with the corpus, and threads share nothing.

    The content is read once when the shards are opened, and compared with the SHA-256 of each column.

    Args:
        folder: written by `write_shards` or `tokenize`.

    Raises:
        OSError: a file is missing.
        ValueError: a file has another format, size or content, naming it.
    """

    def __init__(self, folder: str | Path) -> None:
        arguments.check_path("Shards", "folder", folder)
        self._read(Path(folder))
        self._verify()

    def _read(self, folder: Path) -> None:
        """Opens the files. The index goes before a file of another content comes, so one index has one content."""
        self.folder = folder
        index = _read_index(folder / INDEX)
        self._count: int = index["rows"]
        self._digests = {name: column["digest"] for name, column in index["columns"].items()}
        self._files: dict[tuple[str, str], int] = {}
        for name, column in index["columns"].items():
            for part, items in (("ids", column["ids"]), ("offsets", self._count + 1)):
                self._files[name, part] = self._open(f"{name}.{part}", items * _DTYPES[part].itemsize)
        if _read_index(folder / INDEX) != index:
            raise ValueError(f"{folder / INDEX}: must not change while it is read")

    @classmethod
    def _just_written(cls, folder: Path) -> Shards:
        """The shards in a folder, whose digests were taken a moment ago."""
        shards = cls.__new__(cls)
        shards._read(folder)
        return shards

    def _verify(self) -> None:
        """ValueError unless every column has the digest that the index says."""
        for name, expected in self._digests.items():
            if (got := self._digest(name)) != expected:
                raise ValueError(f"{self.folder / name}.ids: damaged: SHA-256 must be {shown(expected)}, got {got}")

    def _digest(self, name: str) -> str:
        """The `ColumnDigest` of a column as it is on the disk."""
        digest = ColumnDigest()
        ids, offsets = self._map(name, "ids"), self._map(name, "offsets")
        if offsets[0] != 0 or offsets[-1] != len(ids):
            raise ValueError(f"{self.folder / name}.offsets: must run from 0 to {len(ids)}")
        for first in range(0, self._count, _BLOCK):
            block = offsets[first : first + _BLOCK + 1]
            if (block[1:] < block[:-1]).any() or block[-1] > len(ids):
                raise ValueError(f"{self.folder / name}.offsets: must not fall, and end at {len(ids)}")
            digest.update(ids[block[0] : block[-1]], np.diff(block))
        return digest.hexdigest()

    @property
    def names(self) -> tuple[str, ...]:
        """The columns."""
        return tuple(self._digests)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        chosen = range(self._count)[index]
        rows = list(zip(*self.take(chosen if isinstance(chosen, range) else [chosen]).values(), strict=True))
        return rows if isinstance(chosen, range) else rows[0]

    def lengths(self, first: int, last: int) -> Lengths:
        """How many ids the rows [first, last) hold: int64 (rows,) for each column."""
        return {name: np.diff(self._map(name, "offsets")[first : last + 1]) for name in self.names}

    def take(self, indices: Sequence[int]) -> Columns:
        """Some rows."""
        return {name: self._cells(name, indices) for name in self.names}

    def digests(self) -> dict[str, str]:
        """The `ColumnDigest` of each column, computed when it was written."""
        return dict(self._digests)

    def _cells(self, name: str, indices: Sequence[int]) -> list[Ids]:
        ids, offsets = self._map(name, "ids"), self._map(name, "offsets")
        return [ids[offsets[i] : offsets[i + 1]].tolist() for i in indices]

    def _map(self, name: str, part: str) -> npt.NDArray[Any]:
        descriptor = self._files[name, part]
        if not os.fstat(descriptor).st_size:  # cannot be mapped
            return np.empty(0, _DTYPES[part])
        mapped: npt.NDArray[Any] = np.frombuffer(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ), _DTYPES[part])
        return mapped

    def _open(self, name: str, size: int) -> int:
        path = self.folder / name
        arguments.check_regular(path)
        descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, descriptor)
        if (got := os.fstat(descriptor).st_size) != size:
            raise ValueError(f"{path}: must have {size} bytes, got {got}")
        return descriptor


def tokenize(
    tokenizer: Tokenizer,
    source: Files,
    target: Files,
    folder: str | Path,
    report: Callable[[str], None] | None = None,
) -> Shards:
    """Parallel text as shards with the columns "source" and "target": see `write_shards`.

    Args:
        tokenizer: turns text into ids.
        source, target: as for `iter_parallel`.
        folder, report: as for `write_shards`.

    Raises:
        OSError, ValueError: as `iter_parallel`.
    """
    arguments.check_has("tokenize", "tokenizer", tokenizer, "digest")
    files = dict(zip(SIDES, (source, target), strict=True))
    encode = partial(encode_pairs, tokenizer)
    made_of = {"tokenizer": tokenizer.digest()}
    return write_shards(folder, files, made_of, lambda: iter_parallel(source, target), encode, report, unit="pair")


def write_shards(
    folder: str | Path,
    files: Mapping[str, Files],
    made_of: Mapping[str, Any],
    read: Callable[[], Iterable[Example]],
    encode: Callable[[list[Example]], Columns],
    report: Callable[[str], None] | None = None,
    *,
    unit: str = "example",
) -> Shards:
    """The examples in files, as shards. The shards in `folder` are used again if they were made from the same files.

    Memory holds some thousand examples. New files are written beside the old ones and then renamed. A crash leaves the
    old shards or none, never wrong ones, and a run that has the old shards open keeps them.

    Args:
        folder: of the shards; made where missing.
        files: the files, by name. They are the same if path, size and time of change are.
        made_of: everything else that the ids depend on, as JSON values.
        read: returns the examples in the files.
        encode: from some examples to their columns.
        report: called every ten seconds with a line about the progress.
        unit: the word for an example in reports.

    Raises:
        OSError, ValueError: from `read`; ValueError when there is no example.
    """
    op = "write_shards"
    arguments.check_path(op, "folder", folder)
    arguments.check_types(op, Mapping, files=files, made_of=made_of)
    arguments.check_callable(op, read=read, encode=encode)
    folder = Path(folder)
    named = {name: [_identity(path) for path in as_files(paths)] for name, paths in files.items()}
    identity = {**made_of, "files": named}
    try:
        if _read_index(folder / INDEX)["made_of"] == identity:
            return Shards(folder)
    except (FileNotFoundError, ValueError):
        pass
    with ExitStack() as stack:
        stack.enter_context(made_folder(folder))
        writers: dict[str, _Column] = {}
        count, reported = 0, time.monotonic()
        for block in _blocks(read()):
            for name, cells in encode(block).items():
                if name not in writers:
                    writers[name] = _Column(folder, name, stack)
                writers[name].write(cells)
            count += len(block)
            if report is not None and time.monotonic() - reported >= _REPORT_SECONDS:
                reported = time.monotonic()
                report(f"{count:,} {unit}s tokenized")
        if not count:
            raise ValueError(f"{folder}: no {unit}s to write")
        (folder / INDEX).unlink(missing_ok=True)
        columns = {name: writer.finish() for name, writer in writers.items()}
    index = {"format": FORMAT, "rows": count, "columns": columns, "made_of": identity}
    atomic_write(folder / INDEX, json.dumps(index, indent=2).encode())
    return Shards._just_written(folder)


class _Column:
    """Writes the files of one column."""

    def __init__(self, folder: Path, name: str, stack: ExitStack) -> None:
        self._name = name
        self._ids = stack.enter_context(AtomicFile(folder / f"{name}.ids"))
        self._offsets = stack.enter_context(AtomicFile(folder / f"{name}.offsets"))
        self._offsets.write(np.zeros(1, _OFFSETS).tobytes())
        self._digest = ColumnDigest()
        self._rows = self._count = 0

    def write(self, cells: Sequence[Ids]) -> None:
        ids, lengths = flat_ids(self._name, cells, self._rows), lengths_of(cells)
        self._digest.update(ids, lengths)
        self._ids.write(ids.tobytes())
        self._offsets.write((self._count + np.cumsum(lengths)).astype(_OFFSETS).tobytes())
        self._rows += len(cells)
        self._count += len(ids)

    def finish(self) -> dict[str, Any]:
        """Puts the files in their places; returns the column's entry in the index."""
        self._ids.commit()
        self._offsets.commit()
        return {"ids": self._count, "digest": self._digest.hexdigest()}


def _blocks(examples: Iterable[Example]) -> Iterator[list[Example]]:
    iterator = iter(examples)
    while block := list(islice(iterator, _BLOCK)):
        yield block


def _identity(path: File) -> list[str | int]:
    """Name, size and time of change of a file, and the column."""
    check_rereadable(path)
    status = os.stat(path)
    column = [path.column] if isinstance(path, Column) else []
    return [str(Path(path).resolve()), status.st_size, status.st_mtime_ns, *column]


def _read_index(path: Path) -> dict[str, Any]:
    index = read_object(path)
    if (got := index.get("format")) != FORMAT:
        raise ValueError(f"{path}: not the index of shards (format must be {FORMAT}, got {shown(got)})")
    rows, columns = index.get("rows"), index.get("columns")
    if type(rows) is not int or not 1 <= rows < 1 << 48:
        raise ValueError(f"{path}: not the index of shards (rows must be an int above 0, got {shown(rows)})")
    if not isinstance(columns, dict) or not columns or "made_of" not in index:
        raise ValueError(f"{path}: not the index of shards (columns and made_of must be given)")
    for name, column in columns.items():
        if not name.isidentifier() or len(name) > 100:  # it names files
            raise ValueError(f"{path}: not the index of shards (a column must be a name, got {shown(name)})")
        _check_column(f"{path}: not the index of shards (column {shown(name)}", column)
    return index


def _check_column(origin: str, column: Any) -> None:
    ids = column.get("ids") if isinstance(column, dict) else None
    if type(ids) is not int or not 0 <= ids < 1 << 48:
        raise ValueError(f"{origin} must have ids, an int of at least 0, got {shown(ids)})")
    if type(column.get("digest")) is not str:
        raise ValueError(f"{origin} must have a digest, a text, got {shown(column.get('digest'))})")
