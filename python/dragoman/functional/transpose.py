"""transpose: two axes exchanged."""

from __future__ import annotations

from dragoman import _core
from dragoman.tensor import Function, Tensor, add_grad, check_tensors, edge


class Transpose(Function):
    def forward(self, x: Tensor) -> _core.Tensor:
        self.saved = (edge(x),)
        return _core.transpose(x.data)

    def backward(self, dy: _core.Tensor) -> None:
        (x,) = self.saved
        add_grad(x, _core.transpose(dy))


def transpose(x: Tensor) -> Tensor:
    """The first two axes exchanged: x (m, n, ...) float32 or bfloat16 becomes (n, m, ...)."""
    check_tensors("transpose", x=x)
    return Transpose()(x)
