"""TorchFile: the tensors in a file of torch.save, read without PyTorch and without running anything that it names.

Two formats: a zip archive, of PyTorch 1.6 and later, and a row of pickles followed by the values, before.
"""

from __future__ import annotations

import os
import struct
import weakref
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman import _core
from dragoman.arguments import check_regular, shown
from dragoman.files import ArrayHeader
from dragoman.interop.huggingface.closed_pickle import ClosedPickle, Storage, View

_MAXIMUM = 1 << 26  # bytes of a pickle
_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of the older format
_LOCAL = b"PK\x03\x04"  # begins the header of each member of a zip archive
_LOCAL_SIZE = 30  # bytes of that header, before the name


class TorchFile:
    """A file of torch.save that holds a dict of tensors; an array is read when it is asked for.

    Attributes:
        path: of the file.
        headers: shape and dtype of each tensor, by name.

    Raises:
        OSError: the file cannot be read.
        ValueError: naming the file: it is damaged, or holds anything but tensors by name. Nothing of it is executed.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        check_regular(path)
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)
        self._size = os.fstat(self._descriptor).st_size
        self._starts: dict[str, int] = {}  # by the key of a storage, the place of its values in the file
        try:
            self._views = self._zip() if os.pread(self._descriptor, 4, 0) == _LOCAL else self._pickles()
        except (ValueError, struct.error) as error:
            raise ValueError(f"{path}: not a file of tensors that torch.save wrote ({error})") from None
        self.headers = {name: ArrayHeader(view.shape, view.storage.dtype) for name, view in self._views.items()}

    def values(self, name: str, begin: int, end: int) -> npt.NDArray[Any]:
        """The values [begin, end) of an array in C order, in memory of their own."""
        view = self._views[name]
        if view.contiguous:
            return self._read(view.storage, view.offset + begin, end - begin)
        last = view.offset + sum((size - 1) * stride for size, stride in zip(view.shape, view.strides, strict=True))
        raw = self._read(view.storage, view.offset, last + 1 - view.offset)
        strides = [stride * raw.itemsize for stride in view.strides]
        array = np.lib.stride_tricks.as_strided(raw, view.shape, strides, writeable=False)
        return array.reshape(-1)[begin:end]

    def fill(self, name: str, begin: int, out: _core.Tensor) -> None:
        """Fills a float32 tensor on the CPU, on all threads, with the values of an array of floats from `begin` on, in
        C order."""
        view = self._views[name]
        if not view.contiguous:
            out.copy_(self.values(name, begin, begin + out.numel).astype(np.float32).reshape(out.shape))
            return
        dtype = view.storage.dtype
        place = self._starts[view.storage.key] + (view.offset + begin) * dtype.itemsize
        if not _core.read_floats(self._descriptor, place, dtype.name, out):
            raise ValueError(f"{self.path}: it must have {out.numel * dtype.itemsize} bytes at {place}, got fewer")

    def _zip(self) -> dict[str, View]:
        with _archive(self.path) as archive:
            members = {member.filename: member for member in archive.infolist()}
            if len(members) != len(archive.infolist()):
                raise ValueError("a name stands twice in the archive")
            roots = [
                name[: -len("data.pkl")] for name in members if name.endswith("/data.pkl") and name.count("/") == 1
            ]
            if len(roots) != 1:
                raise ValueError(f"the archive must hold one data.pkl, got {len(roots)}")
            root = roots[0]
            order = members.get(f"{root}byteorder")
            if order is not None and self._member(order) != b"little":
                raise ValueError("the byte order must be little")
            views = _views(ClosedPickle(self._member(members[f"{root}data.pkl"])).read())
            for storage in {view.storage.key: view.storage for view in views.values()}.values():
                member = members.get(f"{root}data/{storage.key}")
                if member is None:
                    raise ValueError(f"the archive must hold the storage {shown(storage.key)}")
                expected = storage.size * storage.dtype.itemsize
                if member.file_size != expected:
                    raise ValueError(f"{member.filename} must have {expected} bytes, got {member.file_size}")
                self._starts[storage.key] = self._start(member)
        return views

    def _member(self, member: zipfile.ZipInfo) -> bytes:
        if member.file_size > _MAXIMUM:
            raise ValueError(f"{member.filename} must have at most {_MAXIMUM:,} bytes, got {member.file_size:,}")
        return self._bytes(self._start(member), member.file_size)

    def _start(self, member: zipfile.ZipInfo) -> int:
        """Where the bytes of a member begin. It must be stored as it is, inside the file."""
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise ValueError(f"{member.filename} must not be compressed")
        header = self._bytes(member.header_offset, _LOCAL_SIZE)
        if not header.startswith(_LOCAL):
            raise ValueError(f"{member.filename} must have a header of its own")
        name, extra = struct.unpack("<HH", header[26:30])
        start = int(member.header_offset + _LOCAL_SIZE + name + extra)
        if start + member.file_size > self._size:
            raise ValueError(f"{member.filename} must lie in the file")
        return start

    def _pickles(self) -> dict[str, View]:
        reader = ClosedPickle(self._bytes(0, min(self._size, _MAXIMUM)))
        if reader.read() != _MAGIC or reader.read() != 1001:
            raise ValueError("neither a zip archive nor the older format")
        system = reader.read()
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            raise ValueError("the byte order must be little")
        views, keys = _views(reader.read()), reader.read()
        storages = {view.storage.key: view.storage for view in views.values()}
        if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(storages):
            raise ValueError("the storages that are listed must be those of the tensors")
        place = reader.position
        for key in keys:
            storage = storages[key]
            (count,) = struct.unpack("<q", self._bytes(place, 8))
            if count != storage.size:
                raise ValueError(f"the storage {shown(key)} must have {storage.size} values, got {count}")
            self._starts[key] = place + 8
            place += 8 + count * storage.dtype.itemsize
            if place > self._size:
                raise ValueError(f"the storage {shown(key)} must lie in the file")
        return views

    def _read(self, storage: Storage, begin: int, count: int) -> npt.NDArray[Any]:
        place = self._starts[storage.key] + begin * storage.dtype.itemsize
        try:
            return np.frombuffer(self._bytes(place, count * storage.dtype.itemsize), storage.dtype)
        except ValueError as error:  # it was longer before
            raise ValueError(f"{self.path}: {error}") from None

    def _bytes(self, place: int, count: int) -> bytes:
        """`count` bytes of the file. ValueError where it ends before."""
        parts: list[bytes] = []
        rest = count
        while rest:
            part = os.pread(self._descriptor, rest, place) if place >= 0 else b""
            if not part:
                raise ValueError(f"it must have {count} bytes at {place}, got fewer")
            parts.append(part)
            rest, place = rest - len(part), place + len(part)
        return b"".join(parts)


def _archive(path: str | Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile, NotImplementedError, struct.error) as error:  # of a place before the file
        raise ValueError(f"a damaged zip archive: {error}") from None


def _views(content: Any) -> dict[str, View]:
    """The tensors of a state_dict. ValueError for anything else."""
    if not isinstance(content, dict) or not content:
        raise ValueError(f"must hold a dict of tensors, got {type(content).__name__}")
    storages: dict[str, Storage] = {}
    for name, view in content.items():
        if not isinstance(name, str) or not isinstance(view, View):
            raise ValueError(f"{shown(name)} must be a tensor, got {type(view).__name__}")
        if storages.setdefault(view.storage.key, view.storage) != view.storage:
            raise ValueError(f"the storage {shown(view.storage.key)} must have one dtype and one size")
    return content
