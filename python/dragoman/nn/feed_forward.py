"""FeedForward: the two-layer network applied to every token."""

from __future__ import annotations

from dragoman import arguments, functional
from dragoman._core import Sequences
from dragoman.functional.operands import ACTIVATIONS
from dragoman.nn.linear import Linear
from dragoman.nn.module import Module
from dragoman.tensor import Tensor


class FeedForward(Module):
    """y = dropout(activation(x W1^T + b1)) W2^T + b2 (Vaswani et al. 2017, arXiv:1706.03762, section 3.3).

    The hidden values of the gated form are dropout(activation(x G^T + g) * (x W1^T + b1)) (Shazeer 2020,
    arXiv:2002.05202).

    Args:
        d_model: size of a row of x and y.
        d_ff: size of the hidden row.
        activation: "none", "relu", "gelu", "gelu_tanh", "silu", "tanh" or "sigmoid".
        gated: whether the hidden values are multiplied by a gate, a Linear of its own.
        bias: whether the Linears have a bias.
        dropout: rate of the hidden values in training, in [0, 1).
    """

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        *,
        activation: str = "relu",
        gated: bool = False,
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        d_model = arguments.size("FeedForward", "d_model", d_model)
        d_ff = arguments.size("FeedForward", "d_ff", d_ff)
        activation = arguments.choice("FeedForward", "activation", activation, ACTIVATIONS)
        bias = arguments.flag("FeedForward", "bias", bias)
        dropout = arguments.rate("FeedForward", "dropout", dropout)
        self.linear1 = Linear(d_model, d_ff, bias=bias)
        self.gate = Linear(d_model, d_ff, bias=bias) if arguments.flag("FeedForward", "gated", gated) else None
        self.linear2 = Linear(d_ff, d_model, bias=bias)
        self.activation = activation
        self.dropout = dropout

    def __call__(self, x: Tensor, sequences: Sequences | None = None) -> Tensor:
        """x (tokens, d_model) -> (tokens, d_model)."""
        dropout = self.dropout if self.training else 0.0
        if self.gate is None:
            hidden = self.linear1(x, sequences, activation=self.activation, dropout=dropout)
        else:
            gate, hidden = self.gate(x, sequences), self.linear1(x, sequences)
            hidden = functional.gate(gate, hidden, activation=self.activation, dropout=dropout, sequences=sequences)
        return self.linear2(hidden, sequences)
