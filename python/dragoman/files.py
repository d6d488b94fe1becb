"""Files that appear whole or not at all, and safetensors files written and read array by array.

The safetensors library's own writer holds the whole file in memory; its reader knows no bfloat16 without PyTorch.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import mmap
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

_PREFIX = ".dragoman-"  # of temporary files

_CHUNK = 1 << 24

DIGEST = b'"sha256":"'  # before the digest in a header; quotes inside other fields are escaped, so it occurs once

BLANK = b"0" * 64  # stands for the digest while it is taken

_KINDS = {"f": "F", "i": "I", "u": "U"}

_DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    **{f"F{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
    **{f"{kind.upper()}{8 * size}": np.dtype(f"<{kind}{size}") for kind in "iu" for size in (1, 2, 4, 8)},
}

_MAX_HEADER = 100_000_000  # bytes, the library's own limit


def atomic_write(path: str | Path, *parts: bytes | memoryview) -> None:
    """Writes a file so that a crash at any moment leaves the old content or the new one, never a mixture.

    The parts, end to end, go to a temporary file in the same folder, which is flushed to the disk and renamed over
    `path`.
    Temporary files of writers that were killed are removed first.

    Raises:
        OSError: naming `path`, when the disk is full or anything else fails.
    """
    path = Path(path)
    try:
        with AtomicFile(path) as file:
            for part in parts:
                file.write(part)
            file.commit()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


class AtomicFile:
    """A file that is written part by part beside its place and takes its name at `commit`; a context manager.

    Temporary files of writers that were killed are removed first.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(f"{_PREFIX}{secrets.token_hex(8)}")
        _remove_stale(path.parent)
        self._descriptor = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)  # until it is closed: not stale
        except OSError:
            self.close()
            raise

    def write(self, data: bytes | memoryview) -> None:
        """Appends bytes."""
        _write(self._descriptor, data)

    def commit(self) -> None:
        """Flushes the file to the disk and renames it over its place."""
        os.fsync(self._descriptor)
        os.replace(self._temporary, self._path)
        _sync(self._path.parent)

    def __enter__(self) -> AtomicFile:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Removes the file if it was not committed."""
        os.close(self._descriptor)
        self._temporary.unlink(missing_ok=True)


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


def write_arrays(
    path: str | Path, arrays: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str], *, digest: bool = False
) -> None:
    """Writes arrays as one safetensors file, atomically; needs no memory but for those that are not contiguous.

    Args:
        path: of the file.
        arrays: of floats or integers, by name.
        metadata: of the file.
        digest: add a field "sha256" to the metadata, of the whole file with the field's 64 digits as zeros.

    Raises:
        OSError: naming the file; what was there before is untouched.
    """
    # The order of the library, in which every array is aligned.
    ordered = dict(sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0])))
    header = _header(ordered, {**metadata, "sha256": BLANK.decode()} if digest else metadata)
    parts = [np.ascontiguousarray(array).reshape(-1).view(np.uint8).data for array in ordered.values()]
    if digest:
        taken = sha256(header)
        for part in parts:
            taken.update(part)
        header = header.replace(DIGEST + BLANK, DIGEST + taken.hexdigest().encode(), 1)
    atomic_write(path, header, *parts)


def _header(arrays: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    fields: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        dtype = f"{_KINDS[array.dtype.kind]}{8 * array.itemsize}"
        fields[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": (begin, end)}
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def read_arrays(path: str | Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a safetensors file by name. Views and errors as in `read_safetensors`."""
    return read_safetensors(path)[0]


def read_safetensors(path: str | Path) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """The arrays of a safetensors file by name, and its metadata.

    The arrays are read-only views of the mapped file: what is not used is not read.

    Raises:
        OSError: the file cannot be read.
        ValueError: naming the file, when it is not one of safetensors, is damaged, or has an array of a dtype that
            NumPy has not.
    """
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _MAX_HEADER):
            raise ValueError(f"{path}: not a safetensors file")
        header = file.read(length)
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))[8 + length :]
    try:
        fields = json.loads(header)
        if not isinstance(fields, dict):
            raise ValueError(f"the header must be an object, got {type(fields).__name__}")
        metadata = fields.pop("__metadata__", {})
        if not isinstance(metadata, dict):
            raise ValueError(f"the metadata must be an object, got {type(metadata).__name__}")
        entries = {name: _entry(name, field) for name, field in fields.items()}
        end = 0
        for name, (_, _, first, last) in sorted(entries.items(), key=lambda item: item[1][2:]):
            if first != end:
                raise ValueError(f"array {name} must begin at byte {end}, got {first}")
            end = last
        if end != len(data):
            raise ValueError(f"must hold {end} bytes of arrays, got {len(data)}")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from None
    arrays = {
        name: np.frombuffer(data[first:last], dtype).reshape(shape)
        for name, (dtype, shape, first, last) in entries.items()
    }
    return arrays, metadata


def _entry(name: str, field: Any) -> tuple[np.dtype[Any], list[int], int, int]:
    """dtype, shape, first byte and end of an array, from its field in the header."""
    if not isinstance(field, dict) or field.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"array {name} must have dtype, shape and data_offsets")
    dtype, shape, offsets = field["dtype"], field["shape"], field["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ValueError(f"array {name} must have a dtype among {', '.join(_DTYPES)}, got {dtype!r}")
    for values in (shape, offsets):
        if not isinstance(values, list) or not all(type(value) is int and 0 <= value < 2**63 for value in values):
            raise ValueError(f"array {name} must have a shape and data_offsets of ints, got {values!r}")
    nbytes = math.prod(shape) * _DTYPES[dtype].itemsize
    if len(offsets) != 2 or offsets[1] - offsets[0] != nbytes:
        raise ValueError(f"array {name} must have data_offsets {nbytes} bytes apart, got {offsets}")
    return _DTYPES[dtype], shape, *offsets
