"""cast between dtypes."""

from __future__ import annotations

from dragoman import _core, arguments
from dragoman.functional.operands import ACTIVATION_DTYPES
from dragoman.tensor import Function, Tensor, add_grad, check_tensors, edge


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
