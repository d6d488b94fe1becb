"""The link of GPUs over a library that a test plays: how ranks join, and what they refuse."""

from types import SimpleNamespace

import numpy as np
import pytest
from dragoman import _core
from dragoman.distributed import nccl
from dragoman.distributed.ranks import Ranks


class Three(Ranks):
    """Rank 1 of three, which all say the same."""

    rank, size = 1, 3

    def gather(self, value, *, patient=False):
        return [value or "ab12"] * 3

    def wait(self, transfers):
        while not all(transfer.done() for transfer in transfers):
            pass


def library(wrong=0.0):
    """NCCL, to which the other ranks send what they should, or nearly."""
    answers = iter([False, True] * 9)  # of exchange_ready
    calls = []

    def start(sends, receives):
        for rank, tensor in sends:
            np.testing.assert_array_equal(tensor.numpy(), nccl._pattern(1, rank))
        for rank, tensor in receives:
            tensor.copy_(nccl._pattern(rank, 1) + np.float32(wrong if rank == 2 else 0.0))
        calls.append([[rank for rank, _ in parts] for parts in (sends, receives)])
        return len(calls)

    return calls, SimpleNamespace(
        Tensor=SimpleNamespace(empty=lambda shape, dtype, device: _core.Tensor.empty(shape, dtype)),
        exchange_version=lambda: "NCCL 2.27.3",
        join_exchange=lambda *joined: calls.append(joined),
        exchange_ready=lambda: next(answers),
        start_exchange=start,
        exchange_done=lambda number: number == len(calls),
    )


def test_ranks_join_by_the_id_of_the_first_and_try_the_link_out(monkeypatch):
    calls, played = library()
    monkeypatch.setattr(nccl, "_core", played)
    nccl.NCCLLink(Three())
    assert calls == [(b"\xab\x12", 1, 3), [[0, 2], [0, 2]]]


def test_values_that_arrive_wrong_are_refused(monkeypatch):
    monkeypatch.setattr(nccl, "_core", library(wrong=1e-3)[1])
    with pytest.raises(RuntimeError, match=r"NCCL 2\.27\.3: what rank 2 sent to rank 1 arrived with other values"):
        nccl.NCCLLink(Three())


def test_ranks_of_other_versions_are_refused(monkeypatch):
    class Other(Three):
        def gather(self, value, *, patient=False):
            return [value, value, ["NCCL 2.30.0"]]

    monkeypatch.setattr(nccl, "_core", library()[1])
    with pytest.raises(ValueError, match=r"the version of NCCL must be the same on all ranks, rank 0 has NCCL 2\.27"):
        nccl.NCCLLink(Other())
