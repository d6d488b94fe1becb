"""residual: the residual connection with dropout."""

from __future__ import annotations

from dragoman import _core
from dragoman.functional.operands import dropout_mask
from dragoman.tensor import Function, Tensor, add_grad, check_options, check_tensors, edge


class Residual(Function):
    def forward(
        self, x: Tensor, residual: Tensor, dropout: _core.Dropout, sequences: _core.Sequences | None
    ) -> _core.Tensor:
        self.saved = (edge(x), edge(residual), dropout, sequences)
        return _core.residual_forward(x.data, residual.data, dropout, sequences)

    def backward(self, dy: _core.Tensor) -> None:
        x, residual, dropout, sequences = self.saved
        # The identity, except for rows that are not in use: their gradient is 0.
        tail = sequences is not None and sequences.tokens < sequences.capacity
        add_grad(residual, _core.dropout_backward(dy, _core.Dropout(), sequences) if tail else dy)
        add_grad(x, _core.dropout_backward(dy, dropout, sequences))


def residual(x: Tensor, residual: Tensor, *, dropout: float = 0.0, sequences: _core.Sequences | None = None) -> Tensor:
    """residual + dropout(x), in one pass over memory.

    Args:
        x: (tokens, features) float32 or bfloat16.
        residual: shape and dtype of x.
        dropout: rate for x, in [0, 1).
        sequences: says how many rows are in use; None for all.

    Returns:
        (tokens, features), of x's dtype.
    """
    check_tensors("residual", x=x, residual=residual)
    check_options("residual", sequences=sequences)
    return Residual()(x, residual, dropout_mask("residual", dropout, x.device), sequences)
