"""embedding: rows of a table plus positions."""

from __future__ import annotations

from dragoman import _core, arguments
from dragoman.frozen import FrozenWeight
from dragoman.functional.operands import ACTIVATION_DTYPES, Ids, data_of, dropout_mask, int32_ids
from dragoman.tensor import Function, Tensor, check_options, check_sequences, check_tensors, grad_buffer


class Embedding(Function):
    def forward(
        self,
        ids: _core.Tensor,
        weight: Tensor,
        positions: Tensor | None,
        starts: _core.Tensor | None,
        scale: float,
        dropout: _core.Dropout,
        sequences: _core.Sequences,
        dtype: str,
    ) -> _core.Tensor:
        self.saved = (ids, weight, positions, starts, scale, dropout, sequences)
        return _core.embedding_forward(ids, weight.data, data_of(positions), starts, scale, dropout, sequences, dtype)

    def backward(self, dy: _core.Tensor) -> None:
        ids, weight, positions, starts, scale, dropout, sequences = self.saved
        _core.embedding_backward(
            dy, ids, starts, scale, dropout, sequences, *grad_buffer(weight), *grad_buffer(positions)
        )


def embedding(
    ids: Ids,
    weight: Tensor | FrozenWeight,
    sequences: _core.Sequences,
    *,
    positions: Tensor | None = None,
    starts: Ids | None = None,
    scale: float = 1.0,
    dropout: float = 0.0,
    dtype: str = "float32",
) -> Tensor:
    """dropout(weight[ids] * scale + positions[position of the token]).

    Args:
        ids: (tokens,) integers in [0, vocabulary).
        weight: (vocabulary, features) float32, or frozen: the result is float32 then.
        sequences: says where each sequence begins.
        positions: (max_positions, features) float32, sinusoidal or learned, or None.
        starts: (number of sequences,) position of each sequence's first token; 0 by default.
        scale: factor on the embedding; sqrt(d_model) in Vaswani et al. 2017 (arXiv:1706.03762).
        dropout: rate in [0, 1).
        dtype: of the result, "float32" or "bfloat16".

    Returns:
        (tokens, features).
    """
    if not isinstance(weight, FrozenWeight):
        check_tensors("embedding", weight=weight)
    check_options("embedding", positions=positions)
    check_sequences("embedding", sequences=sequences)
    rows = int32_ids("embedding", "ids", ids)
    first = None if starts is None else int32_ids("embedding", "starts", starts)
    scale = arguments.number("embedding", "scale", scale)
    arguments.choice("embedding", "dtype", dtype, ACTIVATION_DTYPES)
    if isinstance(weight, FrozenWeight):
        weight.check_inference("embedding", dtype, dropout)
        return weight.embedding(rows, positions, first, scale, sequences)
    mask = dropout_mask("embedding", dropout, weight.device)
    return Embedding()(rows, weight, positions, first, scale, mask, sequences, dtype)
