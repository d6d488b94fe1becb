"""Sums and means."""

from __future__ import annotations

from dragoman import _core, arguments
from dragoman.tensor import Function, Tensor, add_grad, check_tensors, edge


class Reduce(Function):
    def forward(self, kind: str, x: Tensor, axis: int | None, keepdims: bool) -> _core.Tensor:
        self.saved = (kind, edge(x), x.shape, axis)
        return _core.reduce_forward(kind, x.data, axis, keepdims)

    def backward(self, dy: _core.Tensor) -> None:
        kind, x, shape, axis = self.saved
        add_grad(x, _core.reduce_backward(kind, dy, list(shape), axis))


def _reduce(kind: str, x: Tensor, axis: int | None, keepdims: bool) -> Tensor:
    check_tensors(kind, x=x)
    if axis is not None:
        axis = arguments.integer(kind, "axis", axis, minimum=-len(x.shape))
    return Reduce()(kind, x, axis, arguments.flag(kind, "keepdims", keepdims))


def sum(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The sum of the elements, added in float32 and in one order whatever the number of threads.

    Args:
        x: float32 or bfloat16, of which the result is, too. Every row counts, also those beyond `tokens`.
        axis: the first (0) or the last (-1), or None for all elements.
        keepdims: whether the axis stays, with size 1.

    Raises:
        TypeError: no Tensor, another dtype, or an axis that is no int.
        ValueError: another axis.
    """
    return _reduce("sum", x, axis, keepdims)


def mean(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The mean of the elements, NaN of none. Arguments as of sum."""
    return _reduce("mean", x, axis, keepdims)
