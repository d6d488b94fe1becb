"""Pairs of texts as token ids, cut into batches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, overload, runtime_checkable

import numpy as np
import numpy.typing as npt

from dragoman.data.tokenizer import EOS, Tokenizer

Pair = tuple[Sequence[int], Sequence[int]]  # source ids, target ids
Lengths = tuple[npt.NDArray[np.integer[Any]], npt.NDArray[np.integer[Any]]]  # of sources, of targets
Sides = tuple[list[Sequence[int]], list[Sequence[int]]]  # sources, targets

POOL = 100  # batches whose sentences are sorted by length together
BLOCK = 1 << 20  # pairs whose lengths are looked at together
SAMPLED = 256  # batches that tell the padding of all


def source_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """What the encoder reads of each text, in training and in translation: its ids and </s>."""
    return [[*ids, EOS] for ids in tokenizer.encode_batch([text.strip() for text in texts])]


def target_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The ids of each text alone: the model's loss adds <s> and </s>."""
    return tokenizer.encode_batch([text.strip() for text in texts])


def cut_source(ids: Sequence[int], most: int | None) -> Sequence[int]:
    """The first `most` ids of a source, the last of them its </s>; all for None."""
    return ids if most is None or len(ids) <= most else [*ids[: most - 1], ids[-1]]


def encode_pairs(tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]]) -> list[Pair]:
    """Token ids of text pairs: `source_ids` and `target_ids`."""
    sources = source_ids(tokenizer, [source for source, _ in pairs])
    targets = target_ids(tokenizer, [target for _, target in pairs])
    return list(zip(sources, targets, strict=True))


def cut_batches(order: Iterable[int], costs: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Cuts `order`, indices into `costs`, into runs that cost at most `batch_tokens` each or hold one."""
    batches: list[list[int]] = []
    room = 0
    for index in order:
        if costs[index] > room or not batches:
            batches.append([])
            room = batch_tokens
        batches[-1].append(index)
        room -= costs[index]
    return batches


@runtime_checkable
class PairStore(Protocol):
    """Pairs that are not Python objects: `dragoman.data.Shards`."""

    def __len__(self) -> int: ...

    def lengths(self, first: int, last: int) -> Lengths:
        """The lengths of the pairs [first, last)."""

    def sides(self, indices: Sequence[int]) -> Sides:
        """The source and the target ids of some pairs."""


class _Lists:
    """Pairs in memory as a PairStore."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._pairs = pairs

    def __len__(self) -> int:
        return len(self._pairs)

    def lengths(self, first: int, last: int) -> Lengths:
        counts = np.array([[len(source), len(target)] for source, target in self._pairs[first:last]], np.int64)
        return counts[:, 0], counts[:, 1]

    def sides(self, indices: Sequence[int]) -> Sides:
        return [self._pairs[i][0] for i in indices], [self._pairs[i][1] for i in indices]


class Order(Sequence[list[int]]):
    """Batches in an order, as indices of pairs; one is made a list when it is asked for.

    Args:
        pairs: (pairs,) indices, batch after batch.
        ends: (batches,) where each batch ends in `pairs`.
        turns: (batches,) the batch whose turn it is.
    """

    def __init__(
        self, pairs: npt.NDArray[np.uint32], ends: npt.NDArray[np.int64], turns: npt.NDArray[np.integer[Any]]
    ) -> None:
        self._pairs, self._ends, self._turns = pairs, ends, turns

    def __len__(self) -> int:
        return len(self._turns)

    @overload
    def __getitem__(self, index: int) -> list[int]: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[int]]: ...
    def __getitem__(self, index: int | slice) -> list[int] | list[list[int]]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        batch = int(self._turns[index])
        first = int(self._ends[batch - 1]) if batch else 0
        indices: list[int] = self._pairs[first : self._ends[batch]].tolist()
        return indices


class Batches:
    """Cuts pairs into batches by a budget of tokens, in an order that depends on (seed, epoch) alone.

    A pair costs the tokens of its longer side, </s> of the target included, as in all lengths here. Every epoch
    shuffles the pairs, sorts them by length within pools, cuts the pools into batches and shuffles these, so that
    batches hold similar lengths. Memory: 2 bytes a pair (4 with batches of 65,536 tokens and more), and 4 more for
    an epoch.

    Args:
        pairs: (source ids, target ids) each, or a `PairStore`.
        batch_tokens: the largest sum of costs in one batch.
        max_length: pairs with more tokens on a side are left out.
        max_source_length: sources are cut to so many tokens, and `max_length` is for targets alone.
        min_length: pairs with a side of fewer tokens are left out.
        max_ratio: pairs with a side more than so many times as long as the other are left out.
        seed: of the order.

    Attributes:
        costs: (pairs,) 0 for a pair that is left out.
        count, dropped: how many pairs are left, and left out.

    Raises:
        ValueError: when no pair is left, or a pair alone exceeds `batch_tokens` (naming it).
    """

    def __init__(
        self,
        pairs: Sequence[Pair] | PairStore,
        batch_tokens: int,
        *,
        max_length: int | None = None,
        max_source_length: int | None = None,
        min_length: int = 1,
        max_ratio: float | None = None,
        seed: int = 0,
    ) -> None:
        self.pairs: PairStore = pairs if isinstance(pairs, PairStore) else _Lists(pairs)
        self.batch_tokens = batch_tokens
        self.max_source_length = max_source_length
        self.seed = seed
        self.costs = np.zeros(len(pairs), np.uint16 if batch_tokens < 1 << 16 else np.uint32)
        for first in range(0, len(pairs), BLOCK):
            source, target = self.pairs.lengths(first, min(first + BLOCK, len(pairs)))
            target = target + 1
            limited = np.maximum(source, target)
            if max_source_length is not None:
                source, limited = np.minimum(source, max_source_length), target
            longer, shorter = np.maximum(source, target), np.minimum(source, target)
            costs = np.where(shorter >= min_length, longer, 0)
            if max_length is not None:
                costs[limited > max_length] = 0
            if max_ratio is not None:
                costs[longer > max_ratio * shorter] = 0
            if costs.max(initial=0) > batch_tokens:
                raise ValueError(
                    f"batches: pair {first + int(costs.argmax()) + 1} has {costs.max()} tokens, more than "
                    f"batch_tokens={batch_tokens}; raise it or set max_length"
                )
            self.costs[first : first + len(costs)] = costs
        self.count = int(np.count_nonzero(self.costs))
        self.dropped = len(pairs) - self.count
        if not self.count:
            limits = f"max_length={max_length}, min_length={min_length}, max_ratio={max_ratio}"
            raise ValueError(f"batches: no pairs are left of {len(pairs)} ({limits})")
        self._latest: tuple[int, Order] | None = None

    @property
    def kept(self) -> npt.NDArray[np.uint32]:
        """The indices of the pairs that are not left out, in their order."""
        kept = np.empty(self.count, np.uint32)
        filled = 0
        for first in range(0, len(self.costs), BLOCK):
            block = np.flatnonzero(self.costs[first : first + BLOCK])
            kept[filled : filled + len(block)] = block + first
            filled += len(block)
        return kept

    def epoch(self, epoch: int) -> Order:
        """The batches of an epoch, as indices into `pairs`: every kept pair exactly once."""
        if self._latest is None or self._latest[0] != epoch:
            self._latest = None  # frees it before the next is made
            self._latest = epoch, self._shuffled(np.random.default_rng([self.seed, epoch]))
        return self._latest[1]

    def _shuffled(self, generator: np.random.Generator) -> Order:
        order = self.kept
        generator.shuffle(order)
        mean = int(self.costs.sum(dtype=np.int64)) / self.count
        size = max(1, round(POOL * self.batch_tokens / mean))
        ends = []
        for first in range(0, self.count, size):
            pool = order[first : first + size]
            pool[:] = pool[np.argsort(self.costs[pool], kind="stable")]
            ends.append(first + self._ends(pool))
        return self._order(order, np.concatenate(ends), generator)

    def in_order(self) -> Order:
        """Batches from the shortest to the longest pair."""
        order = self.kept
        order = order[np.argsort(self.costs[order], kind="stable")]
        return self._order(order, self._ends(order))

    def _order(
        self, order: npt.NDArray[np.uint32], ends: npt.NDArray[np.int64], generator: np.random.Generator | None = None
    ) -> Order:
        turns = np.arange(len(ends)) if generator is None else generator.permutation(len(ends))
        return Order(order, ends, turns)

    def _ends(self, order: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
        """Where the batches end that a run of pairs is cut into."""
        sums = np.cumsum(self.costs[order], dtype=np.int64)
        ends, spent = [0], 0
        while ends[-1] < len(sums):
            ends.append(int(np.searchsorted(sums, spent + self.batch_tokens, side="right")))
            spent = int(sums[ends[-1] - 1])
        return np.array(ends[1:], np.int64)

    def sides(self, batch: Sequence[int]) -> Sides:
        """The source and the target ids of a batch."""
        sources, targets = self.pairs.sides(batch)
        return [cut_source(ids, self.max_source_length) for ids in sources], targets

    def padding(self) -> float:
        """Padding tokens for each token, had the batches been padded to rectangles; from up to 256 batches."""
        order = self.epoch(0)
        tokens, cells = 0, 0
        for i in range(0, len(order), -(-len(order) // SAMPLED)):
            for side in self.sides(order[i]):
                lengths = [len(ids) for ids in side]
                tokens += sum(lengths)
                cells += len(lengths) * max(lengths)
        return cells / tokens - 1
