"""Files that appear whole or not at all, and safetensors files written and read array by array.

Headers are read by the safetensors library. Its writer holds the whole file in memory, so writing is done here.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from dragoman import _core
from dragoman.arguments import check_regular, shown
from dragoman.arrays import DTYPES
from dragoman.json_file import parse_object

_PREFIX = ".dragoman-"  # of temporary files

_CHUNK = 1 << 24

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)

DIGEST = b'"sha256":"'  # before the digest in a header; quotes inside other fields are escaped, so it occurs once

BLANK = b"0" * 64  # stands for the digest while it is taken

_KINDS = {"f": "F", "i": "I", "u": "U"}

# Of arrays that NumPy, with ml_dtypes, can hold.
_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": DTYPES["bfloat16"],
    **{f"{kind}{bits}": np.dtype(f"{kind.lower()}{bits // 8}") for kind in "IU" for bits in (64, 32, 16, 8)},
    "BOOL": np.dtype(np.bool_),
}


Parts = Sequence[bytes | memoryview]


def atomic_write(path: str | Path, *parts: bytes | memoryview) -> None:
    """Writes a file so that a crash at any moment leaves the old content or the new one, never a mixture.

    The parts, end to end, go to a temporary file in the same folder, which is flushed to the disk and renamed over
    `path`.
    Temporary files of writers that were killed are removed first.

    Raises:
        OSError: naming `path`, when the disk is full or anything else fails.
    """
    atomic_write_all({path: parts})


def atomic_write_all(files: Mapping[str | Path, Parts]) -> None:
    """Writes several files as `atomic_write` does: all of them are on the disk before the first is renamed.

    They are renamed in their order, so a reader can see the first ones new and the others old.

    Raises:
        OSError: naming the file that could not be written.
    """
    with ExitStack() as stack:
        written: dict[str | Path, AtomicFile] = {}
        for path, parts in files.items():
            with _naming(path):
                written[path] = file = stack.enter_context(AtomicFile(Path(path)))
                for part in parts:
                    file.write(part)
                file.flush()
        for path, file in written.items():
            with _naming(path):
                file.rename()


@contextmanager
def _naming(path: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


class AtomicFile:
    """A file that is written part by part beside its place and takes its name at `commit`; a context manager.

    Temporary files of writers that were killed are removed first.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.name:
            raise ValueError(f"path must name a file, got {str(path)!r}")
        self._temporary = path.with_name(f"{_PREFIX}{os.urandom(8).hex()}")
        _remove_stale(path.parent)
        self._descriptor = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            lock(self._descriptor, wait=True)  # not stale
        except OSError:
            self.close()
            raise

    def write(self, data: bytes | memoryview) -> None:
        """Appends bytes."""
        _write(self._descriptor, data)

    def commit(self) -> None:
        """Flushes the file to the disk and renames it over its place."""
        self.flush()
        self.rename()

    def flush(self) -> None:
        """Flushes the file to the disk."""
        os.fsync(self._descriptor)

    def rename(self) -> None:
        """Gives the file, once flushed, its name."""
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


@contextmanager
def made_folder(path: Path) -> Iterator[None]:
    """A context in which the folder exists. After an error, a folder that was made for it and is empty goes again."""
    made = not path.exists()
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if made:
            with suppress(OSError):
                path.rmdir()
        raise


def lock(descriptor: int, *, wait: bool = False) -> bool:
    """Locks an open file for this process, until it is closed.

    Returns:
        False where the file system has no locks, as some of clusters and of phones.

    Raises:
        BlockingIOError: another process holds the lock, and `wait` is False.
        OSError: the lock failed for another reason.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    return True


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
            if lock(file.fileno()):
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
    atomic_write(path, *array_parts(arrays, metadata, digest=digest))


def array_parts(
    arrays: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str], *, digest: bool = False
) -> list[bytes | memoryview]:
    """The parts of a safetensors file, as `write_arrays` writes it."""
    # The order of the library, in which every array is aligned.
    ordered = dict(sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0])))
    header = _header(ordered, {**metadata, "sha256": BLANK.decode()} if digest else metadata)
    parts = [np.ascontiguousarray(array).reshape(-1).view(np.uint8).data for array in ordered.values()]
    if digest:
        taken = sha256(header)
        for part in parts:
            taken.update(part)
        header = header.replace(DIGEST + BLANK, DIGEST + taken.hexdigest().encode(), 1)
    return [header, *parts]


def _header(arrays: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    fields: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        name_of_kind = "BF" if array.dtype == _DTYPES["BF16"] else _KINDS[array.dtype.kind]
        dtype = f"{name_of_kind}{8 * array.itemsize}"
        fields[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": (begin, end)}
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


@dataclass(frozen=True)
class ArrayHeader:
    """What a file says of an array that was not read yet."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class SafetensorsFile:
    """A safetensors file, opened for reading; an array is read when it is asked for.

    Attributes:
        path: of the file.
        metadata: of the file, texts by name.
        headers: shape and dtype of each array, by name.

    Raises:
        OSError: the file cannot be read.
        ValueError: naming the file, when it is damaged, no file but a pipe, or has an array of a dtype that NumPy has
            not.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        check_regular(path)
        try:
            opened: Any = safe_open  # the library's stub leaves it untyped
            file = opened(str(path), framework="np")
        except SafetensorError as error:
            raise ValueError(f"{path}: not a safetensors file ({error})") from None
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)
        self._starts = _starts(path)
        self.metadata: dict[str, str] = file.metadata() or {}
        self.headers: dict[str, ArrayHeader] = {}
        for name in file.keys():  # noqa: SIM118 (the library's object is no mapping)
            header = file.get_slice(name)
            if (dtype := _DTYPES.get(header.get_dtype())) is None:
                raise ValueError(
                    f"{path}: array {shown(name)} must have a dtype among {', '.join(_DTYPES)}, "
                    f"got {header.get_dtype()}"
                )
            self.headers[name] = ArrayHeader(tuple(header.get_shape()), dtype)

    def array(self, name: str) -> npt.NDArray[Any]:
        """One array, in memory of its own. ValueError where the file has become shorter."""
        header = self.headers[name]
        return self.values(name, 0, math.prod(header.shape)).reshape(header.shape)

    def values(self, name: str, begin: int, end: int) -> npt.NDArray[Any]:
        """The values [begin, end) of an array in C order, in memory of their own. ValueError as of `array`."""
        # The library maps the file, and what it has read of it would stay in memory beside the copies.
        values: npt.NDArray[Any] = np.empty(end - begin, self.headers[name].dtype)
        rest, place = values.view(np.uint8).data, self._starts[name] + begin * values.itemsize
        while rest:
            count = os.preadv(self._descriptor, [rest], place)
            if not count:
                raise self._shorter(name)
            rest, place = rest[count:], place + count
        return values

    def fill(self, name: str, begin: int, out: _core.Tensor) -> None:
        """Fills a float32 tensor on the CPU, on all threads, with the values of an array of floats from `begin` on, in
        C order. ValueError as of `array`, and for an array of integers."""
        dtype = self.headers[name].dtype
        if not _core.read_floats(self._descriptor, self._starts[name] + begin * dtype.itemsize, dtype.name, out):
            raise self._shorter(name)

    def _shorter(self, name: str) -> ValueError:
        header = self.headers[name]
        size = math.prod(header.shape) * header.dtype.itemsize
        return ValueError(f"{self.path}: array {shown(name)} must have {size} bytes, got fewer")


def _starts(path: str | Path) -> dict[str, int]:
    """Where each array begins in a file that the library has accepted.

    ValueError for what the format forbids and the library lets pass: a name twice, a header that begins otherwise than
    with a brace, a name with a NUL.
    """
    with Path(path).open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = file.read(size)
    if not header.startswith(b"{"):
        raise ValueError(f"{path}: not a safetensors file (the header must begin with a brace)")
    fields = parse_object(header, f"{path}: header")
    for name in fields:
        if "\0" in name:
            raise ValueError(f"{path}: not a safetensors file (the name {shown(name)} holds a NUL)")
    return {name: 8 + size + field["data_offsets"][0] for name, field in fields.items() if name != "__metadata__"}
