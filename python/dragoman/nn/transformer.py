"""TransformerLayer, with or without cross-attention, and TransformerStack, layers one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dragoman import arguments, functional
from dragoman._core import Sequences
from dragoman.nn.attention import MultiHeadAttention
from dragoman.nn.attention_positions import AttentionPositions
from dragoman.nn.feed_forward import FeedForward
from dragoman.nn.kv_cache import KVCache
from dragoman.nn.linear import Linear
from dragoman.nn.module import Module
from dragoman.nn.norm import NORMS, LayerNorm, RMSNorm, make_norm
from dragoman.tensor import Tensor, check_sequences, check_tensors

RESIDUALS = ("add", "concat")


class TransformerLayer(Module):
    """Self-attention, optional attention to a memory and a feed-forward network, each with norm and residual.

    Post-norm, norm(x + sublayer(x)), as in Vaswani et al. 2017 (arXiv:1706.03762); pre-norm,
    x + sublayer(norm(x)) (Xiong et al. 2020, arXiv:2002.04745); or both, x + norm(sublayer(norm(x))), the sandwich
    norm of Ding et al. 2021 (arXiv:2105.13290).

    Args:
        d_model: size of a row.
        num_heads: a divisor of d_model.
        d_ff: size of the feed-forward network's hidden row.
        causal: in self-attention a token reads only itself and earlier ones.
        cross_attention: there is attention to a memory between self-attention and the feed-forward network.
        d_memory: size of a row of the memory; d_model by default.
        norm_first: pre-norm.
        sandwich_norm: pre-norm with a second norm after each sublayer; needs norm_first.
        norm: "layer" or "rms".
        residual: "add", x + y, or "concat", a Linear of [y, x], which has 2 d_model columns.
        activation: of the feed-forward network, see FeedForward.
        gated, feed_forward_bias: whether the feed-forward network has a gate, and biases.
        norm_eps: added to the variance in norms.
        dropout: rate on the way into a residual connection; all rates in [0, 1), in training only.
        attention_dropout: rate of attention weights.
        activation_dropout: rate of the feed-forward network's hidden values.
        positions: what self-attention knows about positions; layers may share it.
        window: in self-attention a token reads only tokens at most this far from it.
        attention: other options of both MultiHeadAttentions, such as kv_heads and head_dim.

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
        d_memory: int | None = None,
        norm_first: bool = False,
        sandwich_norm: bool = False,
        norm: str = "layer",
        residual: str = "add",
        activation: str = "relu",
        gated: bool = False,
        feed_forward_bias: bool = True,
        norm_eps: float = 1e-5,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        activation_dropout: float = 0.0,
        positions: AttentionPositions | None = None,
        window: int | None = None,
        **attention: Any,
    ) -> None:
        op = type(self).__name__
        self.causal = arguments.flag(op, "causal", causal)
        self.norm_first = arguments.flag(op, "norm_first", norm_first)
        if arguments.flag(op, "sandwich_norm", sandwich_norm) and not norm_first:
            raise ValueError(f"{op}: sandwich_norm must be False without norm_first, got True")
        arguments.flag(op, "feed_forward_bias", feed_forward_bias)
        arguments.choice(op, "norm", norm, tuple(NORMS))
        arguments.choice(op, "residual", residual, RESIDUALS)
        self.dropout = arguments.number(op, "dropout", dropout, 0.0, 1.0)
        norm_eps = arguments.number(op, "norm_eps", norm_eps, 0.0)
        attention_dropout = arguments.rate(op, "attention_dropout", attention_dropout)
        activation_dropout = arguments.rate(op, "activation_dropout", activation_dropout)
        sublayers = 3 if arguments.flag(op, "cross_attention", cross_attention) else 2
        if d_memory is not None and not cross_attention:
            raise ValueError(f"{op}: d_memory must be None without cross_attention, got {d_memory!r}")
        # The order of the attributes is that of the parameters in files and in the optimizer.
        attention |= {"dropout": attention_dropout, "norm_eps": norm_eps}
        self.self_attention = MultiHeadAttention(d_model, num_heads, positions=positions, window=window, **attention)
        self.norm1 = make_norm(norm, d_model, eps=norm_eps)
        self.cross_attention: MultiHeadAttention | None = None
        if cross_attention:
            self.cross_attention = MultiHeadAttention(d_model, num_heads, d_memory=d_memory, **attention)
            self.norm2 = make_norm(norm, d_model, eps=norm_eps)
        self.feed_forward = FeedForward(
            d_model, d_ff, activation=activation, gated=gated, bias=feed_forward_bias, dropout=activation_dropout
        )
        if cross_attention:
            self.norm3 = make_norm(norm, d_model, eps=norm_eps)
        else:
            self.norm2 = make_norm(norm, d_model, eps=norm_eps)
        second = sublayers if sandwich_norm else 0
        self.output_norms = [make_norm(norm, d_model, eps=norm_eps) for _ in range(second)]
        joined = sublayers if residual == "concat" else 0
        self.residual_projections = [Linear(2 * d_model, d_model) for _ in range(joined)]

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
            memory: (memory tokens, d_memory) for a layer with cross-attention, else None.
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
        s = sequences
        x = self._sublayer(0, self.norm1, lambda x: self.self_attention(x, s, causal=self.causal, cache=cache), x, s)
        if cross_attention is None:
            return self._sublayer(1, self.norm2, lambda x: self.feed_forward(x, s), x, s)
        x = self._sublayer(1, self.norm2, lambda x: cross_attention(x, s, memory, memory_sequences, cache=cache), x, s)
        return self._sublayer(2, self.norm3, lambda x: self.feed_forward(x, s), x, s)

    def _sublayer(
        self, place: int, norm: LayerNorm | RMSNorm, run: Callable[[Tensor], Tensor], x: Tensor, sequences: Sequences
    ) -> Tensor:
        """Runs the sublayer at `place` with its norm and its residual connection."""
        dropout = self.dropout if self.training else 0.0
        if not self.norm_first and not self.residual_projections:  # in one pass over memory
            return norm(run(x), sequences, residual=x, dropout=dropout)
        y = run(norm(x, sequences)) if self.norm_first else run(x)
        if self.output_norms:
            y = self.output_norms[place](y, sequences)
        if self.residual_projections:
            y = functional.dropout(y, dropout, sequences=sequences)
            x = self.residual_projections[place](functional.concat([y, x], axis=1), sequences)
        else:
            x = functional.residual(y, x, dropout=dropout, sequences=sequences)
        return x if self.norm_first else norm(x, sequences)


class TransformerEncoderLayer(TransformerLayer):
    """A TransformerLayer without cross-attention; not causal unless told so."""


class TransformerDecoderLayer(TransformerLayer):
    """A causal TransformerLayer with cross-attention. Other arguments as of TransformerLayer."""

    def __init__(self, d_model: int, num_heads: int, d_ff: int, **options: Any) -> None:
        super().__init__(d_model, num_heads, d_ff, causal=True, cross_attention=True, **options)


class TransformerStack(Module):
    """Layers one after the other. Make each layer separately, so that each has weights of its own.

    Attributes:
        checkpoint_layers: whether a training step keeps only the layers' inputs, and computes each layer again in
            backward, see `dragoman.functional.checkpoint`; False at first.

    Args:
        layers: what to run, in order.
        norm: applied to the last layer's output, as pre-norm stacks need.

    Raises:
        TypeError: naming the argument.
    """

    def __init__(self, layers: list[TransformerLayer], norm: LayerNorm | RMSNorm | None = None) -> None:
        op = type(self).__name__
        if not isinstance(layers, list) or not layers or not all(isinstance(layer, Module) for layer in layers):
            names = [type(layer).__name__ for layer in layers] if isinstance(layers, list) else type(layers).__name__
            raise TypeError(f"{op}: layers must be a list of at least one Module, got {names}")
        if norm is not None:
            arguments.check_types(op, Module, norm=norm)
        self.layers = layers
        self.norm = norm
        self.checkpoint_layers = False

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
            memory: (memory tokens, d_memory), an encoder's output, for layers with cross-attention.
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
            if self.checkpoint_layers and self.training and cache is None:
                x = _checkpointed(layer, x, sequences, memory, memory_sequences)
            else:
                x = layer(x, sequences, memory, memory_sequences, cache)
        return x if self.norm is None else self.norm(x, sequences)


def _checkpointed(
    layer: TransformerLayer,
    x: Tensor,
    sequences: Sequences,
    memory: Tensor | None,
    memory_sequences: Sequences | None,
) -> Tensor:
    def run(*inputs: Tensor) -> Tensor:
        return layer(inputs[-1], sequences, memory, memory_sequences)

    # The residual connection's input stands last in the layer's ops, too: backward visits all in the same order.
    inputs = (x,) if memory is None else (memory, x)
    return functional.checkpoint(run, *inputs, parameters=layer.parameters())


class Encoder(TransformerStack):
    """A TransformerStack of layers without cross-attention."""


class Decoder(TransformerStack):
    """A TransformerStack of layers that read a memory and keep a cache."""
