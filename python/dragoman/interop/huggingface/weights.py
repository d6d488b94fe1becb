"""Tensors: the weights of a checkpoint of theirs, in one file or several, read one by one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dragoman import _core
from dragoman.arguments import shown
from dragoman.files import ArrayHeader, SafetensorsFile
from dragoman.json_file import read_object

_CHUNK = 1 << 20  # values that are read at a time

_FLOATS = ("float64", "float32", "float16", "bfloat16")

# The files that may hold the weights, the first that exists does; an index lists files of the same kind.
_NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


class WeightFile(Protocol):
    """A file of arrays, SafetensorsFile or TorchFile."""

    @property
    def path(self) -> str | Path: ...

    @property
    def headers(self) -> Mapping[str, ArrayHeader]: ...

    def values(self, name: str, begin: int, end: int) -> npt.NDArray[Any]:
        """The values [begin, end) of an array, in C order, in its dtype."""

    def fill(self, name: str, begin: int, out: _core.Tensor) -> None:
        """Fills a float32 tensor on the CPU with the values of an array of floats, in C order, from `begin` on."""


class Tensors(Mapping[str, ArrayHeader]):
    """Shape and dtype of each tensor by name; the values are read when they are asked for, and widened to float32.

    Args:
        path: of the file, or of the index that lists the files.
        files: by the name of each tensor the file that holds it.
        aliases: regex rules that give a tensor another name, see Family.

    Without arguments there are no tensors.

    Raises:
        ValueError: two tensors of other values have one name after `aliases`.
    """

    def __init__(
        self,
        path: str | Path = "",
        files: Mapping[str, WeightFile] | None = None,
        aliases: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.path = Path(path)
        self._found: dict[str, tuple[WeightFile, str]] = {}
        for name, file in (files or {}).items():
            known = name
            for pattern, replacement in aliases:
                known = re.sub(pattern, replacement, known)
            if known in self._found and not _same((file, name), self._found[known]):
                other = self._found[known][1]
                raise ValueError(f"{self.path}: {shown(name)} and {shown(other)} must be equal, as one tensor")
            self._found.setdefault(known, (file, name))

    def add(self, prefix: str, other: Tensors) -> None:
        """Adds the tensors of another file, each with a prefix before its name."""
        self._found |= {prefix + name: found for name, found in other._found.items()}

    def __getitem__(self, name: str) -> ArrayHeader:
        file, stored = self._found[name]
        return file.headers[stored]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def array(self, name: str) -> npt.NDArray[np.float32]:
        """One tensor, float32. ValueError, naming the file, for one that holds no floats."""
        array = np.empty(self[name].shape, np.float32)
        self.fill(name, 0, _core.Tensor.from_numpy(array, "float32"))
        return array

    def fill(self, name: str, begin: int, out: _core.Tensor) -> None:
        """Fills a float32 tensor of the core, on the CPU, with the values of a tensor from `begin` on, in C order.
        ValueError as of `array`."""
        self.check_floats(name)
        file, stored = self._found[name]
        file.fill(stored, begin, out)

    def check_floats(self, name: str) -> None:
        """ValueError, naming the file, for a tensor that holds no floats."""
        dtype = str(self[name].dtype)
        if dtype not in _FLOATS:
            raise ValueError(f"{self.stored(name)} must be one of {', '.join(_FLOATS)}, got {dtype}")

    def same(self, name: str, other: str) -> bool:
        """Whether two tensors have the same shape and values."""
        return _same(self._found[name], self._found[other])

    def tied(self, name: str, other: str) -> bool:
        """Whether one tensor stands for both names: one of them is missing, or they are the same."""
        return name not in self or other not in self or self.same(name, other)

    def stored(self, name: str) -> str:
        """Where a tensor is, for a message: the file and the name that it has there."""
        file, stored = self._found[name]
        return f"{file.path}: {shown(stored)}"

    def dtypes(self) -> list[str]:
        """The dtypes of all tensors, the most frequent first."""
        found = [str(header.dtype) for header in self.values()]
        return sorted(set(found), key=lambda dtype: (-found.count(dtype), dtype))


def open_tensors(folder: Path, aliases: Sequence[tuple[str, str]] = ()) -> Tensors:
    """The weights in a folder: safetensors, or files of torch.save, in one file or in several that an index lists.

    Raises:
        OSError: there are none, or a file cannot be read.
        ValueError: naming the file and what is wrong in it.
    """
    path = next((folder / name for name in _NAMES if (folder / name).exists()), folder / _NAMES[0])
    if path.suffix != ".json":
        file = _open(path)
        return Tensors(path, dict.fromkeys(file.headers, file), aliases)
    listed = read_object(path).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise ValueError(f"{path}: weight_map must be an object with names of files, got {shown(listed)}")
    suffix = Path(path.stem).with_suffix("").suffix
    for name, shard in listed.items():
        if not isinstance(shard, str) or Path(shard).name != shard or Path(shard).suffix != suffix:
            raise ValueError(f"{path}: {shown(name)} must be in a {suffix} file beside it, got {shown(shard)}")
    for shard in listed.values():
        if not (folder / shard).is_file():
            raise ValueError(f"{path}: weight_map must name files that exist, got {shown(shard)}")
    shards = {shard: _open(folder / shard) for shard in sorted(set(listed.values()))}
    for name, shard in listed.items():
        if name not in shards[shard].headers:
            raise ValueError(f"{folder / shard}: must hold {shown(name)}, as {path.name} says")
    _check_listed(shards, listed)
    return Tensors(path, {name: shards[shard] for name, shard in listed.items()}, aliases)


def _open(path: Path) -> WeightFile:
    if path.suffix == ".safetensors":
        return SafetensorsFile(path)
    from dragoman.interop.huggingface.torch_file import TorchFile

    return TorchFile(path)


def _check_listed(shards: Mapping[str, WeightFile], listed: Mapping[str, str]) -> None:
    """ValueError for a tensor that a file holds and the index does not list there."""
    for shard, file in shards.items():
        extra = [name for name in file.headers if listed.get(name) != shard]
        if extra:
            raise ValueError(f"{file.path}: {shown(extra[0])} must be listed in the index of the files")


def _same(one: tuple[WeightFile, str], other: tuple[WeightFile, str]) -> bool:
    (file, name), (file_of_other, name_of_other) = one, other
    header, header_of_other = file.headers[name], file_of_other.headers[name_of_other]
    if header.shape != header_of_other.shape:
        return False
    pairs: Iterable[Any] = zip(_chunks(file, name), _chunks(file_of_other, name_of_other), strict=True)
    return all(np.array_equal(values, others) for (_, values), (_, others) in pairs)


def _chunks(file: WeightFile, name: str) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """The values of a tensor in C order, some at a time, each with its place."""
    size = int(np.prod(file.headers[name].shape, dtype=np.int64))
    for begin in range(0, size, _CHUNK):
        yield begin, file.values(name, begin, min(begin + _CHUNK, size))
