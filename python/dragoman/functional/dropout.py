"""dropout."""

from __future__ import annotations

from dragoman import _core
from dragoman.functional.operands import dropout_mask
from dragoman.tensor import Function, Tensor, add_grad, check_options, check_tensors, edge


class Dropout(Function):
    def forward(self, x: Tensor, dropout: _core.Dropout, sequences: _core.Sequences | None) -> _core.Tensor:
        self.saved = (edge(x), dropout, sequences)
        return _core.dropout_forward(x.data, dropout, sequences)

    def backward(self, dy: _core.Tensor) -> None:
        x, dropout, sequences = self.saved
        add_grad(x, _core.dropout_backward(dy, dropout, sequences))


def dropout(x: Tensor, p: float, *, sequences: _core.Sequences | None = None) -> Tensor:
    """Sets elements to zero with probability p and scales the others by 1 / (1 - p) (Srivastava et al. 2014).

    The mask depends on the seed, the step and the number of the call, see `dragoman.random`.

    Args:
        x: (tokens, features) float32 or bfloat16.
        p: rate in [0, 1).
        sequences: says how many rows are in use; None for all.

    Returns:
        (tokens, features), of x's dtype.
    """
    check_tensors("dropout", x=x)
    check_options("dropout", sequences=sequences)
    return Dropout()(x, dropout_mask("dropout", p, x.device, "p"), sequences)
