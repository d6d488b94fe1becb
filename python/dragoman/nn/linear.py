"""Linear: a matrix product with an optional bias."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dragoman import arguments, functional
from dragoman._core import Sequences
from dragoman.frozen import FrozenWeight
from dragoman.nn import init
from dragoman.nn.module import Module
from dragoman.nn.weight import Parameter
from dragoman.tensor import Tensor


class Linear(Module):
    """y = dropout(activation(x W^T + bias)).

    Weights begin Xavier-uniform, the bias at zero. A model calls its Linears for every product, so a subclass with a
    product of its own may stand in for any of them.

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
        in_features = arguments.size("Linear", "in_features", in_features)
        out_features = arguments.size("Linear", "out_features", out_features)
        bias = arguments.flag("Linear", "bias", bias)
        if weight is None:
            weight = Parameter(init.xavier_uniform(out_features, in_features))
        if not isinstance(weight, Parameter):
            raise TypeError(f"Linear: weight must be a Parameter, got {type(weight).__name__}")
        if weight.shape != (out_features, in_features):
            raise ValueError(f"Linear: weight must have shape {(out_features, in_features)}, got {weight.shape}")
        self.weight = weight
        self.bias = Parameter(np.zeros(out_features)) if bias else None

    def __call__(
        self, x: Tensor, sequences: Sequences | None = None, *, activation: str = "none", dropout: float = 0.0
    ) -> Tensor:
        """One product, with activation and dropout in its epilogue.

        Args:
            x: (tokens, in_features) float32 or bfloat16; y has the same dtype.
            sequences: of x.
            activation: "none", "relu", "gelu", "gelu_tanh", "silu", "tanh" or "sigmoid".
            dropout: rate in [0, 1), applied in either mode.

        Returns:
            (tokens, out_features).
        """
        return functional.linear(x, self.weight, self.bias, activation=activation, dropout=dropout, sequences=sequences)

    def cross_entropy(
        self,
        x: Tensor,
        ids: npt.ArrayLike | Tensor,
        *,
        label_smoothing: float = 0.0,
        num_targets: int | None = None,
        sequences: Sequences | None = None,
    ) -> Tensor:
        """The mean cross entropy of ids, where y holds the logits of a vocabulary of out_features tokens.

        The product is made in chunks of rows: all logits never exist at once. For a subclass with a `__call__` of its
        own they do, unless it has its own `cross_entropy`, too.

        Args:
            x: (tokens, in_features).
            ids: (tokens,) integers in [0, out_features), or -1 for no target.
            label_smoothing: in [0, 1), the share of the target spread evenly over the vocabulary.
            num_targets: the sum is divided by it; the number of targets by default.
            sequences: of x.

        Returns:
            A scalar.
        """
        if type(self).__call__ is not Linear.__call__ or isinstance(self.weight, FrozenWeight):
            logits = self(x, sequences)
            return functional.cross_entropy(
                logits, ids, label_smoothing=label_smoothing, num_targets=num_targets, sequences=sequences
            )
        return functional.linear_cross_entropy(
            x,
            self.weight,
            ids,
            bias=self.bias,
            label_smoothing=label_smoothing,
            num_targets=num_targets,
            sequences=sequences,
        )
