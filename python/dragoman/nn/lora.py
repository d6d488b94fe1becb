"""LoRALinear: a Linear with low-rank adapters beside its frozen weight."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from dragoman import functional
from dragoman._core import Sequences
from dragoman.creation import tensor
from dragoman.nn import init
from dragoman.nn.linear import Linear
from dragoman.nn.module import Module
from dragoman.nn.weight import Parameter
from dragoman.tensor import Tensor

_sentences: ContextVar[Sequence[int] | None] = ContextVar("sentences", default=None)


@contextmanager
def rows_of(sentences: Sequence[int]) -> Iterator[None]:
    """Inside, sequence i of a batch belongs to the user's sentence `sentences[i]`, whose adapter it takes. A search,
    whose rows are hypotheses, says so."""
    token = _sentences.set(sentences)
    try:
        yield
    finally:
        _sentences.reset(token)


class Adapter(Module):
    """One low-rank update of a weight, scale * B A (Hu et al. 2021, arXiv:2106.09685).

    A begins uniform in +-1 / sqrt(in_features), B at zero: at first the model is unchanged.

    Attributes:
        name: what chooses it.
        a, b: the trained matrices, (rank, in_features) and (out_features, rank).
        scale: alpha / rank.
        dropout: rate of the rows that A reads, in training.
    """

    def __init__(self, name: str, in_features: int, out_features: int, rank: int, alpha: float, dropout: float) -> None:
        self.name = name
        self.rank, self.alpha, self.dropout = rank, alpha, dropout
        self.scale = alpha / rank
        self.a = Parameter(init.uniform(rank, in_features, in_features**-0.5))
        self.b = Parameter(np.zeros((out_features, rank)))


class Choice:
    """The adapter that the layers of one model run with.

    Attributes:
        names: an adapter's name, None for none, or a list with one of both for each sentence of a batch.
    """

    def __init__(self) -> None:
        self.names: str | list[str | None] | None = None

    def factors(self, adapter: Adapter, x: Tensor, sequences: Sequences | None) -> float | Tensor | None:
        """What the adapter's update of x is multiplied by: a number, one for each row (tokens, 1), or None for 0."""
        if not isinstance(self.names, list):
            return adapter.scale if self.names == adapter.name else None
        if adapter.name not in self.names:
            return None
        if sequences is None:
            raise ValueError("LoRALinear: sequences must be given where each sentence has an adapter, got None")
        lengths = sequences.lengths
        sentences = _sentences.get()
        sentences = range(len(lengths)) if sentences is None else sentences
        if len(sentences) != len(lengths) or max(sentences, default=-1) >= len(self.names):
            raise ValueError(
                f"LoRALinear: adapters are chosen for {len(self.names)} sentences, got a batch of {len(lengths)}"
            )
        scales = [adapter.scale if self.names[sentence] == adapter.name else 0.0 for sentence in sentences]
        rows = np.zeros((x.shape[0], 1), np.float32)
        rows[: sum(lengths), 0] = np.repeat(np.array(scales, np.float32), lengths)
        return tensor(rows, x.device, dtype=x.dtype)


class LoRALinear(Linear):
    """y = dropout(activation(x W^T + bias + sum of the chosen adapters' updates)); W and bias are frozen.

    Args:
        linear: whose weight and bias it shares.
        choice: of the model's adapters.
    """

    def __init__(self, linear: Linear, choice: Choice) -> None:
        self.weight, self.bias = linear.weight, linear.bias
        self.training = linear.training
        self.adapters: list[Adapter] = []
        self.choice = choice

    def __call__(
        self, x: Tensor, sequences: Sequences | None = None, *, activation: str = "none", dropout: float = 0.0
    ) -> Tensor:
        """As of Linear."""
        y = functional.linear(x, self.weight, self.bias, sequences=sequences)
        for adapter in self.adapters:
            factors = self.choice.factors(adapter, x, sequences)
            if factors is None:
                continue
            h = functional.dropout(x, adapter.dropout, sequences=sequences) if self.training else x
            h = functional.linear(h, adapter.a, sequences=sequences)
            y = y + functional.linear(h * factors, adapter.b, sequences=sequences)
        if activation != "none":
            y = getattr(functional, activation)(y, sequences=sequences)
        return functional.dropout(y, dropout, sequences=sequences) if dropout else y
