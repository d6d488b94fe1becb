"""The operators and methods of Tensor that are ops, attached to the class by this module, and those refused.

tensor.py declares them for readers and type checkers. It cannot call the ops itself: they are made of Tensors.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from dragoman import arguments
from dragoman.functional.elementwise import TensorOrNumber, add, divide, exp, log, maximum, multiply, sqrt, subtract
from dragoman.functional.gather import gather
from dragoman.functional.matmul import matmul
from dragoman.functional.reduce import mean, sum
from dragoman.functional.reshape import reshape
from dragoman.functional.slice import Slice
from dragoman.functional.softmax import softmax
from dragoman.functional.to import to
from dragoman.functional.transpose import transpose
from dragoman.tensor import Tensor


def _reversed(op: Callable[[Any, Any], Tensor]) -> Callable[[Tensor, TensorOrNumber], Tensor]:
    """The operator for a Tensor on the right."""
    return lambda x, other: op(other, x)


def _negative(x: Tensor) -> Tensor:
    return multiply(x, -1.0)


def _reshape(x: Tensor, *shape: Any) -> Tensor:
    """The same values in another shape, x.reshape(2, 3) or x.reshape((2, 3)); one size may be -1.

    ValueError where the number of elements differs.
    """
    return reshape(x, shape[0] if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape)


def _getitem(x: Tensor, index: Any) -> Tensor:
    """x[3], x[2:5], x[::2], x[ids], and x[:, 2:5] of columns.

    Args:
        index: an int or a slice of rows, ids in [0, rows), or `:` and a slice of columns with step 1.

    Raises:
        TypeError, ValueError, IndexError: another index, or one out of range.
    """
    if isinstance(index, tuple):
        if len(index) != 2 or index[0] != slice(None) or not isinstance(index[1], slice) or len(x.shape) < 2:
            raise TypeError(f"getitem: index must be rows, or [:, begin:end] of columns, got {arguments.shown(index)}")
        return _part(x, 1, index[1])
    if not x.shape:
        raise IndexError("getitem: a scalar tensor has no rows")
    rows = x.shape[0]
    if isinstance(index, slice):
        if index.step in (None, 1):
            return _part(x, 0, index)
        return gather(x, np.arange(rows)[index])
    if arguments.is_integer(index):
        if not -rows <= index < rows:
            raise IndexError(f"getitem: index must lie in [-{rows}, {rows}), got {arguments.shown(index)}")
        begin = int(index) % rows
        return reshape(Slice()(x, 0, begin, begin + 1), x.shape[1:])
    if isinstance(index, Tensor | np.ndarray | list):
        return gather(x, index)
    raise TypeError(f"getitem: index must be an int, a slice or ids, got {type(index).__name__}")


def _part(x: Tensor, axis: int, part: slice) -> Tensor:
    begin, end, step = part.indices(x.shape[axis])
    if step != 1:
        raise ValueError(f"getitem: a slice of columns must have step 1, got {arguments.shown(step)}")
    return Slice()(x, axis, begin, builtins.max(begin, end))


def _bool(x: Tensor) -> NoReturn:
    raise TypeError("bool: a Tensor is neither true nor false; compare with None, or read its value by item()")


def _iter(x: Tensor) -> NoReturn:
    raise TypeError("iter: a Tensor is not iterated over; take rows by x[i], or values by x.numpy()")


def _compare(x: Tensor, other: object) -> NoReturn:
    raise TypeError("compare: Tensors are not compared by an op; compare values by x.numpy() or x.item()")


def _equal(x: Tensor, other: object) -> bool:
    """Identity, as for the hash; a comparison of values is refused."""
    if x is not other and (isinstance(other, Tensor | np.ndarray) or arguments.is_number(other)):
        _compare(x, other)
    return x is other or NotImplemented


_METHODS: dict[str, Any] = {
    "__add__": add,
    "__radd__": _reversed(add),
    "__sub__": subtract,
    "__rsub__": _reversed(subtract),
    "__mul__": multiply,
    "__rmul__": _reversed(multiply),
    "__truediv__": divide,
    "__rtruediv__": _reversed(divide),
    "__matmul__": matmul,
    "__rmatmul__": _reversed(matmul),
    "__neg__": _negative,
    "__getitem__": _getitem,
    "__float__": Tensor.item,
    "__bool__": _bool,
    "__iter__": _iter,
    **dict.fromkeys(("__lt__", "__le__", "__gt__", "__ge__"), _compare),
    "__eq__": _equal,
    "exp": exp,
    "log": log,
    "sqrt": sqrt,
    "maximum": maximum,
    "sum": sum,
    "mean": mean,
    "softmax": softmax,
    "reshape": _reshape,
    "to": to,
    "transpose": transpose,
    "T": property(transpose),
}
for _name, _method in _METHODS.items():
    setattr(Tensor, _name, _method)
