"""gather: rows of a tensor by their ids."""

from __future__ import annotations

from dragoman import _core
from dragoman.functional.operands import Ids, int32_ids
from dragoman.tensor import Function, Tensor, add_grad, check_tensors, edge


class Gather(Function):
    def forward(self, x: Tensor, ids: _core.Tensor) -> _core.Tensor:
        self.saved = (edge(x), ids, x.shape)
        return _core.gather_forward(x.data, ids)

    def backward(self, dy: _core.Tensor) -> None:
        x, ids, shape = self.saved
        add_grad(x, _core.gather_backward(dy, ids, list(shape)))


def gather(x: Tensor, ids: Ids) -> Tensor:
    """x[ids], the rows in the order of the ids; the gradients of a row that is taken more than once add up.

    Args:
        x: (rows, ...) float32 or bfloat16.
        ids: (n,) integers in [0, rows).

    Returns:
        (n, ...).

    Raises:
        TypeError: no Tensor, another dtype, or ids that are no integers.
        ValueError: an id outside [0, rows), or ids of another number of dimensions.
    """
    check_tensors("gather", x=x)
    return Gather()(x, int32_ids("gather", "ids", ids))
