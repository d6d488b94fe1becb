"""TransformerEncoderLayer and the Encoder, a stack of them."""

from __future__ import annotations

from dragoman import arguments
from dragoman._core import Sequences
from dragoman.nn.attention import MultiHeadAttention
from dragoman.nn.feed_forward import FeedForward
from dragoman.nn.module import Module, check_stack
from dragoman.nn.norm import LayerNorm
from dragoman.nn.residual import Residual
from dragoman.tensor import Tensor, check_sequences, check_tensors


class TransformerEncoderLayer(Module):
    """Self-attention and a feed-forward network, each with a norm and a residual connection.

    Post-norm, norm(x + sublayer(x)), as in Vaswani et al. 2017 (arXiv:1706.03762), or pre-norm,
    x + sublayer(norm(x)) (Xiong et al. 2020, arXiv:2002.04745).

    Args:
        d_model: size of a row.
        num_heads: a divisor of d_model.
        d_ff: size of the feed-forward network's hidden row.
        norm_first: pre-norm.
        activation: "relu" or "gelu".
        norm_eps: added to the variance in norms.
        dropout: rate on the way into a residual connection; all rates in [0, 1), in training only.
        attention_dropout: rate of attention weights.
        activation_dropout: rate of the feed-forward network's hidden values.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_ff: int,
        *,
        norm_first: bool = False,
        activation: str = "relu",
        norm_eps: float = 1e-5,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        activation_dropout: float = 0.0,
    ) -> None:
        op = "TransformerEncoderLayer"
        arguments.flag(op, "norm_first", norm_first)
        arguments.number(op, "norm_eps", norm_eps, 0.0)
        arguments.check_rates(
            op, dropout=dropout, attention_dropout=attention_dropout, activation_dropout=activation_dropout
        )
        self.norm_first = norm_first
        self.self_attention = MultiHeadAttention(d_model, num_heads, dropout=attention_dropout)
        self.norm1 = LayerNorm(d_model, eps=norm_eps)
        self.feed_forward = FeedForward(d_model, d_ff, activation=activation, dropout=activation_dropout)
        self.norm2 = LayerNorm(d_model, eps=norm_eps)
        self.residual = Residual(dropout)

    def __call__(self, x: Tensor, sequences: Sequences, *, causal: bool = False) -> Tensor:
        """x (tokens, d_model) -> (tokens, d_model)."""
        s = sequences
        if self.norm_first:
            x = self.residual(self.self_attention(self.norm1(x, s), s, causal=causal), x, s)
            x = self.residual(self.feed_forward(self.norm2(x, s), s), x, s)
        else:
            x = self.residual(self.self_attention(x, s, causal=causal), x, s, norm=self.norm1)
            x = self.residual(self.feed_forward(x, s), x, s, norm=self.norm2)
        return x


class Encoder(Module):
    """Layers one after the other. Make each layer anew, so that each has weights of its own.

    Args:
        layers: what to run, in order.
        norm: applied to the last layer's output, as pre-norm stacks need.

    Raises:
        TypeError: naming the argument.
    """

    def __init__(self, layers: list[TransformerEncoderLayer], norm: LayerNorm | None = None) -> None:
        check_stack("Encoder", layers, norm)
        self.layers = layers
        self.norm = norm

    def __call__(self, x: Tensor, sequences: Sequences, *, causal: bool = False) -> Tensor:
        """Runs the stack.

        Args:
            x: (tokens, d_model).
            sequences: of x.
            causal: a token reads only itself and earlier ones, as in a decoder-only model.

        Returns:
            (tokens, d_model).
        """
        check_tensors("Encoder", x=x)
        check_sequences("Encoder", sequences=sequences)
        arguments.flag("Encoder", "causal", causal)
        for layer in self.layers:
            x = layer(x, sequences, causal=causal)
        return x if self.norm is None else self.norm(x, sequences)
