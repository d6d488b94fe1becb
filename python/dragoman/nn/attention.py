"""MultiHeadAttention, and a way to look at its weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from dragoman import arguments, functional
from dragoman._core import Sequences
from dragoman.nn.init import xavier_uniform
from dragoman.nn.kv_cache import KVCache
from dragoman.nn.linear import Linear
from dragoman.nn.module import Module
from dragoman.nn.weight import Parameter
from dragoman.tensor import Tensor

AttentionRecord = dict["MultiHeadAttention", list[Tensor]]

_record: ContextVar[AttentionRecord | None] = ContextVar("record", default=None)


@contextmanager
def record_attention() -> Iterator[AttentionRecord]:
    """Inside, every MultiHeadAttention that runs leaves its weights in the record that is yielded.

    record[attention] holds a (num_heads, queries, keys) Tensor a sequence: the softmax, before dropout.
    """
    record: AttentionRecord = {}
    token = _record.set(record)
    try:
        yield record
    finally:
        _record.reset(token)


class MultiHeadAttention(Module):
    """softmax(q k^T / sqrt(head_dim)) v in `num_heads` slices of d_model, between projections
    (Vaswani et al. 2017, arXiv:1706.03762, section 3.2).

    The projections of queries, keys and values begin Xavier-uniform times sqrt(1/2), that of the output Xavier-uniform.

    Args:
        d_model: size of a row of queries, memory and result.
        num_heads: a divisor of d_model.
        dropout: rate at which weights are dropped in training, in [0, 1).

    Raises:
        ValueError: num_heads does not divide d_model.
    """

    def __init__(self, d_model: int, num_heads: int, *, dropout: float = 0.0) -> None:
        d_model = arguments.size("MultiHeadAttention", "d_model", d_model)
        num_heads = arguments.size("MultiHeadAttention", "num_heads", num_heads)
        dropout = arguments.rate("MultiHeadAttention", "dropout", dropout)
        if d_model % num_heads:
            raise ValueError(f"MultiHeadAttention: num_heads must divide {d_model}, got {num_heads}")
        self.num_heads = num_heads
        self.dropout = dropout
        self.q_proj = _projection(d_model)
        self.k_proj = _projection(d_model)
        self.v_proj = _projection(d_model)
        self.out_proj = Linear(d_model, d_model)

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
            memory: (memory tokens, d_model), what is read; x itself by default.
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
            source, k_sequences = memory, memory_sequences
        q = self.q_proj(x, sequences)
        if cache is None:
            k, v = self._keys_values(source, k_sequences)
        elif memory is None:
            k, v, k_sequences = cache.append(self, *self._keys_values(x, sequences), sequences)
        else:
            k, v = cache.memory(self, lambda: self._keys_values(source, k_sequences))
        return self.out_proj(self._attend(q, k, v, sequences, k_sequences, causal), sequences)

    def _keys_values(self, x: Tensor, sequences: Sequences) -> tuple[Tensor, Tensor]:
        return self.k_proj(x, sequences), self.v_proj(x, sequences)

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, q_sequences: Sequences, k_sequences: Sequences, causal: bool
    ) -> Tensor:
        rate, num_heads = self.dropout if self.training else 0.0, self.num_heads
        record = _record.get()
        if record is None:
            return functional.attention(
                q, k, v, q_sequences, k_sequences, causal=causal, dropout=rate, num_heads=num_heads
            )
        out, record[self] = functional.attention(
            q, k, v, q_sequences, k_sequences, causal=causal, dropout=rate, num_heads=num_heads, return_weights=True
        )
        return out


def _projection(d_model: int) -> Linear:
    """Of queries, keys or values. Its first weights are smaller than Xavier's, as in fairseq (Ott et al. 2019,
    arXiv:1904.01038): with Xavier's a post-norm model may never learn to look at the source."""
    return Linear(d_model, d_model, weight=Parameter(xavier_uniform(d_model, d_model, gain=0.5**0.5)))
