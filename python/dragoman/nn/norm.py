"""LayerNorm and RMSNorm, and their names in options."""

from __future__ import annotations

import numpy as np

from dragoman import arguments, functional
from dragoman._core import Sequences
from dragoman.nn.module import Module
from dragoman.nn.weight import Parameter
from dragoman.tensor import Tensor


class LayerNorm(Module):
    """y = (x - mean) / sqrt(var + eps) * weight + bias over the last axis (Ba et al. 2016, arXiv:1607.06450).

    Args:
        features: size of a row.
        eps: added to the variance.
    """

    def __init__(self, features: int, *, eps: float = 1e-5) -> None:
        features = arguments.size("LayerNorm", "features", features)
        eps = arguments.number("LayerNorm", "eps", eps, 0.0)
        self.eps = eps
        self.weight = Parameter(np.ones(features))
        self.bias = Parameter(np.zeros(features))

    def __call__(
        self, x: Tensor, sequences: Sequences | None = None, *, residual: Tensor | None = None, dropout: float = 0.0
    ) -> Tensor:
        """The norm of x, or of residual + dropout(x) in one pass over memory.

        Args:
            x: (tokens, features).
            sequences: of x.
            residual: (tokens, features), or None.
            dropout: rate of x in [0, 1), applied in either mode, only where a residual is given.

        Returns:
            (tokens, features).
        """
        if residual is None:
            return functional.layer_norm(x, self.weight, self.bias, eps=self.eps, sequences=sequences)
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
        features = arguments.size("RMSNorm", "features", features)
        eps = arguments.number("RMSNorm", "eps", eps, 0.0)
        self.eps = eps
        self.weight = Parameter(np.ones(features))

    def __call__(
        self, x: Tensor, sequences: Sequences | None = None, *, residual: Tensor | None = None, dropout: float = 0.0
    ) -> Tensor:
        """The norm of x, or of residual + dropout(x) in one pass over memory. Arguments as of LayerNorm."""
        if residual is None:
            return functional.rms_norm(x, self.weight, eps=self.eps, sequences=sequences)
        return functional.residual_rms_norm(
            x, residual, self.weight, dropout=dropout, eps=self.eps, sequences=sequences
        )


NORMS: dict[str, type[LayerNorm] | type[RMSNorm]] = {"layer": LayerNorm, "rms": RMSNorm}


def make_norm(kind: str, features: int, *, eps: float = 1e-5) -> LayerNorm | RMSNorm:
    """A LayerNorm for "layer", a RMSNorm for "rms". TypeError, ValueError for another kind."""
    return NORMS[arguments.choice("make_norm", "kind", kind, tuple(NORMS))](features, eps=eps)
