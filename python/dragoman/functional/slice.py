"""slice and concat: parts of a tensor along its rows or columns, and their joining."""

from __future__ import annotations

from collections.abc import Sequence

from dragoman import _core, arguments
from dragoman.tensor import Function, Tensor, add_grad, check_tensors, edge

_PARTS = 4  # that one call of the core joins


class Slice(Function):
    def forward(self, x: Tensor, axis: int, begin: int, end: int) -> _core.Tensor:
        self.saved = (edge(x), x.shape, axis, begin)
        return _core.slice_forward(x.data, axis, begin, end)

    def backward(self, dy: _core.Tensor) -> None:
        x, shape, axis, begin = self.saved
        add_grad(x, _core.slice_backward(dy, list(shape), axis, begin))


class Concat(Function):
    def forward(self, axis: int, *tensors: Tensor) -> _core.Tensor:
        self.saved = (axis, [(edge(x), x.shape[axis]) for x in tensors])
        parts = [x.data for x in tensors]
        while len(parts) > 1:
            groups = [parts[i : i + _PARTS] for i in range(0, len(parts), _PARTS)]
            parts = [_joined(group, axis) for group in groups]
        return parts[0]

    def backward(self, dy: _core.Tensor) -> None:
        axis, ends = self.saved
        begin = 0
        for end, size in ends:
            if end is not None:
                add_grad(end, _core.slice_forward(dy, axis, begin, begin + size))
            begin += size


def _joined(parts: list[_core.Tensor], axis: int) -> _core.Tensor:
    if len(parts) == 1:
        return parts[0]
    first, second, third, fourth = [*parts, None, None][:_PARTS]
    assert first is not None and second is not None
    return _core.concat_forward(first, second, third, fourth, axis)


def concat(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """The tensors one after the other along an axis.

    Args:
        tensors: at least one, float32 or bfloat16, of the same dtype and of the same shape but for the axis.
        axis: 0 or 1.

    Raises:
        TypeError: no sequence of Tensors, or other or different dtypes.
        ValueError: no tensor, another axis, or shapes that do not fit.
    """
    if not isinstance(tensors, Sequence):
        raise TypeError(f"concat: tensors must be a list of Tensors, got {type(tensors).__name__}")
    check_tensors("concat", **{f"tensors[{i}]": x for i, x in enumerate(tensors)})
    axis = arguments.integer("concat", "axis", axis)
    if not tensors or axis > 1 or any(len(x.shape) <= axis for x in tensors):
        shapes = [x.shape for x in tensors]
        raise ValueError(f"concat: tensors must have the axis, 0 or 1, got axis {axis} of shapes {shapes}")
    return Concat()(axis, *tensors)
