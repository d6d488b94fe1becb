"""relu and gelu."""

from __future__ import annotations

from dragoman import _core
from dragoman.tensor import Function, Tensor, add_grad, check_options, check_tensors


class Activation(Function):
    def forward(self, x: Tensor, activation: str, sequences: _core.Sequences | None) -> _core.Tensor:
        self.saved = (x, activation, sequences)
        return _core.activation_forward(x.data, activation, sequences)

    def backward(self, dy: _core.Tensor) -> None:
        x, activation, sequences = self.saved
        add_grad(x, _core.activation_backward(dy, x.data, activation, sequences))


def relu(x: Tensor, *, sequences: _core.Sequences | None = None) -> Tensor:
    """max(x, 0).

    Args:
        x: (tokens, features) float32 or bfloat16.
        sequences: says how many rows are in use; None for all.

    Returns:
        (tokens, features), of x's dtype.
    """
    check_tensors("relu", x=x)
    check_options("relu", sequences=sequences)
    return Activation()(x, "relu", sequences)


def gelu(x: Tensor, *, sequences: _core.Sequences | None = None) -> Tensor:
    """x Phi(x), the exact form (Hendrycks & Gimpel 2016, arXiv:1606.08415).

    Args:
        x: (tokens, features) float32 or bfloat16.
        sequences: says how many rows are in use; None for all.

    Returns:
        (tokens, features), of x's dtype.
    """
    check_tensors("gelu", x=x)
    check_options("gelu", sequences=sequences)
    return Activation()(x, "gelu", sequences)
