"""rotary: turns queries and keys by their positions."""

from __future__ import annotations

from dragoman import _core, arguments
from dragoman.functional.operands import Ids, int32_ids
from dragoman.tensor import Function, Tensor, add_grad, check_sequences, check_tensors, edge


class Rotary(Function):
    def forward(
        self, x: Tensor, table: _core.Tensor, starts: _core.Tensor | None, head_dim: int, sequences: _core.Sequences
    ) -> _core.Tensor:
        self.saved = (edge(x), table, starts, head_dim, sequences)
        return _core.rotary(x.data, table, starts, head_dim, False, sequences)

    def backward(self, dy: _core.Tensor) -> None:
        x, table, starts, head_dim, sequences = self.saved
        add_grad(x, _core.rotary(dy, table, starts, head_dim, True, sequences), owned=True)


def rotary(x: Tensor, table: Tensor, sequences: _core.Sequences, *, head_dim: int, starts: Ids | None = None) -> Tensor:
    """Turns pairs of features of every head by angles that grow with the position (Su et al. 2021, arXiv:2104.09864).

    Of the first `features` of a head, feature i and feature i + features / 2 are a pair (a, b), which becomes
    (a cos - b sin, b cos + a sin). The other features stay as they are.

    Args:
        x: (tokens, num_heads * head_dim) or (tokens, num_heads, head_dim) float32 or bfloat16.
        table: (max_positions, features) float32: row p holds the cosines of the pairs' angles at position p, then the
            sines. It has no gradient.
        sequences: of x.
        head_dim: size of a head, at least `features`.
        starts: (number of sequences,) position of each sequence's first token; 0 by default.

    Returns:
        A tensor of x's shape and dtype.
    """
    check_tensors("rotary", x=x, table=table)
    check_sequences("rotary", sequences=sequences)
    if table.requires_grad:
        raise ValueError("rotary: table must require no gradient, got a tensor that does")
    head_dim = arguments.integer("rotary", "head_dim", head_dim, minimum=1)
    first = None if starts is None else int32_ids("rotary", "starts", starts)
    return Rotary()(x, table.data, first, head_dim, sequences)
