"""MultiHeadAttention, and a way to look at its weights."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from dragoman import arguments, functional
from dragoman._core import Sequences
from dragoman.functional.attention import AttentionWeights
from dragoman.nn.attention_positions import AttentionPositions
from dragoman.nn.init import xavier_uniform
from dragoman.nn.kv_cache import KVCache
from dragoman.nn.linear import Linear
from dragoman.nn.module import Module
from dragoman.nn.norm import RMSNorm
from dragoman.nn.weight import Parameter
from dragoman.tensor import Tensor

AttentionRecord = dict["MultiHeadAttention", AttentionWeights]

# The record, and the attentions that leave their weights in it; None for all.
_record: ContextVar[tuple[AttentionRecord, Collection[MultiHeadAttention] | None] | None] = ContextVar(
    "record", default=None
)


@contextmanager
def record_attention(only: Collection[MultiHeadAttention] | None = None) -> Iterator[AttentionRecord]:
    """Inside, every MultiHeadAttention that runs, or those of `only`, leaves its weights in the record that is yielded.

    record[attention] holds a (num_heads, queries, keys) Tensor a sequence: the softmax, before dropout.
    """
    if only is not None:
        only = list(only)
        arguments.check_types("record_attention", MultiHeadAttention, **{f"only[{i}]": a for i, a in enumerate(only)})
    record: AttentionRecord = {}
    token = _record.set((record, only))
    try:
        yield record
    finally:
        _record.reset(token)


def is_recording_attention() -> bool:
    """Whether the caller stands in `record_attention`."""
    return _record.get() is not None


class MultiHeadAttention(Module):
    """softmax(q k^T / sqrt(head_dim)) v in `num_heads` slices, between projections
    (Vaswani et al. 2017, arXiv:1706.03762, section 3.2).

    The projections of queries, keys and values begin Xavier-uniform times sqrt(1/2), that of the output Xavier-uniform.

    Args:
        d_model: size of a row of queries and result.
        num_heads: a divisor of d_model, unless head_dim is given.
        d_memory: size of a row of the memory, d_model by default.
        kv_heads: heads of keys and values, a divisor of num_heads: grouped queries (Ainslie et al. 2023,
            arXiv:2305.13245), with 1 multi-query attention (Shazeer 2019, arXiv:1911.02150); num_heads by default.
        head_dim: size of a head, d_model / num_heads by default.
        scale: factor on the products of queries and keys, 1 / sqrt(head_dim) by default.
        score_cap: scores become score_cap * tanh(score / score_cap) (Gemma Team 2024, arXiv:2408.00118); no cap by
            default.
        window: a query sees only keys at most this far from it.
        bias: which projections have one: letters of "qkvo", for queries, keys, values and output.
        qk_norm: "rms" for an RMSNorm of every head of queries and keys (Henry et al. 2020, arXiv:2010.04245), or None.
        norm_eps: of these norms.
        positions: what attention knows about positions; for self-attention.
        dropout: rate at which weights are dropped in training, in [0, 1).

    Raises:
        TypeError, ValueError: naming the argument.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        *,
        d_memory: int | None = None,
        kv_heads: int | None = None,
        head_dim: int | None = None,
        scale: float | None = None,
        score_cap: float | None = None,
        window: int | None = None,
        bias: str = "qkvo",
        qk_norm: str | None = None,
        norm_eps: float = 1e-5,
        positions: AttentionPositions | None = None,
        dropout: float = 0.0,
    ) -> None:
        op = "MultiHeadAttention"
        d_model, num_heads = arguments.size(op, "d_model", d_model), arguments.size(op, "num_heads", num_heads)
        d_memory = d_model if d_memory is None else arguments.size(op, "d_memory", d_memory)
        dropout = arguments.rate(op, "dropout", dropout)
        kv_heads = num_heads if kv_heads is None else arguments.size(op, "kv_heads", kv_heads)
        if head_dim is None:
            if d_model % num_heads:
                raise ValueError(f"{op}: num_heads must divide {d_model}, got {num_heads}")
            head_dim = d_model // num_heads
        head_dim = arguments.size(op, "head_dim", head_dim)
        if num_heads % kv_heads:
            raise ValueError(f"{op}: kv_heads must divide num_heads = {num_heads}, got {kv_heads}")
        arguments.check_types(op, str, bias=bias)
        if set(bias) - set("qkvo"):
            raise ValueError(f'{op}: bias must be made of letters of "qkvo", got {bias!r}')
        if qk_norm is not None:
            arguments.choice(op, "qk_norm", qk_norm, ("rms",))
        norm_eps = arguments.number(op, "norm_eps", norm_eps, 0.0)
        if positions is not None:
            arguments.check_types(op, AttentionPositions, positions=positions)
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.scale = None if scale is None else arguments.number(op, "scale", scale)
        self.score_cap = None if score_cap is None else arguments.positive(op, "score_cap", score_cap)
        self.window = None if window is None else arguments.integer(op, "window", window)
        self.dropout = dropout
        inner, kv_inner = num_heads * head_dim, kv_heads * head_dim
        self.q_proj = _projection(d_model, inner, "q" in bias)
        self.k_proj = _projection(d_memory, kv_inner, "k" in bias)
        self.v_proj = _projection(d_memory, kv_inner, "v" in bias)
        self.out_proj = Linear(inner, d_model, bias="o" in bias)
        self.q_norm = None if qk_norm is None else RMSNorm(head_dim, eps=norm_eps)
        self.k_norm = None if qk_norm is None else RMSNorm(head_dim, eps=norm_eps)
        self.positions = positions

    def __call__(
        self,
        x: Tensor,
        sequences: Sequences,
        memory: Tensor | None = None,
        memory_sequences: Sequences | None = None,
        *,
        causal: bool = False,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Self-attention, or attention from x to a memory.

        Args:
            x: (tokens, d_model), what asks.
            sequences: of x.
            memory: (memory tokens, d_memory), what is read; x itself by default.
            memory_sequences: of memory; sequence i of x reads sequence i of it.
            causal: a token reads only itself and earlier ones.
            cache: where keys and values are kept from one step of decoding to the next.

        Returns:
            (tokens, d_model).
        """
        source, k_sequences = x, sequences
        if memory is not None:
            if memory_sequences is None:
                raise ValueError("MultiHeadAttention: memory_sequences must be given with memory, got None")
            if self.positions is not None:
                raise ValueError("MultiHeadAttention: memory must be None with positions, got a Tensor")
            source, k_sequences = memory, memory_sequences
        q = self.q_proj(x, sequences)
        if self.q_norm is not None:
            q = _norm_heads(self.q_norm, q)
        turn = self._turn(sequences, cache)
        if turn is not None:
            q = turn(q)
        if cache is None:
            k, v = self._keys_values(source, k_sequences, turn)
        elif memory is None:
            k, v, k_sequences = cache.append(self, *self._keys_values(x, sequences, turn), sequences)
        else:
            k, v = cache.memory(self, lambda: self._keys_values(source, k_sequences))
            k_sequences = cache.sources(k_sequences)
        return self.out_proj(self._attend(q, k, v, sequences, k_sequences, causal), sequences)

    def _turn(self, sequences: Sequences, cache: KVCache | None) -> Callable[[Tensor], Tensor] | None:
        """How positions turn the queries and keys of `sequences`, which the cache has counted already."""
        positions = self.positions
        if positions is None or not positions.turns:
            return None
        if cache is None:
            return lambda x: positions.turn(x, sequences, self.head_dim, sequences.max_length, None)
        starts, longest = cache.starts(sequences), max(cache.lengths, default=0)
        return lambda x: positions.turn(x, sequences, self.head_dim, longest, starts)

    def _keys_values(
        self, x: Tensor, sequences: Sequences, turn: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        k, v = self.k_proj(x, sequences), self.v_proj(x, sequences)
        if self.k_norm is not None:
            k = _norm_heads(self.k_norm, k)
        return (k if turn is None else turn(k)), v

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, q_sequences: Sequences, k_sequences: Sequences, causal: bool
    ) -> Tensor:
        options: dict[str, Any] = {} if self.positions is None else self.positions.options()
        options |= {"causal": causal, "window": self.window, "scale": self.scale, "num_heads": self.num_heads}
        options |= {"score_cap": self.score_cap, "dropout": self.dropout if self.training else 0.0}
        recording = _record.get()
        record, only = ({}, ()) if recording is None else recording
        if only is not None and self not in only:
            out: Tensor = functional.attention(q, k, v, q_sequences, k_sequences, **options)
        else:
            out, record[self] = functional.attention(q, k, v, q_sequences, k_sequences, return_weights=True, **options)
        return out


def _projection(d_model: int, features: int, bias: bool) -> Linear:
    """Of queries, keys or values. Its first weights are smaller than Xavier's, as in fairseq (Ott et al. 2019,
    arXiv:1904.01038): with Xavier's a post-norm model may never learn to look at the source."""
    weight = Parameter(xavier_uniform(features, d_model, gain=0.5**0.5))
    return Linear(d_model, features, bias=bias, weight=weight)


def _norm_heads(norm: RMSNorm, x: Tensor) -> Tensor:
    """x (tokens, heads * head_dim), each head normalised alone. Rows that are not in use hold zeros and stay so."""
    return norm(x.reshape(-1, norm.weight.shape[0])).reshape(-1, x.shape[1])
