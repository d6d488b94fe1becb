"""Shards: the token ids of a corpus on the disk, from where batches are mapped as they are needed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, overload

import numpy as np
import numpy.typing as npt

from dragoman.data.batches import Lengths, Pair, Sides, source_ids, target_ids
from dragoman.data.text import Files, as_files, iter_parallel
from dragoman.data.tokenizer import Tokenizer
from dragoman.files import atomic_write

FORMAT = "dragoman.data.shards.1"
INDEX = "data.json"  # written last: without it there are no shards
NAMES = ("source", "target")

_BLOCK = 8192  # pairs that are tokenised together
_IDS, _OFFSETS = np.dtype("<i4"), np.dtype("<i8")
_REPORT_SECONDS = 10.0


class Shards(Sequence[Pair]):
    """Pairs of token ids that stay on the disk; `Trainer.fit` and `Batches` take them as they take a list.

    For each side a folder holds `ids` (int32, all sentences end to end) and `offsets` (int64, pairs + 1, where each
    begins and the last one ends). Every read maps the files and lets go of them, so memory does not grow with the
    corpus, and threads do not share a thing.

    Args:
        folder: that `tokenize` wrote.

    Raises:
        OSError: a file is missing.
        ValueError: naming the file that is not what it should be.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        index = _read_index(self.folder / INDEX)
        self._count: int = index["pairs"]
        for name in NAMES:
            for path, size in (
                (self._path(name, "offsets"), (self._count + 1) * _OFFSETS.itemsize),
                (self._path(name, "ids"), index["tokens"][name] * _IDS.itemsize),
            ):
                if (got := path.stat().st_size) != size:
                    raise ValueError(f"{path}: must have {size} bytes, got {got}")

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> list[Pair]: ...
    def __getitem__(self, index: int | slice) -> Pair | list[Pair]:
        chosen = range(self._count)[index]
        if isinstance(chosen, range):
            return list(zip(*self.sides(chosen), strict=True))
        source, target = self.sides([chosen])
        return source[0], target[0]

    def lengths(self, first: int, last: int) -> Lengths:
        """How many ids the pairs [first, last) have: int64 (pairs,) of sources and of targets."""
        source, target = (np.diff(self._map(name, "offsets")[first : last + 1]) for name in NAMES)
        return source, target

    def sides(self, indices: Sequence[int]) -> Sides:
        """The source and the target ids of some pairs."""
        source, target = (self._rows(name, indices) for name in NAMES)
        return source, target

    def _rows(self, name: str, indices: Sequence[int]) -> list[Sequence[int]]:
        ids, offsets = self._map(name, "ids"), self._map(name, "offsets")
        return [ids[offsets[i] : offsets[i + 1]].tolist() for i in indices]

    def _map(self, name: str, part: str) -> npt.NDArray[Any]:
        mapped = np.memmap(self._path(name, part), _IDS if part == "ids" else _OFFSETS, "r")
        return mapped.view(np.ndarray)  # plain slices are faster; the mapping lives as long as its views

    def _path(self, name: str, part: str) -> Path:
        return self.folder / f"{name}.{part}"


def tokenize(
    tokenizer: Tokenizer,
    source: Files,
    target: Files,
    folder: str | Path,
    report: Callable[[str], None] | None = None,
) -> Shards:
    """The shards of parallel text: those in `folder`, if they were made of the same, otherwise new ones.

    What they are made of is the tokenizer and the files by name, size and time of change. Memory is that of some
    thousand pairs. A crash leaves no shards, never wrong ones.

    Args:
        tokenizer: turns text into ids.
        source, target: as for `iter_parallel`.
        folder: of the shards; made where missing.
        report: is told every ten seconds how far the work is.

    Raises:
        OSError, ValueError: as `iter_parallel`.
    """
    folder = Path(folder)
    made_of = {
        "tokenizer": tokenizer.digest(),
        **{
            name: [_identity(path) for path in as_files(files)]
            for name, files in zip(NAMES, (source, target), strict=True)
        },
    }
    try:
        if _read_index(folder / INDEX)["made_of"] == made_of:
            return Shards(folder)
    except (FileNotFoundError, ValueError):
        pass
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INDEX).unlink(missing_ok=True)
    count, tokens = _write(tokenizer, iter_parallel(source, target), folder, report)
    index = {"format": FORMAT, "pairs": count, "tokens": tokens, "made_of": made_of}
    atomic_write(folder / INDEX, json.dumps(index, indent=2).encode())
    return Shards(folder)


def _write(
    tokenizer: Tokenizer,
    pairs: Iterator[tuple[str, str]],
    folder: Path,
    report: Callable[[str], None] | None,
) -> tuple[int, dict[str, int]]:
    """Writes ids and offsets; returns the number of pairs and of each side's tokens."""
    encode = dict(zip(NAMES, (source_ids, target_ids), strict=True))
    tokens = dict.fromkeys(NAMES, 0)
    count, reported = 0, time.monotonic()
    with ExitStack() as stack:
        files = {
            (name, part): stack.enter_context(open(folder / f"{name}.{part}", "wb"))
            for name in NAMES
            for part in ("ids", "offsets")
        }
        for name in NAMES:
            _append(files[name, "offsets"], [0], _OFFSETS)
        while block := list(islice(pairs, _BLOCK)):
            for name, texts in zip(NAMES, zip(*block, strict=True), strict=True):
                rows = encode[name](tokenizer, texts)
                ends = tokens[name] + np.cumsum([len(ids) for ids in rows])
                _append(files[name, "ids"], chain.from_iterable(rows), _IDS)
                _append(files[name, "offsets"], ends, _OFFSETS)
                tokens[name] = int(ends[-1])
            count += len(block)
            if report is not None and time.monotonic() - reported >= _REPORT_SECONDS:
                reported = time.monotonic()
                report(f"{count:,} pairs tokenized")
        for file in files.values():
            file.flush()
            os.fsync(file.fileno())
    return count, tokens


def _append(file: IO[bytes], values: Iterable[int] | npt.NDArray[Any], dtype: np.dtype[Any]) -> None:
    file.write(np.fromiter(values, dtype).tobytes())


def _identity(path: str | Path) -> list[str | int]:
    """Name, size and time of change of a file."""
    status = os.stat(path)
    return [str(Path(path).resolve()), status.st_size, status.st_mtime_ns]


def _read_index(path: Path) -> dict[str, Any]:
    try:
        index = json.loads(path.read_bytes())
        if index["format"] != FORMAT or any(
            type(number) is not int or number < 0 for number in (index["pairs"], *map(index["tokens"].get, NAMES))
        ):
            raise ValueError("a field has a bad value")
        index["made_of"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: not the index of shards ({error})") from None
    return dict(index)
