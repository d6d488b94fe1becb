"""Heads: what turns an encoder's rows into scores, and its loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman import functional
from dragoman._core import Sequences
from dragoman.creation import tensor
from dragoman.nn import Dropout, LayerNorm, Linear, Module
from dragoman.nn.weight import Parameter
from dragoman.tensor import Tensor

LABEL_KINDS = ("one", "several", "numbers")


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

    def loss(self, x: Tensor, targets: Any, kind: str, *, num_targets: int | None = None) -> Tensor:
        """The mean over targets (rows, num_labels), of binary cross entropies if they are probabilities, of the kind
        "several", and of squared errors if they are "numbers".

        Raises:
            ValueError: targets of another shape.
        """
        scores = self(x)
        values = np.asarray(targets, np.float32)
        if values.shape != scores.shape:
            raise ValueError(f"loss: targets must have shape {scores.shape}, got {values.shape}")
        wanted = tensor(values, x.device)
        if kind == "numbers":
            losses = (scores - wanted) * (scores - wanted)
        else:  # log(1 + e^s) - t s, without an overflow
            positive = functional.maximum(scores, 0.0)
            size = functional.maximum(scores, scores * -1.0)
            losses = positive - scores * wanted + functional.log(functional.exp(size * -1.0) + 1.0)
        return functional.sum(losses) * (1.0 / max(num_targets or values.size, 1))


class MaskedLMHead(Module):
    """Scores of a token at each place: a projection with an activation, a norm, and a product with a bias, as a rule
    with the embeddings as weights (Devlin et al. 2019, arXiv:1810.04805).

    Args:
        vocab_size, features: size of the vocabulary and of a row.
        norm_eps: added to the variance in the norm.
        activation: of the projection.
        weight: of the embeddings, (vocab_size, features), to share; None for a weight of its own.
    """

    def __init__(
        self,
        vocab_size: int,
        features: int,
        norm_eps: float,
        activation: str = "gelu",
        *,
        weight: Parameter | None = None,
    ) -> None:
        self.activation = activation
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
