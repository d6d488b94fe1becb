"""feed_forward: two linears with an activation between them."""

from __future__ import annotations

from dragoman import _core, arguments
from dragoman.functional.linear import Linear
from dragoman.functional.operands import ACTIVATION_DTYPES, ACTIVATIONS, dropout_mask
from dragoman.tensor import Tensor, check_options, check_tensors


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
    """dropout(activation(x W1^T + bias1)) W2^T + bias2 (Vaswani et al. 2017, arXiv:1706.03762, section 3.3).

    Args:
        x: (tokens, d_model) float32 or bfloat16, of which the result is, too.
        weight1, bias1: (d_ff, d_model) and (d_ff,) float32; the bias may be None.
        weight2, bias2: (d_out, d_ff) and (d_out,) float32; the bias may be None.
        activation: as of `linear`.
        dropout: rate of the hidden values in [0, 1).

    Returns:
        (tokens, d_out).
    """
    op = "feed_forward"
    check_tensors(op, x=x, weight1=weight1, weight2=weight2)
    check_options(op, bias1=bias1, bias2=bias2, sequences=sequences)
    _check_feed_forward(x, weight1, bias1, weight2, bias2)
    arguments.choice(op, "activation", activation, ACTIVATIONS)
    hidden = Linear()(x, weight1, bias1, activation, dropout_mask(op, dropout, x.device), sequences)
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
