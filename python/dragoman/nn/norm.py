"""LayerNorm and RMSNorm."""

from __future__ import annotations

import numpy as np

from dragoman import arguments, functional
from dragoman._core import Sequences
from dragoman.nn.module import Module, Parameter
from dragoman.tensor import Tensor


class LayerNorm(Module):
    """y = (x - mean) / sqrt(var + eps) * weight + bias over the last axis (Ba et al. 2016, arXiv:1607.06450).

    Args:
        features: size of a row.
        eps: added to the variance.
    """

    def __init__(self, features: int, *, eps: float = 1e-5) -> None:
        arguments.check_sizes("LayerNorm", features=features)
        arguments.number("LayerNorm", "eps", eps, 0.0)
        self.eps = eps
        self.weight = Parameter(np.ones(features))
        self.bias = Parameter(np.zeros(features))

    def __call__(self, x: Tensor, sequences: Sequences | None = None) -> Tensor:
        """x (tokens, features) -> (tokens, features)."""
        return functional.layer_norm(x, self.weight, self.bias, eps=self.eps, sequences=sequences)

    def of_residual(
        self, x: Tensor, residual: Tensor, *, dropout: float = 0.0, sequences: Sequences | None = None
    ) -> Tensor:
        """The norm of residual + dropout(x), both (tokens, features), in one pass over memory."""
        return functional.residual_layer_norm(
            x, residual, self.weight, self.bias, dropout=dropout, eps=self.eps, sequences=sequences
        )


class RMSNorm(Module):
    """y = x / sqrt(mean(x^2) + eps) * weight over the last axis (Zhang & Sennrich 2019, arXiv:1910.07467).

    Args:
        features: size of a row.
        eps: added to the mean of the squares.
    """

    def __init__(self, features: int, *, eps: float = 1e-5) -> None:
        arguments.check_sizes("RMSNorm", features=features)
        arguments.number("RMSNorm", "eps", eps, 0.0)
        self.eps = eps
        self.weight = Parameter(np.ones(features))

    def __call__(self, x: Tensor, sequences: Sequences | None = None) -> Tensor:
        """x (tokens, features) -> (tokens, features)."""
        return functional.rms_norm(x, self.weight, eps=self.eps, sequences=sequences)

    def of_residual(
        self, x: Tensor, residual: Tensor, *, dropout: float = 0.0, sequences: Sequences | None = None
    ) -> Tensor:
        """The norm of residual + dropout(x), both (tokens, features), in one pass over memory."""
        return functional.residual_rms_norm(
            x, residual, self.weight, dropout=dropout, eps=self.eps, sequences=sequences
        )
