"""NCCLLink: what moves arrays between the GPUs of several ranks, through NCCL (extra `nccl`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dragoman import _core
from dragoman.distributed.ranks import Link, Part, Ranks, Transfer

_CHECKED = 1000  # values that each rank sends to each other one, to begin with


class _Group:
    """A group of sends and receives of the device."""

    def __init__(self, number: int) -> None:
        self._number = number

    def done(self) -> bool:
        return _core.exchange_done(self._number)


class _Ready:
    """Until all ranks have joined, or the device has the last group."""

    def done(self) -> bool:
        return _core.exchange_ready()


class NCCLLink(Link):
    """Moves arrays between the GPUs of the ranks. A process has one at most, and a GPU of its own.

    Messages have no tags: all ranks start transfers that match, in the same order.

    Args:
        ranks: whose messages bring the ranks together. All of them make their link together.

    Raises:
        RuntimeError: NCCL is missing, or fails; what it moves does not arrive as it was sent.
        ValueError: the ranks have other versions of NCCL.
        TimeoutError: a rank does not join.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        ranks.agree({"the version of NCCL": _core.exchange_version()})
        identity = ranks.gather(_core.exchange_id().hex() if ranks.first else None)[0]
        _core.join_exchange(bytes.fromhex(identity), ranks.rank, ranks.size)
        ranks.wait([_Ready()])
        self._check()

    def transfer(self, sends: Sequence[Part], receives: Sequence[Part], tag: int) -> Transfer:
        group = _Group(_core.start_exchange(sends, receives))
        self._ranks.wait([_Ready()])
        return group

    def _check(self) -> None:
        """RuntimeError unless what each rank sends to each other one arrives."""
        me = self._ranks.rank
        others = [rank for rank in range(self._ranks.size) if rank != me]
        sends = [(rank, _core.Tensor.empty([_CHECKED], "float32", "cuda")) for rank in others]
        receives = [(rank, _core.Tensor.empty([_CHECKED], "float32", "cuda")) for rank in others]
        for rank, tensor in sends:
            tensor.copy_(_pattern(me, rank))
        self._ranks.wait([self.transfer(sends, receives, 0)])
        for rank, tensor in receives:
            if not np.array_equal(tensor.numpy(), _pattern(rank, me)):
                raise RuntimeError(
                    f"{_core.exchange_version()}: what rank {rank} sent to rank {me} arrived with other values"
                )


def _pattern(sender: int, receiver: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng([sender, receiver]).random(_CHECKED, np.float32)
