"""Positional encodings: tables whose row p is added to the embedding of the token at position p."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman import arguments
from dragoman.creation import tensor
from dragoman.nn import init
from dragoman.nn.module import Module
from dragoman.nn.weight import Parameter
from dragoman.tensor import Tensor

SINUSOIDAL_LAYOUTS = ("interleaved", "halves", "fairseq")


def sinusoidal_table(length: int, features: int, layout: str = "interleaved", offset: int = 0) -> npt.NDArray[Any]:
    """float32 (length, features), computed in float64: column 2i of row p is sin((p + offset) / 10000^(2i / features)),
    column 2i + 1 the cosine of that angle (Vaswani et al. 2017, arXiv:1706.03762, section 3.5). Other layouts are those
    of SinusoidalPositionalEncoding."""
    places = np.arange(offset, offset + length)[:, None]
    half = features // 2
    if layout == "fairseq":
        angles = places / 10000.0 ** (np.arange(half) / max(half - 1, 1))
        rest = np.zeros((length, features - 2 * half))
        return np.concatenate([np.sin(angles), np.cos(angles), rest], axis=1).astype(np.float32)
    angles = places / 10000.0 ** (np.arange(0, features, 2) / features)
    sines, cosines = np.sin(angles), np.cos(angles[:, :half])
    if layout == "halves":
        return np.concatenate([sines, cosines], axis=1).astype(np.float32)
    table = np.empty((length, features), np.float32)
    table[:, 0::2] = sines
    table[:, 1::2] = cosines
    return table


class SinusoidalPositionalEncoding(Module):
    """The fixed table of Vaswani et al. 2017; it has no parameters and no longest sequence.

    Args:
        features: size of a row.
        layout: "interleaved", as in the paper; "halves", all sines before all cosines, as transformers' Marian and
            Pegasus have it; or "fairseq", the same with frequencies 10000^(-i / (features / 2 - 1)), as in
            tensor2tensor, fairseq (Ott et al. 2019, arXiv:1904.01038) and M2M100.
        offset: the position that the first token has: 2 in M2M100.
    """

    def __init__(self, features: int, layout: str = "interleaved", offset: int = 0) -> None:
        features = arguments.size("SinusoidalPositionalEncoding", "features", features)
        init.check_room(64, features)
        self.features = features
        self.layout = arguments.choice("SinusoidalPositionalEncoding", "layout", layout, SINUSOIDAL_LAYOUTS)
        self.offset = arguments.integer("SinusoidalPositionalEncoding", "offset", offset, 0, 2**31)
        self.table = tensor(sinusoidal_table(64, features, layout, self.offset))

    def __call__(self, length: int) -> Tensor:
        """The table for positions [0, length): (at least length, features)."""
        length = arguments.integer("SinusoidalPositionalEncoding", "length", length, 0, 2**31)
        table = self.table
        if length > table.shape[0]:
            rows = max(length, 2 * table.shape[0])
            grown = sinusoidal_table(rows, self.features, self.layout, self.offset)
            self.table = table = tensor(grown, self.table.device)
        return table


class LearnedPositionalEncoding(Module):
    """A trained table (Gehring et al. 2017, arXiv:1705.03122); it begins as N(0, 1 / features).

    Args:
        max_length: the longest sequence.
        features: size of a row.
        offset: rows before that of position 0, which nothing reads: 2 in BART and RoBERTa.
    """

    def __init__(self, max_length: int, features: int, offset: int = 0) -> None:
        max_length = arguments.size("LearnedPositionalEncoding", "max_length", max_length)
        features = arguments.size("LearnedPositionalEncoding", "features", features)
        self.offset = arguments.integer("LearnedPositionalEncoding", "offset", offset)
        self.weight = Parameter(init.normal(max_length + self.offset, features))

    def __call__(self, length: int) -> Tensor:
        """The table for positions [0, length): (max_length, features). ValueError above max_length."""
        length = arguments.integer("LearnedPositionalEncoding", "length", length)
        maximum = self.weight.shape[0] - self.offset
        if length > maximum:
            raise ValueError(f"LearnedPositionalEncoding: a sequence must have at most {maximum} tokens, got {length}")
        return self.weight[self.offset :] if self.offset else self.weight
