"""Residual: the connection around a sublayer."""

from __future__ import annotations

from dragoman import arguments, functional
from dragoman._core import Sequences
from dragoman.nn.module import Module
from dragoman.nn.norm import LayerNorm, RMSNorm
from dragoman.tensor import Tensor


class Residual(Module):
    """residual + dropout(x), in one pass over memory.

    Args:
        p: dropout rate of x in training, in [0, 1).
    """

    def __init__(self, p: float) -> None:
        arguments.check_rates("Residual", p=p)
        self.p = p

    def __call__(
        self,
        x: Tensor,
        residual: Tensor,
        sequences: Sequences | None = None,
        *,
        norm: LayerNorm | RMSNorm | None = None,
    ) -> Tensor:
        """x and residual (tokens, features) -> (tokens, features), of which `norm` comes in the same pass."""
        dropout = self.p if self.training else 0.0
        if norm is not None:
            return norm.of_residual(x, residual, dropout=dropout, sequences=sequences)
        return functional.residual(x, residual, dropout=dropout, sequences=sequences)
