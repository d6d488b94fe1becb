"""A process of test_nccl_exchange.py: exchange_program.py SCENARIO RANK SIZE ID."""

import json
import sys
import time

import numpy as np
from dragoman import _core

COUNT = 70_001


def wait(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(1e-4)


def exchange(sends, receives):
    number = _core.start_exchange(sends, receives)
    wait(_core.exchange_ready)
    return number


def tensor(values):
    made = _core.Tensor.empty([len(values)], "float32", "cuda")
    made.copy_(values)
    return made


def values_of(rank, other, turn):
    return np.random.default_rng([rank, other, turn]).normal(size=COUNT).astype(np.float32)


def kernels(rank, size):
    """What a kernel has just been asked to compute travels; what has come goes into kernels."""
    others = [other for other in range(size) if other != rank]
    numbers, arrived = [], []
    for turn in range(3):
        sends = []
        for other in others:
            computed = tensor(values_of(rank, other, turn))
            _core.accumulate(computed, computed, 1.0, True)
            sends.append((other, computed))
        arrived.append([(other, _core.Tensor.empty([COUNT], "float32", "cuda")) for other in others])
        numbers.append(exchange(sends, arrived[-1]))
        del sends, computed  # the exchange keeps them
    assert numbers == [1, 2, 3]
    version = arrived[1][0][1].version
    for turn in (1, 0, 2):  # a group is done after those before
        wait(lambda turn=turn: _core.exchange_done(numbers[turn]))
        for other, array in arrived[turn]:
            np.testing.assert_array_equal(array.numpy(), 2 * values_of(other, rank, turn))
    assert arrived[1][0][1].version != version


def sizes(rank, size):
    """The receiver, rank 1, is told that a message has another size."""
    part = [(1 - rank, _core.Tensor.zeros([3 + rank], "float32", "cuda"))]
    number = exchange(part if rank == 0 else [], part if rank == 1 else [])
    wait(lambda: _core.exchange_done(number), 2.0)


def silent(rank, size):
    """Rank 1 sends nothing."""
    if rank == 0:
        number = exchange([], [(1, _core.Tensor.zeros([3], "float32", "cuda"))])
        try:
            wait(lambda: _core.exchange_done(number), 0.2)
        finally:
            _core.leave_exchange()
            _core.empty_cache("cuda")  # waits for all streams


if __name__ == "__main__":
    scenario, rank, size, identity = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), bytes.fromhex(sys.argv[4])
    try:
        _core.join_exchange(identity, rank, size)
        wait(_core.exchange_ready, 3.0)
        globals()[scenario](rank, size)
        print(json.dumps("done"))
    except Exception as error:
        print(json.dumps(f"{type(error).__name__}: {error}"))
