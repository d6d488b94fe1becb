"""The exchange of gradients: each rank adds what all have computed for its own pieces of the arena."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman import _core
from dragoman.distributed.ranks import Buffer, Ranks, Transfer
from dragoman.tensor import Function, Tensor

CHUNK = 16384  # elements: those of a sum of squares, see csrc/ops/optimizer.h
BUCKET = 64 * CHUNK  # elements that travel together, 4 MiB

Piece = tuple[int, int]  # the first element of an arena, and the one after the last


class Pieces:
    """Which rank owns which elements of an arena: each bucket is cut at chunks into a piece for each rank.

    Attributes:
        of: for each bucket the piece of each rank, which may be empty.
    """

    def __init__(self, size: int, ranks: int) -> None:
        self.of: list[list[Piece]] = []
        for first in range(0, size, BUCKET):
            end = min(first + BUCKET, size)
            chunks = -(-(end - first) // CHUNK)
            cuts = [min(first + chunks * rank // ranks * CHUNK, end) for rank in range(ranks)] + [end]
            self.of.append(list(pairwise(cuts)))

    def owned(self, rank: int) -> list[Piece]:
        """The pieces of a rank that hold anything, in their order."""
        return [pieces[rank] for pieces in self.of if pieces[rank][0] < pieces[rank][1]]


def writeable(tensor: _core.Tensor) -> Buffer:
    """The memory of a float32 tensor on the CPU, for a library that writes into it."""
    view = tensor.numpy()
    memory: Any = (ctypes.c_char * view.nbytes).from_address(view.ctypes.data)
    return np.frombuffer(memory, np.float32)


class _Bucket:
    """One bucket of a round: what is under way, and where it arrives."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.received: dict[int, Buffer] = {}
        self.transfer: Transfer | None = None


class GradientExchange:
    """Adds the gradients of all ranks' batches to the sum that lies with their owners.

    The pieces of a bucket leave for their owners as soon as backward has written the last gradient in it, while it
    goes on. An owner adds them in the order of ranks: the sum has the bits that one process gets, which adds one batch
    after the other.

    Args:
        ranks: the processes.
        gradients: the arena that backward writes into, float32 (size,).
        total: the sum over this rank's pieces, one after the other, float32.
        places: the first element of each parameter in the arena, by its identity.
    """

    def __init__(self, ranks: Ranks, gradients: _core.Tensor, total: _core.Tensor, places: Mapping[int, int]) -> None:
        self.pieces = Pieces(gradients.shape[0], ranks.size)
        self._ranks = ranks
        self._gradients = gradients
        self._values = writeable(gradients)
        self._total = total
        self._places = places
        self._needs: list[int] = []  # by bucket, how many functions may be left when it is whole
        self._next = 0  # the first bucket that has not left
        self._under_way: list[_Bucket] = []
        self._contributors = ranks.size
        sizes = [pieces[ranks.rank][1] - pieces[ranks.rank][0] for pieces in self.pieces.of]
        self._offsets = [0, *accumulate(sizes)]  # by bucket, where this rank's piece begins in its sum

    def begin(self, contributors: int) -> None:
        """Begins a round, in which ranks [0, contributors) have a batch."""
        self._contributors = contributors
        self._next, self._under_way = 0, []
        self._needs = [0] * len(self.pieces.of)

    def started(self, order: Sequence[Function]) -> None:
        """Called by backward with the functions that will run, from the last one to the first."""
        first_use: dict[int, int] = {}
        for place, function in enumerate(order):
            for edge in function.inputs:
                if isinstance(edge, Tensor):
                    first_use.setdefault(id(edge), place)
        firsts = sorted((first, first_use.get(parameter, len(order))) for parameter, first in self._places.items())
        starts = [first for first, _ in firsts]
        for bucket, pieces in enumerate(self.pieces.of):
            begin, end = pieces[0][0], pieces[-1][1]
            low = max(int(np.searchsorted(starts, begin, "right")) - 1, 0)
            high = int(np.searchsorted(starts, end, "left"))
            self._needs[bucket] = min(need for _, need in firsts[low:high])

    def left(self, functions: int) -> None:
        """Called by backward after each function, with the number of those that are left."""
        while self._next < len(self._needs) and self._needs[self._next] >= functions:
            self._send()
        self._poll()

    def finish(self) -> None:
        """Sends what has not left, and returns when this rank's sum holds the gradients of all. Clears the arena."""
        while self._next < len(self._needs):
            self._send()
        while self._under_way:
            transfer = self._under_way[0].transfer
            self._ranks.wait([] if transfer is None else [transfer])
            self._poll()
        self._gradients.zero_()

    def _send(self) -> None:
        """Sends the next bucket's pieces to their owners, and waits for what others send of it in the background."""
        bucket, me = _Bucket(self._next), self._ranks.rank
        self._next += 1
        pieces = self.pieces.of[bucket.number]
        sends = [
            (rank, self._values[begin:end])
            for rank, (begin, end) in enumerate(pieces)
            if rank != me and begin < end and me < self._contributors
        ]
        begin, end = pieces[me]
        if begin < end:
            others = (rank for rank in range(self._contributors) if rank != me)
            bucket.received = {rank: np.empty(end - begin, np.float32) for rank in others}
        if sends or bucket.received:
            bucket.transfer = self._ranks.transfer(sends, list(bucket.received.items()), bucket.number)
        self._under_way.append(bucket)

    def _poll(self) -> None:
        """Adds what has arrived, bucket by bucket."""
        while self._under_way and ((transfer := self._under_way[0].transfer) is None or transfer.done()):
            self._add(self._under_way.pop(0))

    def _add(self, bucket: _Bucket) -> None:
        begin, end = self.pieces.of[bucket.number][self._ranks.rank]
        if begin == end:
            return
        total = self._total.slice(self._offsets[bucket.number], [end - begin])
        for rank in range(self._contributors):
            if rank == self._ranks.rank:
                piece = self._gradients.slice(begin, [end - begin])
            else:
                piece = _core.Tensor.from_numpy(bucket.received[rank], "float32")
            _core.accumulate(total, piece, 1.0, True)


def share(ranks: Ranks, values: _core.Tensor, pieces: Pieces) -> None:
    """Gives all ranks the values of every owner's pieces."""
    memory = writeable(values)
    transfers: list[Any] = []
    for number, bucket in enumerate(pieces.of):
        others = [(rank, piece) for rank, piece in enumerate(bucket) if rank != ranks.rank]
        begin, end = bucket[ranks.rank]
        sends = [(rank, memory[begin:end]) for rank, _ in others if begin < end]
        receives = [(rank, memory[first:last]) for rank, (first, last) in others if first < last]
        if sends or receives:
            transfers.append(ranks.transfer(sends, receives, number))
    ranks.wait(transfers)


def collect(ranks: Ranks, values: Sequence[_core.Tensor], pieces: Pieces, size: int) -> npt.NDArray[np.float32] | None:
    """Every owner's values of its pieces as one array in the arena's layout, on the first rank; None on the others."""
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
