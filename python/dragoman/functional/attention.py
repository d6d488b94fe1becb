"""attention: softmax(q k^T scale + mask) v over ragged sequences."""

from __future__ import annotations

from itertools import chain
from typing import Literal, TypedDict, Unpack, overload

from dragoman import _core, arguments
from dragoman.functional.operands import data_of, dropout_mask
from dragoman.tensor import Function, Tensor, add_grad, check_options, check_sequences, check_tensors, grad_buffer


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
        bias: Tensor | None,
        relative_keys: Tensor | None,
        relative_values: Tensor | None,
    ) -> _core.Tensor:
        tables = (bias, relative_keys, relative_values)
        out, logsumexp, self.weights = _core.attention_forward(
            q.data, k.data, v.data, q_sequences, k_sequences, options, *map(data_of, tables)
        )
        self.saved = (tables, q, k, v, out, logsumexp, q_sequences, k_sequences, options)
        return out

    def backward(self, dy: _core.Tensor) -> None:
        tables, q, k, v, *rest = self.saved
        gradients = chain.from_iterable(map(grad_buffer, tables))
        grads = _core.attention_backward(dy, q.data, k.data, v.data, *rest, *map(data_of, tables), *gradients)
        for tensor, grad in zip((q, k, v), grads, strict=True):
            add_grad(tensor, grad)


class _Options(TypedDict, total=False):
    causal: bool
    window: int | None
    query_offset: int | None
    scale: float | None
    score_cap: float | None
    relative_bias: Tensor | None
    bidirectional: bool
    max_distance: int
    alibi_slopes: Tensor | None
    relative_keys: Tensor | None
    relative_values: Tensor | None
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
) -> tuple[Tensor, AttentionWeights]: ...


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_sequences: _core.Sequences,
    k_sequences: _core.Sequences,
    *,
    causal: bool = False,
    window: int | None = None,
    query_offset: int | None = None,
    scale: float | None = None,
    score_cap: float | None = None,
    relative_bias: Tensor | None = None,
    bidirectional: bool = True,
    max_distance: int = 128,
    alibi_slopes: Tensor | None = None,
    relative_keys: Tensor | None = None,
    relative_values: Tensor | None = None,
    dropout: float = 0.0,
    num_heads: int | None = None,
    return_weights: bool = False,
) -> Tensor | tuple[Tensor, AttentionWeights]:
    """softmax(q k^T scale + bias + mask) v, sequence by sequence, without keeping the scores
    (Vaswani et al. 2017, arXiv:1706.03762; Dao et al. 2022, arXiv:2205.14135).

    Query t of n queries over m keys stands at position t + m - n. A query that may attend to nothing gives 0, with zero
    gradient. The distance from a query to a key is the key's place in its sequence minus the query's position.

    Args:
        q: (tokens, num_heads, head_dim) float32 or bfloat16, as k and v.
        k, v: (tokens of the keys, kv_heads, head_dim); query head h reads key head h * kv_heads / num_heads.
        q_sequences, k_sequences: sequence i of the queries attends to sequence i of the keys.
        causal: a query sees only keys up to its position.
        window: a query sees only keys at most this far from its position.
        query_offset: the position of each sequence's first query, in place of m - n.
        scale: 1 / sqrt(head_dim) by default.
        score_cap: scores become score_cap * tanh(score / score_cap) (Gemma Team 2024, arXiv:2408.00118). Not with
            relative_bias, alibi_slopes or relative_keys.
        relative_bias: (buckets, num_heads) float32, added to the scores by the bucket of the distance (Raffel et al.
            2020, arXiv:1910.10683, T5). Half of the buckets hold one distance each, the others ever longer ranges.
        bidirectional: of relative_bias: keys after the query have half of the buckets for their own; otherwise they
            share the bucket of distance 0.
        max_distance: of relative_bias: this far and farther is in the last bucket.
        alibi_slopes: (num_heads,) float32; -slope * abs(distance) is added to the scores (Press et al. 2022,
            arXiv:2108.12409). They have no gradient.
        relative_keys, relative_values: (2 * clip + 1, head_dim) float32, for distances from -clip to clip; farther ones
            have the first or last row. Their rows are added to the keys and values that a query sees (Shaw et al. 2018,
            arXiv:1803.02155), in every head.
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
    check_options(
        "attention",
        relative_bias=relative_bias,
        alibi_slopes=alibi_slopes,
        relative_keys=relative_keys,
        relative_values=relative_values,
    )
    if window is not None:
        window = arguments.integer("attention", "window", window)
    if query_offset is not None:
        query_offset = arguments.integer("attention", "query_offset", query_offset)
    if scale is not None:
        scale = arguments.number("attention", "scale", scale)
    if score_cap is not None:
        score_cap = arguments.positive("attention", "score_cap", score_cap)
    if num_heads is not None:
        num_heads = arguments.integer("attention", "num_heads", num_heads, minimum=1)
    if alibi_slopes is not None:
        if relative_bias is not None:
            raise ValueError("attention: alibi_slopes must be None with a relative_bias, got both")
        if alibi_slopes.requires_grad:
            raise ValueError("attention: alibi_slopes must require no gradient, got a tensor that does")
    options = _core.AttentionOptions(
        causal=arguments.flag("attention", "causal", causal),
        window=window,
        query_offset=query_offset,
        scale=scale,
        score_cap=score_cap,
        num_heads=num_heads,
        bias="relative" if relative_bias is not None else "alibi" if alibi_slopes is not None else "none",
        bidirectional=arguments.flag("attention", "bidirectional", bidirectional),
        max_distance=arguments.integer("attention", "max_distance", max_distance, minimum=1),
        dropout=dropout_mask("attention", dropout, q.device),
        return_weights=arguments.flag("attention", "return_weights", return_weights),
    )
    function = Attention()
    bias = alibi_slopes if relative_bias is None else relative_bias
    out = function(q, k, v, q_sequences, k_sequences, options, bias, relative_keys, relative_values)
    if function.weights is None:
        return out
    return out, AttentionWeights(function.weights, num_heads or q.shape[1], q_sequences, k_sequences)


class AttentionWeights(list[Tensor]):
    """(num_heads, queries, keys) of each sequence. `packed` holds them end to end: a Program can return it."""

    def __init__(
        self, weights: _core.Tensor, num_heads: int, q_sequences: _core.Sequences, k_sequences: _core.Sequences
    ) -> None:
        super().__init__(_split_weights(weights, num_heads, q_sequences, k_sequences))
        self.packed = Tensor(weights)


def _split_weights(
    weights: _core.Tensor, num_heads: int, q_sequences: _core.Sequences, k_sequences: _core.Sequences
) -> list[Tensor]:
    parts, first = [], 0
    for queries, keys in zip(q_sequences.lengths, k_sequences.lengths, strict=True):
        parts.append(Tensor(weights.slice(first, [num_heads, queries, keys])))
        first += num_heads * queries * keys
    return parts
