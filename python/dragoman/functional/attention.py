"""attention: softmax(q k^T scale + mask) v over ragged sequences."""

from __future__ import annotations

from typing import Literal, overload

from dragoman import _core, arguments
from dragoman.functional.operands import dropout_mask
from dragoman.tensor import Function, Tensor, add_grad, check_sequences, check_tensors


class Attention(Function):
    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        q_sequences: _core.Sequences,
        k_sequences: _core.Sequences,
        causal: bool,
        window: int | None,
        scale: float | None,
        dropout: _core.Dropout,
        return_weights: bool,
    ) -> _core.Tensor:
        options = (q_sequences, k_sequences, causal, window, scale, dropout)
        out, logsumexp, self.weights = _core.attention_forward(q.data, k.data, v.data, *options, return_weights)
        self.saved = (q, k, v, out, logsumexp, options)
        return out

    def backward(self, dy: _core.Tensor) -> None:
        q, k, v, out, logsumexp, options = self.saved
        grads = _core.attention_backward(dy, q.data, k.data, v.data, out, logsumexp, *options)
        for tensor, grad in zip((q, k, v), grads, strict=True):
            add_grad(tensor, grad)


@overload
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_sequences: _core.Sequences,
    k_sequences: _core.Sequences,
    *,
    causal: bool = False,
    window: int | None = None,
    bias: None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    return_weights: Literal[False] = False,
) -> Tensor: ...


@overload
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_sequences: _core.Sequences,
    k_sequences: _core.Sequences,
    *,
    causal: bool = False,
    window: int | None = None,
    bias: None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    return_weights: Literal[True],
) -> tuple[Tensor, list[Tensor]]: ...


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_sequences: _core.Sequences,
    k_sequences: _core.Sequences,
    *,
    causal: bool = False,
    window: int | None = None,
    bias: None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    return_weights: bool = False,
) -> Tensor | tuple[Tensor, list[Tensor]]:
    """softmax(q k^T scale + mask) v, sequence by sequence, without keeping the scores
    (Vaswani et al. 2017, arXiv:1706.03762; Dao et al. 2022, arXiv:2205.14135).

    Query t of n queries over m keys stands at position t + m - n. A query that may attend to nothing gives 0, with zero
    gradient.

    Args:
        q: (tokens, num_heads, head_dim) float32 or bfloat16, as k and v.
        k, v: (tokens of the keys, kv_heads, head_dim); query head h reads key head h * kv_heads / num_heads.
        q_sequences, k_sequences: sequence i of the queries attends to sequence i of the keys.
        causal: a query sees only keys up to its position.
        window: a query sees only keys at most this far from its position.
        bias: reserved for relative positions; None.
        scale: 1 / sqrt(head_dim) by default.
        dropout: rate in [0, 1) at which softmax weights are dropped.
        return_weights: also return the softmax weights before dropout.

    Returns:
        (tokens, num_heads, head_dim), and with return_weights a list of (num_heads, queries, keys), one a sequence.
    """
    check_tensors("attention", q=q, k=k, v=v)
    check_sequences("attention", q_sequences=q_sequences, k_sequences=k_sequences)
    if bias is not None:
        raise ValueError(f"attention: bias must be None (relative biases are not supported yet), got {bias!r}")
    causal = arguments.flag("attention", "causal", causal)
    return_weights = arguments.flag("attention", "return_weights", return_weights)
    if window is not None:
        window = arguments.integer("attention", "window", window)
    if scale is not None:
        scale = arguments.number("attention", "scale", scale)
    function = Attention()
    mask = dropout_mask("attention", dropout)
    out = function(q, k, v, q_sequences, k_sequences, causal, window, scale, mask, return_weights)
    if function.weights is None:
        return out
    return out, _split_weights(function.weights, q.shape[1], q_sequences, k_sequences)


def _split_weights(
    weights: _core.Tensor, num_heads: int, q_sequences: _core.Sequences, k_sequences: _core.Sequences
) -> list[Tensor]:
    parts, first = [], 0
    for queries, keys in zip(q_sequences.lengths, k_sequences.lengths, strict=True):
        parts.append(Tensor(weights.slice(first, [num_heads, queries, keys])))
        first += num_heads * queries * keys
    return parts
