"""The exchange of gradients: each rank adds up the gradients of all ranks for its own pieces of the arena."""

from __future__ import annotations

import ctypes
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman import _core
from dragoman.distributed.ranks import Buffer, Ranks, Transfer
from dragoman.tensor import Function, Tensor

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


def writeable(tensor: _core.Tensor) -> Buffer:
    """A float32 tensor on the CPU as an array over its memory that MPI may write into."""
    view = tensor.numpy()
    memory: Any = (ctypes.c_char * view.nbytes).from_address(view.ctypes.data)
    return np.frombuffer(memory, np.float32)


@dataclass
class _Sent:
    """A bucket whose pieces were sent, while those of the other ranks arrive."""

    number: int
    received: dict[int, Buffer]  # by rank
    transfer: Transfer


class GradientExchange:
    """Adds up the gradients of all ranks' batches, each piece on the rank that owns it.

    A bucket is sent as soon as backward has written the last gradient in it, while backward goes on. The owner of a
    piece adds the gradients in the order of ranks. So the sum has the bits of one process that adds the same batches
    one after the other.

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
        self._values = writeable(gradients)
        self._total = total
        self._parameters = _parameters_of(pieces, places)
        sizes = [bucket[ranks.rank][1] - bucket[ranks.rank][0] for bucket in pieces.buckets]
        self._offsets = [0, *accumulate(sizes)]  # for each bucket, where its piece begins in `total`
        self._contributors = ranks.size
        self._ready_at: list[int] = []  # for each bucket, how many functions are left when it is complete
        self._next = 0  # the first bucket that was not sent
        self._sent: list[_Sent] = []

    def begin(self, contributors: int) -> None:
        """Begins a round, in which ranks [0, contributors) have a batch."""
        self._contributors = contributors
        self._next = 0
        self._ready_at = [0] * len(self._buckets)

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

    def finish(self) -> None:
        """Sends the other buckets, waits for all of them, and clears the arena."""
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
        received = {rank: np.empty(end - begin, np.float32) for rank in senders}
        sends = [(rank, self._values[slice(*bucket[rank])]) for rank in owners if me < self._contributors]
        self._sent.append(_Sent(number, received, self._ranks.transfer(sends, list(received.items()), number)))

    def _add_arrived(self) -> None:
        """Adds the buckets that have arrived, in their order."""
        while self._sent and self._sent[0].transfer.done():
            self._add(self._sent.pop(0))

    def _add(self, sent: _Sent) -> None:
        begin, end = self._buckets[sent.number][self._ranks.rank]
        if begin == end:
            return
        total = self._total.slice(self._offsets[sent.number], [end - begin])
        for rank in range(self._contributors):
            if rank == self._ranks.rank:
                piece = self._gradients.slice(begin, [end - begin])
            else:
                piece = _core.Tensor.from_numpy(sent.received[rank], "float32")
            _core.accumulate(total, piece, 1.0, True)


def _parameters_of(pieces: Pieces, places: Mapping[int, int]) -> list[list[int]]:
    """For each bucket the parameters, by `id`, that have elements in it."""
    in_order = sorted(places.items(), key=itemgetter(1))
    firsts = [first for _, first in in_order]
    found = []
    for bucket in pieces.buckets:
        low = max(bisect_right(firsts, bucket[0][0]) - 1, 0)
        found.append([parameter for parameter, _ in in_order[low : bisect_left(firsts, bucket[-1][1])]])
    return found


def share(ranks: Ranks, values: _core.Tensor, pieces: Pieces) -> None:
    """Copies the pieces of every owner to all ranks."""
    memory = writeable(values)
    transfers = []
    for number, bucket in enumerate(pieces.buckets):
        own = memory[slice(*bucket[ranks.rank])]
        others = [(rank, memory[slice(*piece)]) for rank, piece in enumerate(bucket) if rank != ranks.rank]
        sends = [(rank, own) for rank, _ in others if own.size]
        transfers.append(ranks.transfer(sends, [(rank, part) for rank, part in others if part.size], number))
    ranks.wait(transfers)


def collect(ranks: Ranks, values: Sequence[_core.Tensor], pieces: Pieces, size: int) -> npt.NDArray[np.float32] | None:
    """The pieces of all owners as one array in the arena's layout, on the first rank; None on the other ranks.

    Args:
        ranks: the processes; all of them call it.
        values: the pieces that this rank owns.
        pieces, size: of the arena.
    """
    if not ranks.first:
        sends = [(0, writeable(tensor)) for tensor in values]
        ranks.wait([ranks.transfer(sends, [], 0)])
        return None
    whole = np.empty(size, np.float32)
    for (begin, end), tensor in zip(pieces.owned(0), values, strict=True):
        whole[begin:end] = tensor.numpy()
    receives = [(rank, whole[begin:end]) for rank in range(1, ranks.size) for begin, end in pieces.owned(rank)]
    ranks.wait([ranks.transfer([], receives, 0)])
    return whole
