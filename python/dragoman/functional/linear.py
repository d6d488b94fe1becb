"""linear: a matrix product with bias, activation and dropout."""

from __future__ import annotations

from dragoman import _core, arguments
from dragoman.frozen import FrozenWeight
from dragoman.functional.operands import ACTIVATIONS, data_of, dropout_mask
from dragoman.tensor import Function, Tensor, add_grad, check_options, check_tensors, grad_buffer


class Linear(Function):
    def forward(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        activation: str,
        dropout: _core.Dropout,
        sequences: _core.Sequences | None,
    ) -> _core.Tensor:
        values = weight.data_as(x.dtype)
        packed = weight.packed(x.dtype)
        y, pre = _core.linear_forward(x.data, values, data_of(bias), activation, dropout, sequences, packed)
        kept = y if activation == "relu" else pre
        self.saved = (x, weight, values, bias, kept, activation, dropout, sequences)
        return y

    def backward(self, dy: _core.Tensor) -> None:
        x, weight, values, bias, kept, activation, dropout, sequences = self.saved
        dx = _core.linear_backward(
            dy,
            x.data,
            values,
            kept,
            activation,
            dropout,
            x.requires_grad,
            *grad_buffer(weight),
            *grad_buffer(bias),
            sequences,
        )
        if dx is not None:
            add_grad(x, dx)


def linear(
    x: Tensor,
    weight: Tensor | FrozenWeight,
    bias: Tensor | None = None,
    *,
    activation: str = "none",
    dropout: float = 0.0,
    sequences: _core.Sequences | None = None,
) -> Tensor:
    """dropout(activation(x W^T + bias)).

    Args:
        x: (tokens, in_features) float32 or bfloat16, of which the result is, too.
        weight: (out_features, in_features). With a frozen one, x is float32 and off the tape.
        bias: (out_features,) or None.
        activation: "none", "relu", "gelu", "gelu_tanh", "silu", "tanh" or "sigmoid", applied in the product's epilogue.
        dropout: rate in [0, 1).

    Returns:
        (tokens, out_features).
    """
    check_tensors("linear", x=x)
    check_options("linear", bias=bias, sequences=sequences)
    arguments.choice("linear", "activation", activation, ACTIVATIONS)
    if isinstance(weight, FrozenWeight):
        weight.check_inference("linear", x.dtype, dropout)
        return weight.linear(x, bias, activation, sequences)
    check_tensors("linear", weight=weight)
    return Linear()(x, weight, bias, activation, dropout_mask("linear", dropout, x.device), sequences)
