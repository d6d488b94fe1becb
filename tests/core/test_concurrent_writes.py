"""Another thread writes ids, or uses the same cache, while ops run: an op reads what it checked, or refuses."""

import re
import threading
from contextlib import contextmanager

import dragoman as dg
import numpy as np
import pytest
from dragoman import functional as F
from dragoman import nn

pytestmark = pytest.mark.cpu

ROWS, WILD = 4096, 10**9


@contextmanager
def writer(values, wild):
    """Writes `wild` and zeros to `values` in turn, from another thread."""
    stop = threading.Event()

    def write():
        while not stop.is_set():
            values.fill(wild)
            values.fill(0)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        values.fill(0)


def tensor(*shape):
    return dg.tensor(np.ones(shape, np.float32), requires_grad=True)


CACHE = nn.KVCache(ROWS)
SEQUENCES = dg.Sequences([1] * ROWS)
OPS = {
    "embedding": lambda ids: F.embedding(ids, tensor(5, 4), SEQUENCES),
    "starts": lambda ids: F.embedding(
        np.zeros(ROWS, np.int32), tensor(5, 4), SEQUENCES, positions=tensor(8, 4), starts=ids
    ),
    "cross_entropy": lambda ids: F.cross_entropy(tensor(ROWS, 5), ids),
    "linear_cross_entropy": lambda ids: F.linear_cross_entropy(tensor(ROWS, 4), tensor(5, 4), ids),
    "gather": lambda ids: F.gather(tensor(5, 4), ids),
    "reorder": CACHE.reorder,
}


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("wild", [WILD, -WILD])
def test_ids_that_change_are_never_followed(op, wild):
    if op == "reorder":
        CACHE.extend(SEQUENCES)
        CACHE.append(0, tensor(ROWS, 4), tensor(ROWS, 4), SEQUENCES)
    ids = np.zeros(ROWS, np.int32)
    done = refused = 0
    with writer(ids, wild):
        for _ in range(200):
            try:
                y = OPS[op](ids)
                if y is not None:
                    (y if y.size == 1 else F.sum(y)).backward()
                done += 1
            except ValueError as error:
                assert re.search("(ids|starts|indices) must lie in|positions must have at least", str(error))
                refused += 1
    assert done + refused == 200
    y = OPS[op](ids)  # and then as always
    assert y is None or np.isfinite(y.numpy()).all()


def test_a_cache_in_two_threads_is_refused_not_corrupted():
    cache = nn.KVCache(64)
    new = dg.Sequences([1] * 64)
    rows, order = tensor(64, 256), np.arange(64)[::-1].copy()
    errors = []

    def decode():
        for _ in range(60):
            try:
                cache.extend(new)
                cache.append(0, rows, rows, new)
                cache.reorder(order)
            except ValueError as error:
                errors.append(str(error))

    threads = [threading.Thread(target=decode) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(error.startswith("KVCache: ") for error in errors)
    assert len(set(cache.lengths)) == 1
    length = cache.lengths[0]
    cache.extend(new)
    cache.append(0, rows, rows, new)
    assert cache.lengths == [length + 1] * 64
