"""A reader of the pickles that torch.save writes for tensors, which can make nothing else.

Python's own `pickle` calls whatever function a file names. This reader knows the few opcodes, and the few names, that
describe tensors in a dictionary; anything else is a ValueError. Nothing that a file names is ever called or imported.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dragoman.arguments import shown
from dragoman.arrays import DTYPES

# The types of storages, and the dtypes of their values.
STORAGES: dict[str, np.dtype[Any]] = {
    "FloatStorage": np.dtype(np.float32),
    "DoubleStorage": np.dtype(np.float64),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": DTYPES["bfloat16"],
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}

_CALLED = (
    ("collections", "OrderedDict"),
    ("torch", "Size"),
    ("torch._utils", "_rebuild_tensor"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
)


@dataclass(frozen=True)
class Storage:
    """Memory that tensors are parts of: the key of its file or place, the dtype and the number of its values."""

    key: str
    dtype: np.dtype[Any]
    size: int


@dataclass(frozen=True)
class View:
    """A tensor: the values of a storage from `offset` on, at steps of `strides`. The numbers are checked."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def contiguous(self) -> bool:
        """Whether the values lie one after the other, in C order."""
        step = 1
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if size != 1 and stride != step:
                return False
            step *= size
        return True


@dataclass(frozen=True)
class _Name:
    """A function or a type that a file names."""

    module: str
    name: str


class ClosedPickle:
    """Reads pickles of plain values and tensors from bytes, one after the other.

    Args:
        content: the bytes; what lies behind the last pickle is not looked at.

    Attributes:
        position: behind what was read.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.position = 0
        self._stack: list[Any] = []
        self._marks: list[int] = []  # where lists of items begin on the stack
        self._memo: dict[int, Any] = {}

    def read(self) -> Any:
        """The next pickle's value: None, a bool, a number, a text, a tuple, list or dict of them, or a View.

        Raises:
            ValueError: the bytes end, or hold an opcode or a name that tensors do not need.
        """
        self._stack, self._marks, self._memo = [], [], {}
        try:
            while (code := self._take(1)) != b".":
                run = _OPCODES.get(code)
                if run is None:
                    raise ValueError(f"a pickle may hold tensors alone, got the opcode {code!r}")
                run(self)
            return self._pop()
        except (IndexError, KeyError, TypeError, struct.error, UnicodeDecodeError, OverflowError) as error:
            raise ValueError(f"a damaged pickle ({type(error).__name__}: {error})") from None

    def _take(self, count: int) -> bytes:
        taken = self.content[self.position : self.position + count]
        if len(taken) < count:
            raise ValueError("a pickle that ends too early")
        self.position += count
        return taken

    def _number(self, form: str) -> Any:
        (value,) = struct.unpack(form, self._take(struct.calcsize(form)))
        return value

    def _line(self) -> str:
        end = self.content.find(b"\n", self.position, self.position + 1000)
        if end < 0:
            raise ValueError("a pickle that ends too early")
        return self._take(end + 1 - self.position)[:-1].decode()

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self) -> Any:
        self._check_above()
        return self._stack.pop()

    def _items(self) -> list[Any]:
        """Takes the values above the last mark from the stack, and the mark."""
        place = self._marks.pop()
        items = self._stack[place:]
        del self._stack[place:]
        return items

    def _top(self, kind: type) -> Any:
        """The value on top, which must be a list or dict that this reader made."""
        self._check_above()
        if type(self._stack[-1]) is not kind:
            raise ValueError(f"a pickle that changes {shown(type(self._stack[-1]).__name__)}, no {kind.__name__}")
        return self._stack[-1]

    def _check_above(self) -> None:
        """ValueError unless a value lies above the last mark."""
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise ValueError("a damaged pickle (no value where one must be)")

    # Opcodes

    def _protocol(self) -> None:
        if (protocol := self._number("<B")) not in (2, 3, 4, 5):
            raise ValueError(f"a pickle must have a protocol in [2, 5], got {protocol}")

    def _long(self) -> None:
        self._push(int.from_bytes(self._take(self._number("<B")), "little", signed=True))

    def _text(self, form: str) -> None:
        self._push(self._take(self._number(form)).decode())

    def _tuple(self, count: int) -> None:
        items = [self._pop() for _ in range(count)]
        self._push(tuple(reversed(items)))

    def _append(self) -> None:
        value = self._pop()
        self._top(list).append(value)

    def _appends(self) -> None:
        items = self._items()
        self._top(list).extend(items)

    def _set_item(self) -> None:
        value, key = self._pop(), self._pop()
        self._set({key: value})

    def _set_items(self) -> None:
        items = self._items()
        self._set(dict(zip(items[::2], items[1::2], strict=True)))

    def _set(self, items: dict[Any, Any]) -> None:
        target = self._top(dict)
        for key in items:
            if not isinstance(key, str | int):
                raise ValueError(f"a pickle with a key that is no text, got {shown(key)}")
        target.update(items)

    def _memoize(self, key: int) -> None:
        self._check_above()
        self._memo[key] = self._stack[-1]

    def _recall(self, key: int) -> None:
        self._push(self._memo[key])

    def _name(self, module: str, name: str) -> None:
        known = (module, name) in _CALLED or (module in ("torch", "torch.storage") and name in STORAGES)
        if not known:
            raise ValueError(f"a pickle may hold tensors alone, got {shown(f'{module}.{name}')}")
        self._push(_Name(module, name))

    def _stack_name(self) -> None:
        name, module = self._pop(), self._pop()
        self._name(module, name)

    def _persistent(self) -> None:
        """A storage, which lies outside the pickle."""
        kind, named, key, _, size, *viewed = self._pop()
        if kind != "storage" or not isinstance(named, _Name) or named.name not in STORAGES:
            raise ValueError("a pickle may refer to storages alone")
        if not isinstance(key, str) or not _is_count(size) or viewed not in ([], [None]):
            raise ValueError(f"a storage with a key, a size and no view, got {shown((key, size, viewed))}")
        self._push(Storage(key, STORAGES[named.name], size))

    def _reduce(self) -> None:
        """A tensor, a dict or a shape, made from its arguments."""
        given, named = self._pop(), self._pop()
        if not isinstance(named, _Name) or not isinstance(given, tuple):
            raise ValueError("a pickle that calls something else than the makers of tensors")
        if named.name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            self._push(_view(*given[:4]))
        elif named.name == "_rebuild_parameter":
            if not isinstance(given[0], View):
                raise ValueError("a parameter must be made of a tensor")
            self._push(given[0])
        elif named.name == "OrderedDict":
            if given:
                raise ValueError("an OrderedDict must begin empty")
            self._push({})
        elif named.name == "Size":
            self._push(tuple(given[0]))
        else:
            raise ValueError(f"a pickle may hold tensors alone, got a call of {shown(named.name)}")

    def _build(self) -> None:
        """Attributes of the dict, `_metadata` of a state_dict, which say nothing of the tensors."""
        self._pop()
        self._top(dict)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**62


def _view(storage: Any, offset: Any, shape: Any, strides: Any) -> View:
    if not isinstance(storage, Storage):
        raise ValueError("a tensor must lie in a storage")
    numbers = isinstance(shape, tuple) and isinstance(strides, tuple) and len(shape) == len(strides) <= 16
    if not numbers or not all(_is_count(number) for number in (offset, *shape, *strides)):
        raise ValueError(f"a tensor must have an offset, a shape and strides, got {shown((offset, shape, strides))}")
    values, last = 1, offset
    for size, stride in zip(shape, strides, strict=True):
        values *= size
        last += (size - 1) * stride
    if values and (last >= storage.size or values > storage.size):
        raise ValueError(f"a tensor of shape {shape} must lie in its storage of {storage.size} values")
    return View(storage, offset, shape, strides)


_OPCODES: dict[bytes, Callable[[ClosedPickle], None]] = {
    b"\x80": ClosedPickle._protocol,
    b"\x95": lambda reader: reader._number("<Q"),  # the size of a frame
    b"(": lambda reader: reader._marks.append(len(reader._stack)),
    b")": lambda reader: reader._push(()),
    b"]": lambda reader: reader._push([]),
    b"}": lambda reader: reader._push({}),
    b"N": lambda reader: reader._push(None),
    b"\x88": lambda reader: reader._push(True),
    b"\x89": lambda reader: reader._push(False),
    b"K": lambda reader: reader._push(reader._number("<B")),
    b"M": lambda reader: reader._push(reader._number("<H")),
    b"J": lambda reader: reader._push(reader._number("<i")),
    b"G": lambda reader: reader._push(reader._number(">d")),
    b"\x8a": ClosedPickle._long,
    b"X": lambda reader: reader._text("<I"),
    b"\x8c": lambda reader: reader._text("<B"),
    b"t": lambda reader: reader._push(tuple(reader._items())),
    b"\x85": lambda reader: reader._tuple(1),
    b"\x86": lambda reader: reader._tuple(2),
    b"\x87": lambda reader: reader._tuple(3),
    b"l": lambda reader: reader._push(reader._items()),
    b"a": ClosedPickle._append,
    b"e": ClosedPickle._appends,
    b"s": ClosedPickle._set_item,
    b"u": ClosedPickle._set_items,
    b"q": lambda reader: reader._memoize(reader._number("<B")),
    b"r": lambda reader: reader._memoize(reader._number("<I")),
    b"\x94": lambda reader: reader._memoize(len(reader._memo)),
    b"h": lambda reader: reader._recall(reader._number("<B")),
    b"j": lambda reader: reader._recall(reader._number("<I")),
    b"c": lambda reader: reader._name(reader._line(), reader._line()),
    b"\x93": ClosedPickle._stack_name,
    b"Q": ClosedPickle._persistent,
    b"R": ClosedPickle._reduce,
    b"b": ClosedPickle._build,
}
