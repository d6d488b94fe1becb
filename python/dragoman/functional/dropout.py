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
    """Zeroes elements of x (tokens, features) at rate p in [0, 1) and scales the rest by 1 / (1 - p)
    (Srivastava et al. 2014). The mask is a function of the seed, the step and the call: see dragoman.random.
    """
    check_tensors("dropout", x=x)
    check_options("dropout", sequences=sequences)
    return Dropout()(x, dropout_mask("dropout", p, "p"), sequences)
