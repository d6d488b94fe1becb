"""Pointwise activations, and gates: activation(a) * b."""

from __future__ import annotations

from dragoman import _core, arguments
from dragoman.functional.operands import ACTIVATIONS, dropout_mask
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
    return _activation("relu", x, sequences)


def gelu(x: Tensor, *, sequences: _core.Sequences | None = None) -> Tensor:
    """x Phi(x), the exact form (Hendrycks & Gimpel 2016, arXiv:1606.08415). Arguments and result as of `relu`."""
    return _activation("gelu", x, sequences)


def gelu_tanh(x: Tensor, *, sequences: _core.Sequences | None = None) -> Tensor:
    """x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, the form of GELU that GPT-2 has (Hendrycks & Gimpel 2016,
    arXiv:1606.08415). Arguments and result as of `relu`."""
    return _activation("gelu_tanh", x, sequences)


def silu(x: Tensor, *, sequences: _core.Sequences | None = None) -> Tensor:
    """x sigmoid(x), also called swish (Elfwing et al. 2018, arXiv:1702.03118). Arguments and result as of `relu`."""
    return _activation("silu", x, sequences)


def tanh(x: Tensor, *, sequences: _core.Sequences | None = None) -> Tensor:
    """The hyperbolic tangent of each value. Arguments and result as of `relu`."""
    return _activation("tanh", x, sequences)


def sigmoid(x: Tensor, *, sequences: _core.Sequences | None = None) -> Tensor:
    """1 / (1 + e^-x). Arguments and result as of `relu`."""
    return _activation("sigmoid", x, sequences)


def _activation(op: str, x: Tensor, sequences: _core.Sequences | None) -> Tensor:
    check_tensors(op, x=x)
    check_options(op, sequences=sequences)
    return Activation()(x, op, sequences)


class Gate(Function):
    def forward(
        self, a: Tensor, b: Tensor, activation: str, dropout: _core.Dropout, sequences: _core.Sequences | None
    ) -> _core.Tensor:
        self.saved = (a, b, activation, dropout, sequences)
        return _core.gate_forward(a.data, b.data, activation, dropout, sequences)

    def backward(self, dy: _core.Tensor) -> None:
        a, b, activation, dropout, sequences = self.saved
        da, db = _core.gate_backward(dy, a.data, b.data, activation, dropout, sequences)
        add_grad(a, da, owned=True)
        add_grad(b, db, owned=True)


def gate(
    a: Tensor,
    b: Tensor,
    *,
    activation: str = "silu",
    dropout: float = 0.0,
    sequences: _core.Sequences | None = None,
) -> Tensor:
    """dropout(activation(a) * b), in one pass over memory: the hidden values of a gated feed-forward network
    (Shazeer 2020, arXiv:2002.05202).

    Args:
        a: (tokens, features) float32 or bfloat16, the gate.
        b: shape and dtype of a.
        activation: "none", "relu", "gelu", "gelu_tanh", "silu", "tanh" or "sigmoid".
        dropout: rate in [0, 1).
        sequences: says how many rows are in use; None for all.

    Returns:
        (tokens, features), of a's dtype.
    """
    check_tensors("gate", a=a, b=b)
    check_options("gate", sequences=sequences)
    arguments.choice("gate", "activation", activation, ACTIVATIONS)
    return Gate()(a, b, activation, dropout_mask("gate", dropout, a.device), sequences)
