"""TransformerLayer, with or without cross-attention, and TransformerStack, layers one after the other."""

from __future__ import annotations

from typing import Any

from dragoman import arguments
from dragoman._core import Sequences
from dragoman.functional import residual
from dragoman.nn.attention import MultiHeadAttention
from dragoman.nn.feed_forward import FeedForward
from dragoman.nn.kv_cache import KVCache
from dragoman.nn.module import Module
from dragoman.nn.norm import LayerNorm
from dragoman.tensor import Tensor, check_sequences, check_tensors


class TransformerLayer(Module):
    """Self-attention, optional attention to a memory and a feed-forward network, each with norm and residual.

    Post-norm, norm(x + sublayer(x)), as in Vaswani et al. 2017 (arXiv:1706.03762), or pre-norm,
    x + sublayer(norm(x)) (Xiong et al. 2020, arXiv:2002.04745).

    Args:
        d_model: size of a row.
        num_heads: a divisor of d_model.
        d_ff: size of the feed-forward network's hidden row.
        causal: in self-attention a token reads only itself and earlier ones.
        cross_attention: there is attention to a memory between self-attention and the feed-forward network.
        norm_first: pre-norm.
        activation: "relu" or "gelu".
        norm_eps: added to the variance in norms.
        dropout: rate on the way into a residual connection; all rates in [0, 1), in training only.
        attention_dropout: rate of attention weights.
        activation_dropout: rate of the feed-forward network's hidden values.

    Raises:
        TypeError, ValueError: naming the argument.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_ff: int,
        *,
        causal: bool = False,
        cross_attention: bool = False,
        norm_first: bool = False,
        activation: str = "relu",
        norm_eps: float = 1e-5,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        activation_dropout: float = 0.0,
    ) -> None:
        op = type(self).__name__
        self.causal = arguments.flag(op, "causal", causal)
        self.norm_first = arguments.flag(op, "norm_first", norm_first)
        self.dropout = arguments.number(op, "dropout", dropout, 0.0, 1.0)
        norm_eps = arguments.number(op, "norm_eps", norm_eps, 0.0)
        attention_dropout = arguments.rate(op, "attention_dropout", attention_dropout)
        activation_dropout = arguments.rate(op, "activation_dropout", activation_dropout)
        # The order of the attributes is that of the parameters in files and in the optimizer.
        self.self_attention = MultiHeadAttention(d_model, num_heads, dropout=attention_dropout)
        self.norm1 = LayerNorm(d_model, eps=norm_eps)
        self.cross_attention: MultiHeadAttention | None = None
        if arguments.flag(op, "cross_attention", cross_attention):
            self.cross_attention = MultiHeadAttention(d_model, num_heads, dropout=attention_dropout)
            self.norm2 = LayerNorm(d_model, eps=norm_eps)
        self.feed_forward = FeedForward(d_model, d_ff, activation=activation, dropout=activation_dropout)
        if cross_attention:
            self.norm3 = LayerNorm(d_model, eps=norm_eps)
        else:
            self.norm2 = LayerNorm(d_model, eps=norm_eps)

    def __call__(
        self,
        x: Tensor,
        sequences: Sequences,
        memory: Tensor | None = None,
        memory_sequences: Sequences | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Runs the layer.

        Args:
            x: (tokens, d_model).
            sequences: of x.
            memory: (memory tokens, d_model) for a layer with cross-attention, else None.
            memory_sequences: of memory; sequence i of x reads sequence i of it.
            cache: keys and values of earlier tokens, for a causal layer.

        Returns:
            (tokens, d_model).

        Raises:
            ValueError: a memory for a layer without cross-attention, or none for one with it.
        """
        cross_attention = self.cross_attention
        if (cross_attention is None) != (memory is None):
            expected, got = ("None", "a Tensor") if cross_attention is None else ("a Tensor", "None")
            raise ValueError(f"{type(self).__name__}: memory must be {expected} for this layer, got {got}")
        s, p = sequences, self.dropout if self.training else 0.0
        last_norm = self.norm2 if cross_attention is None else self.norm3
        if self.norm_first:
            y = self.self_attention(self.norm1(x, s), s, causal=self.causal, cache=cache)
            x = residual(y, x, dropout=p, sequences=s)
            if cross_attention is not None:
                y = cross_attention(self.norm2(x, s), s, memory, memory_sequences, cache=cache)
                x = residual(y, x, dropout=p, sequences=s)
            y = self.feed_forward(last_norm(x, s), s)
            return residual(y, x, dropout=p, sequences=s)
        y = self.self_attention(x, s, causal=self.causal, cache=cache)
        x = self.norm1(y, s, residual=x, dropout=p)
        if cross_attention is not None:
            y = cross_attention(x, s, memory, memory_sequences, cache=cache)
            x = self.norm2(y, s, residual=x, dropout=p)
        y = self.feed_forward(x, s)
        return last_norm(y, s, residual=x, dropout=p)


class TransformerEncoderLayer(TransformerLayer):
    """A TransformerLayer without cross-attention; not causal unless told so."""


class TransformerDecoderLayer(TransformerLayer):
    """A causal TransformerLayer with cross-attention. Other arguments as of TransformerLayer."""

    def __init__(self, d_model: int, num_heads: int, d_ff: int, **options: Any) -> None:
        super().__init__(d_model, num_heads, d_ff, causal=True, cross_attention=True, **options)


class TransformerStack(Module):
    """Layers one after the other. Make each layer separately, so that each has weights of its own.

    Args:
        layers: what to run, in order.
        norm: applied to the last layer's output, as pre-norm stacks need.

    Raises:
        TypeError: naming the argument.
    """

    def __init__(self, layers: list[TransformerLayer], norm: LayerNorm | None = None) -> None:
        op = type(self).__name__
        if not isinstance(layers, list) or not layers or not all(isinstance(layer, Module) for layer in layers):
            names = [type(layer).__name__ for layer in layers] if isinstance(layers, list) else type(layers).__name__
            raise TypeError(f"{op}: layers must be a list of at least one Module, got {names}")
        if norm is not None:
            arguments.check_types(op, Module, norm=norm)
        self.layers = layers
        self.norm = norm

    def __call__(
        self,
        x: Tensor,
        sequences: Sequences,
        memory: Tensor | None = None,
        memory_sequences: Sequences | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Runs the stack over x, or with a cache over the tokens that follow those it holds.

        Args:
            x: (tokens, d_model).
            sequences: of x.
            memory: (memory tokens, d_model), an encoder's output, for layers with cross-attention.
            memory_sequences: of memory; sequence i of x reads sequence i of it.
            cache: holds the earlier tokens; it grows by those of x.

        Returns:
            (tokens, d_model).

        Raises:
            TypeError, ValueError: naming the argument.
        """
        op = type(self).__name__
        check_tensors(op, x=x)
        check_sequences(op, sequences=sequences)
        if memory is not None or memory_sequences is not None:
            check_tensors(op, memory=memory)
            check_sequences(op, memory_sequences=memory_sequences)
        if cache is not None:
            arguments.check_types(op, KVCache, cache=cache)
            cache.extend(sequences)
        for layer in self.layers:
            x = layer(x, sequences, memory, memory_sequences, cache)
        return x if self.norm is None else self.norm(x, sequences)


class Encoder(TransformerStack):
    """A TransformerStack of layers without cross-attention."""


class Decoder(TransformerStack):
    """A TransformerStack of layers that read a memory and keep a cache."""
