"""Exchange: each rank adds up the gradients of all ranks for its own pieces of the arena, and updates these."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from operator import itemgetter

import numpy as np
import numpy.typing as npt

from dragoman import _core
from dragoman.distributed.ranks import Link, Ranks, Transfer
from dragoman.tensor import Function, Tensor, watched

CHUNK = 16384  # elements of a partial sum of squares: square_chunk in csrc/ops/optimizer.h
BUCKET = 64 * CHUNK  # elements that are sent together, 4 MiB

Piece = tuple[int, int]  # the first element of an arena, and the one after the last


class Pieces:
    """Which rank owns which elements of an arena. Each bucket is cut into a piece for each rank, at multiples of CHUNK.

    Args:
        size: elements of the arena.
        ranks: number of ranks.

    Attributes:
        buckets: for each bucket the pieces of all ranks, by rank. A piece may be empty.
    """

    def __init__(self, size: int, ranks: int) -> None:
        self.buckets: list[list[Piece]] = []
        for first in range(0, size, BUCKET):
            end = min(first + BUCKET, size)
            chunks = -(-(end - first) // CHUNK)
            cuts = [min(first + chunks * rank // ranks * CHUNK, end) for rank in range(ranks)] + [end]
            self.buckets.append(list(pairwise(cuts)))

    def owned(self, rank: int) -> list[Piece]:
        """The pieces of a rank that are not empty, in the arena's order."""
        return [pieces[rank] for pieces in self.buckets if pieces[rank][0] < pieces[rank][1]]


@dataclass
class _Sent:
    """A bucket whose pieces were sent, while those of the other ranks arrive."""

    number: int
    received: dict[int, _core.Tensor]  # by rank
    transfer: Transfer


class Exchange:
    """What the ranks exchange in a step: gradients go to the owners of their pieces, new values come back.

    A bucket of gradients is sent as soon as backward has written the last one in it, while backward goes on. The owner
    of a piece adds the gradients in the order of ranks. So the sum has the bits of one process that adds the same
    batches one after the other.

    Args:
        ranks: the processes.
        pieces: of the arena.
        gradients: the arena that backward writes into, float32 (size,).
        total: where the gradients of this rank's pieces are added up, float32; the pieces lie end to end.
        places: the first element of each parameter in the arena, by `id`.
    """

    def __init__(
        self,
        ranks: Ranks,
        pieces: Pieces,
        gradients: _core.Tensor,
        total: _core.Tensor,
        places: Mapping[int, int],
    ) -> None:
        self._ranks = ranks
        self._buckets = pieces.buckets
        self._gradients = gradients
        self._total = total
        self._parameters = _parameters_of(pieces, places)
        sizes = [bucket[ranks.rank][1] - bucket[ranks.rank][0] for bucket in pieces.buckets]
        self._offsets = [0, *accumulate(sizes)]  # for each bucket, where its piece begins in `total`
        self._contributors = ranks.size
        self._ready_at: list[int] = []  # for each bucket, how many functions are left when it is complete
        self._next = 0  # the first bucket that was not sent
        self._sent: list[_Sent] = []

    @cached_property
    def _link(self) -> Link:
        """Made at its first use, which all ranks come to together. A plan of memory makes none."""
        return self._ranks.link(self._gradients.device)

    def add_gradients(self, loss: Tensor | None, contributors: int) -> None:
        """Runs backward on each of the ranks [0, contributors), which have a loss; adds their gradients to the totals,
        and clears the arena. All ranks call it together."""
        self._contributors = contributors
        self._next = 0
        self._ready_at = [0] * len(self._buckets)
        if loss is not None:
            with watched(self):
                loss.backward()
        self._finish()

    def started(self, order: Sequence[Function]) -> None:
        """Backward calls it with the functions that it will run, from the last one to the first."""
        last_use: dict[int, int] = {}  # of each parameter in backward: the first place in `order`
        for place, function in enumerate(order):
            for edge in function.inputs:
                if isinstance(edge, Tensor):
                    last_use.setdefault(id(edge), place)
        unused = len(order)
        self._ready_at = [min(last_use.get(each, unused) for each in inside) for inside in self._parameters]

    def left(self, functions: int) -> None:
        """Backward calls it after each function, with the number of functions that are left."""
        while self._next < len(self._buckets) and self._ready_at[self._next] >= functions:
            self._send()
        self._add_arrived()

    def share(self, values: _core.Tensor) -> None:
        """Copies the owned pieces of an arena to all ranks, which call it together."""
        transfers, me = [], self._ranks.rank
        for number, bucket in enumerate(self._buckets):
            parts = {rank: _part(values, piece) for rank, piece in enumerate(bucket) if piece[0] < piece[1]}
            own = parts.pop(me, None)
            sends = [(rank, own) for rank in range(self._ranks.size) if rank != me and own is not None]
            transfers.append(self._link.transfer(sends, list(parts.items()), number))
        self._ranks.wait(transfers)

    def collect(self, pieces: Sequence[_core.Tensor], size: int) -> npt.NDArray[np.float32] | None:
        """The pieces of all owners as one array in the arena's layout, on the first rank; None on the other ranks.

        Args:
            pieces: those that this rank owns. All ranks call it together.
            size: of the arena.
        """
        left = iter(pieces)
        whole = np.empty(size, np.float32) if self._ranks.first else None
        for number, bucket in enumerate(self._buckets):  # one after the other, so that they take the memory of one
            sizes = [end - begin for begin, end in bucket]
            own = {self._ranks.rank: next(left)} if sizes[self._ranks.rank] else {}
            if whole is None:
                self._ranks.wait([self._link.transfer([(0, part) for part in own.values()], [], number)])
                continue
            others = {rank: self._empty(count) for rank, count in enumerate(sizes) if rank and count}
            self._ranks.wait([self._link.transfer([], list(others.items()), number)])
            for rank, part in (own | others).items():
                whole[slice(*bucket[rank])] = part.numpy()
        return whole

    def _empty(self, size: int) -> _core.Tensor:
        return _core.Tensor.empty([size], "float32", self._gradients.device)

    def _finish(self) -> None:
        while self._next < len(self._buckets):
            self._send()
        while self._sent:
            self._ranks.wait([self._sent[0].transfer])
            self._add_arrived()
        self._gradients.zero_()

    def _send(self) -> None:
        """Sends the pieces of the next bucket to their owners, and starts to receive this rank's piece."""
        number, me = self._next, self._ranks.rank
        self._next += 1
        bucket = self._buckets[number]
        owners = [rank for rank, (begin, end) in enumerate(bucket) if rank != me and begin < end]
        begin, end = bucket[me]
        senders = [rank for rank in range(self._contributors) if rank != me and begin < end]
        received = {rank: self._empty(end - begin) for rank in senders}
        sends = [(rank, _part(self._gradients, bucket[rank])) for rank in owners if me < self._contributors]
        self._sent.append(_Sent(number, received, self._link.transfer(sends, list(received.items()), number)))

    def _add_arrived(self) -> None:
        """Adds the buckets that have arrived, in their order."""
        while self._sent and self._sent[0].transfer.done():
            self._add(self._sent.pop(0))

    def _add(self, sent: _Sent) -> None:
        begin, end = self._buckets[sent.number][self._ranks.rank]
        if begin == end:
            return
        own = {self._ranks.rank: _part(self._gradients, (begin, end))}
        total = self._total.slice(self._offsets[sent.number], [end - begin])
        for rank in range(self._contributors):
            _core.accumulate(total, (own | sent.received)[rank], 1.0, True)


def _parameters_of(pieces: Pieces, places: Mapping[int, int]) -> list[list[int]]:
    """For each bucket the parameters, by `id`, that have elements in it."""
    in_order = sorted(places.items(), key=itemgetter(1))
    firsts = [first for _, first in in_order]
    found = []
    for bucket in pieces.buckets:
        low = max(bisect_right(firsts, bucket[0][0]) - 1, 0)
        found.append([parameter for parameter, _ in in_order[low : bisect_left(firsts, bucket[-1][1])]])
    return found


def _part(arena: _core.Tensor, piece: Piece) -> _core.Tensor:
    begin, end = piece
    return arena.slice(begin, [end - begin])
