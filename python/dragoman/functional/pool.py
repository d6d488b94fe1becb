"""pool: one row for each sequence."""

from __future__ import annotations

from dragoman import _core, arguments
from dragoman.tensor import Function, Tensor, add_grad, check_sequences, check_tensors, edge

POOLINGS = ("mean", "max", "first", "last")


class Pool(Function):
    def forward(self, kind: str, x: Tensor, sequences: _core.Sequences) -> _core.Tensor:
        y, places = _core.pool_forward(kind, x.data, sequences)
        self.saved = (kind, edge(x), places, sequences)
        return y

    def backward(self, dy: _core.Tensor) -> None:
        kind, x, places, sequences = self.saved
        add_grad(x, _core.pool_backward(kind, dy, places, sequences))


def pool(x: Tensor, sequences: _core.Sequences, kind: str = "mean") -> Tensor:
    """The rows of each sequence as one row; zeros for a sequence without rows.

    Args:
        x: (tokens, features) float32 or bfloat16, of which the result is, too. Means are added in float32.
        sequences: of x.
        kind: "mean"; "max", the largest value of each feature, where the first of equal ones gets the gradient;
            "first"; or "last".

    Returns:
        (number of sequences, features).
    """
    check_tensors("pool", x=x)
    check_sequences("pool", sequences=sequences)
    return Pool()(arguments.choice("pool", "kind", kind, POOLINGS), x, sequences)
