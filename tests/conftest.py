"""Fixtures: every test starts with the same seed and restores the number of threads."""

import dragoman as dg
import numpy as np
import pytest
from toy_runs import pairs_of


@pytest.fixture(autouse=True)
def _same_start():
    threads = dg.num_threads()
    dg.manual_seed(0)
    yield
    dg.set_num_threads(threads)


@pytest.fixture
def rng():
    return np.random.default_rng(1234)


@pytest.fixture
def one_thread():
    dg.set_num_threads(1)  # toy models gain nothing from more


@pytest.fixture
def pairs(rng):
    return pairs_of(rng, 60)
