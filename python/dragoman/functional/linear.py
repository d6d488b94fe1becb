"""linear: a matrix product with bias, activation and dropout; feed_forward: two of them."""

from __future__ import annotations

from dragoman import _core, arguments
from dragoman.functional.operands import ACTIVATION_DTYPES, ACTIVATIONS, data_of, dropout_mask
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
        kept = {"relu": y, "gelu": pre}.get(activation)
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
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    activation: str = "none",
    dropout: float = 0.0,
    sequences: _core.Sequences | None = None,
) -> Tensor:
    """dropout(activation(x W^T + bias)).

    Args:
        x: (tokens, in_features) float32 or bfloat16, of which the result is, too.
        weight: (out_features, in_features).
        bias: (out_features,) or None.
        activation: "none", "relu" or "gelu" (exact), applied in the product's epilogue.
        dropout: rate in [0, 1).

    Returns:
        (tokens, out_features).
    """
    check_tensors("linear", x=x, weight=weight)
    check_options("linear", bias=bias, sequences=sequences)
    arguments.choice("linear", "activation", activation, ACTIVATIONS)
    return Linear()(x, weight, bias, activation, dropout_mask("linear", dropout), sequences)


def feed_forward(
    x: Tensor,
    weight1: Tensor,
    bias1: Tensor | None,
    weight2: Tensor,
    bias2: Tensor | None,
    *,
    activation: str = "relu",
    dropout: float = 0.0,
    sequences: _core.Sequences | None = None,
) -> Tensor:
    """linear(dropout(activation(linear(x)))): x (tokens, d_model), weight1 (d_ff, d_model), weight2 (d_model, d_ff)."""
    op = "feed_forward"
    check_tensors(op, x=x, weight1=weight1, weight2=weight2)
    check_options(op, bias1=bias1, bias2=bias2, sequences=sequences)
    _check_feed_forward(x, weight1, bias1, weight2, bias2)
    arguments.choice(op, "activation", activation, ACTIVATIONS)
    hidden = Linear()(x, weight1, bias1, activation, dropout_mask(op, dropout), sequences)
    return Linear()(hidden, weight2, bias2, "none", _core.Dropout(), sequences)


def _check_feed_forward(
    x: Tensor, weight1: Tensor, bias1: Tensor | None, weight2: Tensor, bias2: Tensor | None
) -> None:
    """In the names of this op's arguments; the products inside know them by others."""
    given = {"x": x, "weight1": weight1, "bias1": bias1, "weight2": weight2, "bias2": bias2}
    for name, value in given.items():
        rank = 1 if name.startswith("bias") else 2
        allowed = ACTIVATION_DTYPES if name == "x" else ACTIVATION_DTYPES[:1]
        if value is not None and value.dtype not in allowed:
            raise TypeError(f"feed_forward: {name} must be {' or '.join(allowed)}, got {value.dtype}")
        if value is not None and len(value.shape) != rank:
            raise ValueError(f"feed_forward: {name} must have {rank} dimensions, got shape {value.shape}")
    d_ff, d_model = weight1.shape[0], x.shape[1]
    shapes = {"weight1": (d_ff, d_model), "bias1": (d_ff,), "weight2": (weight2.shape[0], d_ff)}
    for name, shape in (shapes | {"bias2": weight2.shape[:1]}).items():
        value = given[name]
        if value is not None and value.shape != shape:
            raise ValueError(f"feed_forward: {name} must have shape {shape}, got {value.shape}")
