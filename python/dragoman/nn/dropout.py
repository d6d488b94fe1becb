"""Dropout."""

from __future__ import annotations

from dragoman import arguments, functional
from dragoman._core import Sequences
from dragoman.nn.module import Module
from dragoman.tensor import Tensor


class Dropout(Module):
    """In training, zeroes values at rate p and scales the others by 1 / (1 - p) (Srivastava et al. 2014).

    Args:
        p: rate in [0, 1).
    """

    def __init__(self, p: float) -> None:
        p = arguments.rate("Dropout", "p", p)
        self.p = p

    def __call__(self, x: Tensor, sequences: Sequences | None = None) -> Tensor:
        """x (tokens, features) -> (tokens, features)."""
        return functional.dropout(x, self.p, sequences=sequences) if self.training else x
