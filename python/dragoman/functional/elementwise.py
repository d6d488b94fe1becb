"""Arithmetic element by element, and casts.

These ops know no sequences: every row counts, also those beyond `tokens`.
"""

from __future__ import annotations

from dragoman import _core, arguments
from dragoman.functional.operands import ACTIVATION_DTYPES
from dragoman.tensor import Function, Tensor, add_grad, check_tensors, edge

TensorOrNumber = Tensor | float


class Binary(Function):
    def forward(self, kind: str, a: Tensor | None, b: Tensor | None, number: float) -> _core.Tensor:
        a_data, b_data = None if a is None else a.data, None if b is None else b.data
        y = _core.binary_forward(kind, a_data, b_data, number)
        values = kind not in ("add", "subtract")  # whether backward reads any
        keep_a = values and (kind == "maximum" or self.needs_grad(b))
        keep_b = values and (kind != "multiply" or self.needs_grad(a))
        read = (a_data if keep_a else None, b_data if keep_b else None, number)
        ends = [(of_b, edge(x), x.shape, x.dtype) for of_b, x in ((False, a), (True, b)) if x is not None]
        self.saved = (kind, read, ends)
        return y

    def backward(self, dy: _core.Tensor) -> None:
        kind, (a, b, number), ends = self.saved
        for of_b, end, shape, dtype in ends:
            if end is not None:
                add_grad(end, _core.binary_backward(kind, of_b, dy, a, b, number, list(shape), dtype))


def _binary(kind: str, a: TensorOrNumber, b: TensorOrNumber) -> Tensor:
    if isinstance(a, Tensor):
        if isinstance(b, Tensor):
            return Binary()(kind, a, b, 0.0)
        return Binary()(kind, a, None, _number(kind, "b", b))
    number = _number(kind, "a", a)
    if not isinstance(b, Tensor):
        raise TypeError(f"{kind}: a or b must be a Tensor, got two of type {type(a).__name__} and {type(b).__name__}")
    return Binary()(kind, None, b, number)


def _number(op: str, name: str, value: float) -> float:
    if not arguments.is_number(value):
        raise TypeError(f"{op}: {name} must be a Tensor or a number, got {type(value).__name__}")
    return arguments.number(op, name, value)


def add(a: TensorOrNumber, b: TensorOrNumber) -> Tensor:
    """a + b.

    Args:
        a, b: Tensors, float32 or bfloat16, or one of them a number. They have the same shape, or one is repeated as in
            NumPy: a single element, (features,), (1, features) or (tokens, 1) beside (tokens, features).

    Returns:
        A Tensor of the larger shape. Of float32 and bfloat16, it has the dtype of the operand that is not repeated.

    Raises:
        TypeError: neither a Tensor nor a number, other dtypes, or two dtypes in the same shape.
        ValueError: shapes that do not fit, or a number that is not finite.
    """
    return _binary("add", a, b)


def subtract(a: TensorOrNumber, b: TensorOrNumber) -> Tensor:
    """a - b. Arguments as of add."""
    return _binary("subtract", a, b)


def multiply(a: TensorOrNumber, b: TensorOrNumber) -> Tensor:
    """a * b, element by element. Arguments as of add."""
    return _binary("multiply", a, b)


def divide(a: TensorOrNumber, b: TensorOrNumber) -> Tensor:
    """a / b. Arguments as of add; x / 0 is an infinity or NaN, as in NumPy."""
    return _binary("divide", a, b)


def maximum(a: TensorOrNumber, b: TensorOrNumber) -> Tensor:
    """The larger of a and b; where they are equal, each gets half the gradient. Arguments as of add."""
    return _binary("maximum", a, b)


def scale(x: Tensor, factor: float) -> Tensor:
    """x * factor, x float32 or bfloat16."""
    check_tensors("scale", x=x)
    arguments.choice("scale", "x.dtype", x.dtype, ACTIVATION_DTYPES)
    return Binary()("multiply", x, None, arguments.number("scale", "factor", factor))


class Unary(Function):
    def forward(self, kind: str, x: Tensor) -> _core.Tensor:
        y = _core.unary_forward(kind, x.data)
        self.saved = (edge(x), kind, x.data if kind == "log" else y)
        return y

    def backward(self, dy: _core.Tensor) -> None:
        x, kind, values = self.saved
        add_grad(x, _core.unary_backward(kind, dy, values))


def exp(x: Tensor) -> Tensor:
    """e^x, x float32 or bfloat16 of any shape."""
    check_tensors("exp", x=x)
    return Unary()("exp", x)


def log(x: Tensor) -> Tensor:
    """The natural logarithm, x float32 or bfloat16 of any shape; -inf at 0, NaN below."""
    check_tensors("log", x=x)
    return Unary()("log", x)


def sqrt(x: Tensor) -> Tensor:
    """The square root, x float32 or bfloat16 of any shape; NaN below 0."""
    check_tensors("sqrt", x=x)
    return Unary()("sqrt", x)


class Cast(Function):
    def forward(self, x: Tensor, dtype: str) -> _core.Tensor:
        self.saved = (edge(x), x.dtype)
        return _core.cast(x.data, dtype)

    def backward(self, dy: _core.Tensor) -> None:
        x, dtype = self.saved
        add_grad(x, _core.cast(dy, dtype))


def cast(x: Tensor, dtype: str) -> Tensor:
    """x, float32 or bfloat16, in `dtype`, "float32" or "bfloat16", rounded to the nearest value (ties to even)."""
    check_tensors("cast", x=x)
    return Cast()(x, arguments.choice("cast", "dtype", dtype, ACTIVATION_DTYPES))
