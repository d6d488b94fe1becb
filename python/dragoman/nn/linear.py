"""Linear: a matrix product with an optional bias."""

from __future__ import annotations

import numpy as np

from dragoman import arguments, functional
from dragoman._core import Sequences
from dragoman.nn import init
from dragoman.nn.module import Module, Parameter
from dragoman.tensor import Tensor


class Linear(Module):
    """y = x W^T + bias.

    Weights begin Xavier-uniform, the bias at zero.

    Args:
        in_features: size of a row of x.
        out_features: size of a row of y.
        bias: whether a bias is added.
        weight: a parameter of shape (out_features, in_features) to share (tie) instead of a new one.

    Raises:
        ValueError: `weight` has another shape.
    """

    def __init__(
        self, in_features: int, out_features: int, *, bias: bool = True, weight: Parameter | None = None
    ) -> None:
        arguments.check_sizes("Linear", in_features=in_features, out_features=out_features)
        arguments.flag("Linear", "bias", bias)
        if weight is None:
            weight = Parameter(init.xavier_uniform(out_features, in_features))
        if not isinstance(weight, Parameter):
            raise TypeError(f"Linear: weight must be a Parameter, got {type(weight).__name__}")
        if weight.shape != (out_features, in_features):
            raise ValueError(f"Linear: weight must have shape {(out_features, in_features)}, got {weight.shape}")
        self.weight = weight
        self.bias = Parameter(np.zeros(out_features)) if bias else None

    def __call__(self, x: Tensor, sequences: Sequences | None = None) -> Tensor:
        """x (tokens, in_features) -> (tokens, out_features)."""
        return functional.linear(x, self.weight, self.bias, sequences=sequences)
