"""Heads: what turns an encoder's rows into scores, and its loss."""

from __future__ import annotations

import numpy.typing as npt

from dragoman import functional
from dragoman._core import Sequences
from dragoman.nn import Dropout, LayerNorm, Linear, Module
from dragoman.nn.weight import Parameter
from dragoman.tensor import Tensor


class LabelHead(Module):
    """Scores of labels: dropout and a projection.

    Args:
        features: size of a row.
        num_labels: number of labels.
        dropout: rate of the rows, in training.
    """

    def __init__(self, features: int, num_labels: int, dropout: float = 0.0) -> None:
        self.dropout = Dropout(dropout)
        self.output = Linear(features, num_labels)

    def __call__(self, x: Tensor, sequences: Sequences | None = None) -> Tensor:
        """x (rows, features) -> (rows, num_labels)."""
        return self.output(self.dropout(x, sequences), sequences)

    def cross_entropy(
        self, x: Tensor, ids: npt.ArrayLike, *, label_smoothing: float = 0.0, num_targets: int | None = None
    ) -> Tensor:
        """The mean cross entropy of labels, ids (rows,), of which -1 is none."""
        return self.output.cross_entropy(self.dropout(x), ids, label_smoothing=label_smoothing, num_targets=num_targets)


class MaskedLMHead(Module):
    """Scores of a token at each place: a projection with an activation, a norm, and the embeddings as weights, with a
    bias (Devlin et al. 2019, arXiv:1810.04805).

    Args:
        weight: of the embeddings, (vocabulary, features); shared.
        norm_eps: added to the variance in the norm.
        activation: of the projection.
    """

    def __init__(self, weight: Parameter, norm_eps: float, activation: str = "gelu") -> None:
        self.activation = activation
        vocab_size, features = weight.shape
        self.transform = Linear(features, features)
        self.norm = LayerNorm(features, eps=norm_eps)
        self.output = Linear(features, vocab_size, weight=weight)

    def __call__(self, x: Tensor, sequences: Sequences | None = None) -> Tensor:
        """x (rows, features) -> (rows, vocabulary)."""
        return self.output(self._transformed(x, sequences), sequences)

    def cross_entropy(
        self, x: Tensor, ids: npt.ArrayLike, *, label_smoothing: float = 0.0, num_targets: int | None = None
    ) -> Tensor:
        """The mean cross entropy of tokens, ids (rows,), of which -1 is none."""
        x = self._transformed(x)
        return self.output.cross_entropy(x, ids, label_smoothing=label_smoothing, num_targets=num_targets)

    def _transformed(self, x: Tensor, sequences: Sequences | None = None) -> Tensor:
        return self.norm(self.transform(x, sequences, activation=self.activation), sequences)


def unit_length(x: Tensor) -> Tensor:
    """The rows of x, each divided by its length; a row of zeros stays."""
    length = functional.sqrt(functional.sum(x * x, -1, keepdims=True))
    return x / functional.maximum(length, 1e-12)
