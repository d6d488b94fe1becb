"""reshape."""

from __future__ import annotations

from collections.abc import Sequence

from dragoman import _core, arguments
from dragoman.tensor import Function, Tensor, add_grad, check_tensors, edge


class Reshape(Function):
    def forward(self, x: Tensor, shape: Sequence[int]) -> _core.Tensor:
        self.saved = (edge(x), x.shape)
        return _core.reshape(x.data, list(shape))

    def backward(self, dy: _core.Tensor) -> None:
        x, shape = self.saved
        add_grad(x, _core.reshape(dy, list(shape)))


def reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    """The same values in another shape; one size may be -1. ValueError where the number of elements differs."""
    check_tensors("reshape", x=x)
    return Reshape()(x, arguments.integers("reshape", "shape", shape, minimum=-1))
