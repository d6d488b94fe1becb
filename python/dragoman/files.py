"""Files that appear whole or not at all, and safetensors files written and read array by array.

Reading is by the safetensors library. Its writer holds the whole file in memory, so writing is done here.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

_PREFIX = ".dragoman-"  # of temporary files

_CHUNK = 1 << 24

DIGEST = b'"sha256":"'  # before the digest in a header; quotes inside other fields are escaped, so it occurs once

BLANK = b"0" * 64  # stands for the digest while it is taken

_KINDS = {"f": "F", "i": "I", "u": "U"}

# Of arrays that NumPy, with ml_dtypes, can hold.
_DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")


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


class SafetensorsFile:
    """A safetensors file, opened for reading; an array is read when it is asked for.

    Attributes:
        path: of the file.
        metadata: of the file, texts by name.
        sizes: the number of values of each array, by name.

    Raises:
        OSError: the file cannot be read.
        ValueError: naming the file, when it is damaged, or has an array of a dtype that NumPy has not.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        try:
            opened: Any = safe_open  # the library's stub leaves it untyped
            self._file = opened(str(path), framework="np")
        except SafetensorError as error:
            raise ValueError(f"{path}: not a safetensors file ({error})") from None
        self.metadata: dict[str, str] = self._file.metadata() or {}
        self.sizes: dict[str, int] = {}
        for name in self._file.keys():  # noqa: SIM118 (the library's object is no mapping)
            header = self._file.get_slice(name)
            if (dtype := header.get_dtype()) not in _DTYPES:
                raise ValueError(f"{path}: array {name} must have a dtype among {', '.join(_DTYPES)}, got {dtype}")
            self.sizes[name] = math.prod(header.get_shape())

    def array(self, name: str) -> npt.NDArray[Any]:
        """One array, in memory of its own."""
        array: npt.NDArray[Any] = self._file.get_tensor(name)
        return array
