"""Batches: a dataset cut by the cost of its rows, in an order that depends on seed and epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from dragoman import arguments
from dragoman.data.columns import Columns, Dataset, Lengths, lengths_of

POOL = 100  # batches whose rows are sorted by cost together
BLOCK = 1 << 20  # rows whose lengths are looked at together
SAMPLED = 256  # batches from which the padding of all is estimated


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


class Order(Sequence[list[int]]):
    """Batches in an order, as indices of rows; one is made a list when it is asked for.

    Args:
        rows: (rows,) indices, batch after batch.
        ends: (batches,) where each batch ends in `rows`.
        turns: (batches,) the batch whose turn it is.
    """

    def __init__(
        self, rows: npt.NDArray[np.uint32], ends: npt.NDArray[np.int64], turns: npt.NDArray[np.integer[Any]]
    ) -> None:
        self._rows, self._ends, self._turns = rows, ends, turns

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
        indices: list[int] = self._rows[first : self._ends[batch]].tolist()
        return indices


class Batches:
    """Cuts a dataset into batches by a budget of tokens, in an order that depends only on (seed, epoch).

    Every epoch shuffles the rows, sorts them by cost within pools, cuts the pools into batches and shuffles the
    batches. So the rows of a batch have similar lengths. Memory: 2 bytes a row (4 with batches of 65,536 tokens and
    more), and 4 more for an epoch.

    Args:
        dataset: the rows.
        costs: from the lengths of some rows to the cost of each, (rows,) in tokens; 0 leaves a row out.
        batch_tokens: the largest sum of costs in one batch.
        seed: of the order.
        unit: the word for a row in messages.
        limits: in messages, the reason why `costs` leaves rows out.

    Attributes:
        costs: (rows,) cost of each row, 0 for a row that is left out.
        count, dropped: number of rows that are used, and that are left out.

    Raises:
        ValueError: when no row is left, a row alone exceeds `batch_tokens` (naming it), or `costs` returns anything but
            one int of at least 0 for each row.
    """

    def __init__(
        self,
        dataset: Dataset,
        costs: Callable[[Lengths], npt.NDArray[np.integer[Any]]],
        batch_tokens: int,
        *,
        seed: int = 0,
        unit: str = "row",
        limits: str = "",
    ) -> None:
        arguments.check_has("batches", "dataset", dataset, "__len__", "lengths")
        arguments.check_callable("batches", costs=costs)
        batch_tokens = arguments.integer("batches", "batch_tokens", batch_tokens, 1)
        seed = arguments.integer("batches", "seed", seed)
        self.dataset = dataset
        self.batch_tokens = batch_tokens
        self.seed = seed
        self.costs = np.zeros(len(dataset), np.uint16 if batch_tokens < 1 << 16 else np.uint32)
        for first in range(0, len(dataset), BLOCK):
            rows = min(BLOCK, len(dataset) - first)
            block = np.asarray(costs(dataset.lengths(first, first + rows)))
            if block.shape != (rows,) or block.dtype.kind not in "iu" or block.min(initial=0) < 0:
                expected = f"{rows} ints of at least 0"
                raise ValueError(f"batches: costs must return {expected}, got {block.dtype} of shape {block.shape}")
            if block.max(initial=0) > batch_tokens:
                raise ValueError(
                    f"batches: {unit} {first + int(block.argmax()) + 1} has {block.max()} tokens, more than "
                    f"batch_tokens={batch_tokens}; raise it or set max_length"
                )
            self.costs[first : first + len(block)] = block
        self.count = int(np.count_nonzero(self.costs))
        self.dropped = len(dataset) - self.count
        if not self.count:
            raise ValueError(f"batches: no {unit}s are left of {len(dataset)}{limits and f' ({limits})'}")
        self._latest: tuple[int, Order] | None = None

    @property
    def kept(self) -> npt.NDArray[np.uint32]:
        """The indices of the rows that are not left out, in their order."""
        kept = np.empty(self.count, np.uint32)
        filled = 0
        for first in range(0, len(self.costs), BLOCK):
            block = np.flatnonzero(self.costs[first : first + BLOCK])
            kept[filled : filled + len(block)] = block + first
            filled += len(block)
        return kept

    def epoch(self, epoch: int) -> Order:
        """The batches of an epoch, as indices of rows: every kept row exactly once."""
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
        all_ends = np.concatenate(ends)
        return Order(order, all_ends, generator.permutation(len(all_ends)))

    def _ends(self, order: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
        """The ends of the batches into which a run of rows is cut."""
        sums = np.cumsum(self.costs[order], dtype=np.int64)
        ends, spent = [0], 0
        while ends[-1] < len(sums):
            ends.append(int(np.searchsorted(sums, spent + self.batch_tokens, side="right")))
            spent = int(sums[ends[-1] - 1])
        return np.array(ends[1:], np.int64)

    def padding(self, read: Callable[[Columns], Columns]) -> float:
        """Padding tokens for each token, had the batches been padded to rectangles; from up to 256 batches.

        Args:
            read: from the rows of a batch to the columns that the model reads.
        """
        order = self.epoch(0)
        tokens, cells = 0, 0
        for i in range(0, len(order), -(-len(order) // SAMPLED)):
            for column in read(self.dataset.take(order[i])).values():
                lengths = lengths_of(column)
                tokens += int(lengths.sum())
                cells += len(lengths) * int(lengths.max())
        return cells / tokens - 1
