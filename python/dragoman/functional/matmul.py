"""matmul: the product of two matrices."""

from __future__ import annotations

from dragoman import _core
from dragoman.tensor import Function, Tensor, add_grad, check_tensors, edge


class Matmul(Function):
    def forward(self, a: Tensor, b: Tensor) -> _core.Tensor:
        dtype = a.dtype if b.dtype == "float32" else b.dtype
        a_data, b_data = a.data_as(dtype), b.data_as(dtype)
        kept = a_data if self.needs_grad(b) else None, b_data if self.needs_grad(a) else None
        self.saved = (edge(a), edge(b), *kept, a.dtype, b.dtype)
        return _core.matmul(a_data, b_data, False, False, dtype)

    def backward(self, dy: _core.Tensor) -> None:
        a, b, a_data, b_data, a_dtype, b_dtype = self.saved
        if a is not None:
            add_grad(a, _core.matmul(dy, b_data, False, True, a_dtype))
        if b is not None:
            add_grad(b, _core.matmul(a_data, dy, True, False, b_dtype))


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """The matrix product a b, with sums in float32.

    Args:
        a: (m, k) float32 or bfloat16.
        b: (k, n). Of float32 and bfloat16, float32 is rounded to bfloat16, of which the product is then.

    Returns:
        (m, n).

    Raises:
        TypeError: no Tensor, or another dtype.
        ValueError: other shapes.
    """
    check_tensors("matmul", a=a, b=b)
    return Matmul()(a, b)
