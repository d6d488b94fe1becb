"""softmax."""

from __future__ import annotations

from dragoman import _core
from dragoman.tensor import Function, Tensor, add_grad, check_tensors, edge


class Softmax(Function):
    def forward(self, x: Tensor) -> _core.Tensor:
        y = _core.softmax_forward(x.data)
        self.saved = (edge(x), y)
        return y

    def backward(self, dy: _core.Tensor) -> None:
        x, y = self.saved
        add_grad(x, _core.softmax_backward(dy, y))


def softmax(x: Tensor) -> Tensor:
    """exp(x) / sum(exp(x)) over the last axis, x (..., features) float32 or bfloat16. NaN for a row of -inf alone."""
    check_tensors("softmax", x=x)
    return Softmax()(x)
