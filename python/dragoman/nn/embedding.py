"""Embedding: a row of a table for every token id, and its position."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dragoman import arguments, functional
from dragoman._core import Sequences
from dragoman.nn import init
from dragoman.nn.module import Module
from dragoman.nn.norm import LayerNorm, RMSNorm
from dragoman.nn.weight import Parameter
from dragoman.tensor import Tensor


class Embedding(Module):
    """y = dropout(norm(weight[id] * scale + positions[position of the token] + type_weight[type of the token])).

    The tables begin as N(0, 1 / features).

    Args:
        vocab_size: rows of the table.
        features: size of a row.
        scale: what the rows are multiplied by; sqrt(d_model) in Vaswani et al. 2017.
        dropout: rate in [0, 1), applied in training.
        weight: a parameter of shape (vocab_size, features) to share (tie) instead of a new one.
        norm: a norm of the sum, as in BERT (Devlin et al. 2019, arXiv:1810.04805), or None.
        token_types: how many types of tokens there are, as BERT's first and second text; None for no table of them.

    Raises:
        ValueError: `weight` has another shape.
    """

    def __init__(
        self,
        vocab_size: int,
        features: int,
        *,
        scale: float = 1.0,
        dropout: float = 0.0,
        weight: Parameter | None = None,
        norm: LayerNorm | RMSNorm | None = None,
        token_types: int | None = None,
    ) -> None:
        vocab_size = arguments.size("Embedding", "vocab_size", vocab_size)
        features = arguments.size("Embedding", "features", features)
        scale = arguments.number("Embedding", "scale", scale)
        dropout = arguments.rate("Embedding", "dropout", dropout)
        if norm is not None:
            arguments.check_types("Embedding", Module, norm=norm)
        if weight is None:
            weight = Parameter(init.normal(vocab_size, features))
        if not isinstance(weight, Parameter):
            raise TypeError(f"Embedding: weight must be a Parameter, got {type(weight).__name__}")
        if weight.shape != (vocab_size, features):
            raise ValueError(f"Embedding: weight must have shape {(vocab_size, features)}, got {weight.shape}")
        self.weight = weight
        self.scale = scale
        self.dropout = dropout
        self.norm = norm
        self.type_weight: Parameter | None = None
        if token_types is not None:
            token_types = arguments.size("Embedding", "token_types", token_types)
            self.type_weight = Parameter(init.normal(token_types, features))

    def __call__(
        self,
        ids: npt.ArrayLike | Tensor,
        sequences: Sequences,
        positions: Tensor | None = None,
        starts: npt.ArrayLike | None = None,
        dtype: str = "float32",
        types: npt.ArrayLike | Tensor | None = None,
    ) -> Tensor:
        """Embeds a ragged batch.

        Args:
            ids: (tokens,) integers in [0, vocab_size).
            sequences: where each sequence of ids begins.
            positions: (at least the longest position + 1, features) what to add for each position, or None.
            starts: (sequences,) the position of each sequence's first token; 0 by default.
            dtype: of the result, "float32" or "bfloat16"; every layer above computes in its input's dtype.
            types: (tokens,) the type of each token, an integer below token_types; all 0 by default.

        Returns:
            (tokens, features).
        """
        dropout = self.dropout if self.training else 0.0
        alone = self.norm is None and self.type_weight is None  # one op does all
        if types is not None and self.type_weight is None:
            raise ValueError("Embedding: types must be None without token_types, got types")
        x = functional.embedding(
            ids,
            self.weight,
            sequences,
            positions=positions,
            starts=starts,
            scale=self.scale,
            dropout=dropout if alone else 0.0,
            dtype=dtype,
        )
        if alone:
            return x
        if self.type_weight is not None:
            kinds = np.zeros(sequences.capacity, np.int32) if types is None else types
            added = functional.embedding(kinds, self.type_weight, sequences, dtype=dtype)
            x = functional.residual(added, x, sequences=sequences)
        x = x if self.norm is None else self.norm(x, sequences)
        return functional.dropout(x, dropout, sequences=sequences)
