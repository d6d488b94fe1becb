"""Positions inside attention: by the distance from query to key, or as a turn of queries and keys."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman import arguments
from dragoman._core import Sequences
from dragoman.creation import tensor
from dragoman.nn import init
from dragoman.nn.module import Module
from dragoman.nn.weight import Parameter
from dragoman.tensor import Tensor


class AttentionPositions(Module):
    """Base of what a MultiHeadAttention knows about positions. It may be shared by several attentions."""

    turns: bool = False  # whether `turn` does anything

    def options(self) -> dict[str, Any]:
        """Options of `functional.attention`."""
        return {}

    def turn(self, x: Tensor, sequences: Sequences, head_dim: int, length: int, starts: Tensor | None) -> Tensor:
        """Queries or keys (tokens, heads * head_dim) as attention and the cache see them.

        Args:
            x: queries or keys.
            sequences: of x.
            head_dim: size of a head.
            length: no position reaches it.
            starts: (sequences,) position of each sequence's first token; 0 by default.
        """
        return x


class RelativeBias(AttentionPositions):
    """A learned number for each head and bucket of distances, added to scores (Raffel et al. 2020, arXiv:1910.10683,
    T5). It begins at zero. T5's layers share one.

    Args:
        num_heads: of the attention.
        num_buckets: half of them, of each direction, hold one distance each, the others ever longer ranges.
        max_distance: this far and farther is in the last bucket.
        bidirectional: keys after the query have half of the buckets for their own.

    Raises:
        TypeError, ValueError: naming the argument.
    """

    def __init__(
        self, num_heads: int, *, num_buckets: int = 32, max_distance: int = 128, bidirectional: bool = True
    ) -> None:
        num_heads = arguments.size("RelativeBias", "num_heads", num_heads)
        num_buckets = arguments.size("RelativeBias", "num_buckets", num_buckets)
        max_distance = arguments.size("RelativeBias", "max_distance", max_distance)
        self.bidirectional = arguments.flag("RelativeBias", "bidirectional", bidirectional)
        least = 4 if bidirectional else 2
        if num_buckets < least:
            raise ValueError(f"RelativeBias: num_buckets must be at least {least}, got {num_buckets}")
        if max_distance <= num_buckets // least:
            raise ValueError(
                f"RelativeBias: max_distance must be above {num_buckets // least} for {num_buckets} buckets, "
                f"got {max_distance}"
            )
        self.max_distance = max_distance
        self.weight = Parameter(np.broadcast_to(np.float32(0), (num_buckets, num_heads)))

    def options(self) -> dict[str, Any]:
        return {
            "relative_bias": self.weight,
            "bidirectional": self.bidirectional,
            "max_distance": self.max_distance,
        }


def alibi_slopes(num_heads: int) -> npt.NDArray[Any]:
    """float32 (num_heads,): for n heads, n a power of two, 2^(-8 / n) and its powers; otherwise those of the power of
    two below n, then every other one of the power of two above (Press et al. 2022, arXiv:2108.12409)."""
    below = 1 << (num_heads.bit_length() - 1)
    slopes = 2.0 ** (-8.0 / below * np.arange(1, below + 1))
    more = 2.0 ** (-4.0 / below * np.arange(1, 2 * (num_heads - below), 2))
    return np.concatenate([slopes, more]).astype(np.float32)


class Alibi(AttentionPositions):
    """-slope * distance, added to scores (Press et al. 2022, arXiv:2108.12409). It has no parameters.

    Args:
        num_heads: of the attention.
    """

    def __init__(self, num_heads: int) -> None:
        num_heads = arguments.size("Alibi", "num_heads", num_heads)
        init.check_room(num_heads, 1)
        self.slopes = tensor(alibi_slopes(num_heads))

    def options(self) -> dict[str, Any]:
        return {"alibi_slopes": self.slopes}


class RelativeKeysValues(AttentionPositions):
    """Learned rows by clipped distance, added to the keys and values that a query sees (Shaw et al. 2018,
    arXiv:1803.02155). They begin Xavier-uniform; all heads share them.

    Args:
        head_dim: size of a head of the attention.
        max_distance: farther keys have the row of this distance.
    """

    def __init__(self, head_dim: int, *, max_distance: int = 16) -> None:
        head_dim = arguments.size("RelativeKeysValues", "head_dim", head_dim)
        max_distance = arguments.size("RelativeKeysValues", "max_distance", max_distance)
        self.keys = Parameter(init.xavier_uniform(2 * max_distance + 1, head_dim))
        self.values = Parameter(init.xavier_uniform(2 * max_distance + 1, head_dim))

    def options(self) -> dict[str, Any]:
        return {"relative_keys": self.keys, "relative_values": self.values}
