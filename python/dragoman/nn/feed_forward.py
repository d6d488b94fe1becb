"""FeedForward: the two-layer network applied to every token."""

from __future__ import annotations

from dragoman import arguments
from dragoman._core import Sequences
from dragoman.functional.operands import ACTIVATIONS
from dragoman.nn.linear import Linear
from dragoman.nn.module import Module
from dragoman.tensor import Tensor


class FeedForward(Module):
    """y = dropout(activation(x W1^T + b1)) W2^T + b2 (Vaswani et al. 2017, arXiv:1706.03762, section 3.3).

    Args:
        d_model: size of a row of x and y.
        d_ff: size of the hidden row.
        activation: "relu" or "gelu".
        dropout: rate of the hidden values in training, in [0, 1).
    """

    def __init__(self, d_model: int, d_ff: int, *, activation: str = "relu", dropout: float = 0.0) -> None:
        d_model = arguments.size("FeedForward", "d_model", d_model)
        d_ff = arguments.size("FeedForward", "d_ff", d_ff)
        activation = arguments.choice("FeedForward", "activation", activation, ACTIVATIONS)
        dropout = arguments.rate("FeedForward", "dropout", dropout)
        self.linear1 = Linear(d_model, d_ff)
        self.linear2 = Linear(d_ff, d_model)
        self.activation = activation
        self.dropout = dropout

    def __call__(self, x: Tensor, sequences: Sequences | None = None) -> Tensor:
        """x (tokens, d_model) -> (tokens, d_model)."""
        dropout = self.dropout if self.training else 0.0
        hidden = self.linear1(x, sequences, activation=self.activation, dropout=dropout)
        return self.linear2(hidden, sequences)
