"""attention: softmax(q k^T scale + mask) v over ragged sequences."""

from __future__ import annotations

from typing import Literal, TypedDict, Unpack, overload

from dragoman import _core, arguments
from dragoman.functional.operands import dropout_mask
from dragoman.tensor import Function, Tensor, add_grad, check_sequences, check_tensors


class Attention(Function):
    weights: _core.Tensor | None

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        q_sequences: _core.Sequences,
        k_sequences: _core.Sequences,
        options: _core.AttentionOptions,
    ) -> _core.Tensor:
        out, logsumexp, self.weights = _core.attention_forward(
            q.data, k.data, v.data, q_sequences, k_sequences, options
        )
        self.saved = (q, k, v, out, logsumexp, q_sequences, k_sequences, options)
        return out

    def backward(self, dy: _core.Tensor) -> None:
        q, k, v, *rest = self.saved
        grads = _core.attention_backward(dy, q.data, k.data, v.data, *rest)
        for tensor, grad in zip((q, k, v), grads, strict=True):
            add_grad(tensor, grad)


class _Options(TypedDict, total=False):
    causal: bool
    window: int | None
    bias: str | None
    scale: float | None
    dropout: float
    num_heads: int | None


@overload
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_sequences: _core.Sequences,
    k_sequences: _core.Sequences,
    *,
    return_weights: Literal[False] = False,
    **options: Unpack[_Options],
) -> Tensor: ...


@overload
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_sequences: _core.Sequences,
    k_sequences: _core.Sequences,
    *,
    return_weights: Literal[True],
    **options: Unpack[_Options],
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
    bias: str | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    num_heads: int | None = None,
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
        bias: "relative" and "alibi" are refused: they are not supported yet.
        scale: 1 / sqrt(head_dim) by default.
        dropout: rate in [0, 1) at which softmax weights are dropped.
        num_heads: if given, q, k and v may also be (tokens, num_heads * head_dim) and (tokens, kv_heads * head_dim).
        return_weights: also return the softmax weights before dropout.

    Returns:
        A tensor of q's shape, and with return_weights a list of (num_heads, queries, keys), one a sequence.

    Raises:
        TypeError: an argument of the wrong type, or another dtype.
        ValueError: shapes, sequences or options that do not fit together.
    """
    check_tensors("attention", q=q, k=k, v=v)
    check_sequences("attention", q_sequences=q_sequences, k_sequences=k_sequences)
    if bias is not None:
        arguments.check_types("attention", str, bias=bias)
    if window is not None:
        window = arguments.integer("attention", "window", window)
    if scale is not None:
        scale = arguments.number("attention", "scale", scale)
    if num_heads is not None:
        num_heads = arguments.integer("attention", "num_heads", num_heads, minimum=1)
    options = _core.AttentionOptions(
        causal=arguments.flag("attention", "causal", causal),
        window=window,
        scale=scale,
        num_heads=num_heads,
        bias="none" if bias is None else bias,
        dropout=dropout_mask("attention", dropout, q.device),
        return_weights=arguments.flag("attention", "return_weights", return_weights),
    )
    function = Attention()
    out = function(q, k, v, q_sequences, k_sequences, options)
    if function.weights is None:
        return out
    return out, _split_weights(function.weights, num_heads or q.shape[1], q_sequences, k_sequences)


def _split_weights(
    weights: _core.Tensor, num_heads: int, q_sequences: _core.Sequences, k_sequences: _core.Sequences
) -> list[Tensor]:
    parts, first = [], 0
    for queries, keys in zip(q_sequences.lengths, k_sequences.lengths, strict=True):
        parts.append(Tensor(weights.slice(first, [num_heads, queries, keys])))
        first += num_heads * queries * keys
    return parts
