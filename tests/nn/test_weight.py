"""The bfloat16 form of a weight is never that of older values; the packed one: tests/ops/test_packed_weight.py."""

import dragoman as dg
import ml_dtypes
import numpy as np
import pytest
from dragoman import _core
from dragoman.nn import Linear, Parameter
from dragoman.optim import AdamW


@pytest.fixture
def weight(rng):
    return Parameter(rng.standard_normal((5, 7)))


def new(rng):
    return rng.standard_normal((5, 7)).astype(np.float32)


def check(weight):
    low = dg.Tensor(weight.data_as("bfloat16")).numpy()
    np.testing.assert_array_equal(low, weight.numpy().astype(ml_dtypes.bfloat16))
    np.testing.assert_array_equal(dg.Tensor(weight.data_as("float32")).numpy(), weight.numpy())


def test_made_once_and_again_after_every_write(rng, weight):
    writes = [
        lambda: weight.copy_(new(rng)),
        lambda: weight.detach().copy_(new(rng)),
        lambda: weight.data.zero_(),
        lambda: setattr(weight, "data", dg.tensor(new(rng)).data.clone()),
    ]
    check(weight)
    for write in writes:
        held = weight.data_as("bfloat16")
        assert weight.data_as("bfloat16") is held
        write()
        assert weight.data_as("bfloat16") is not held
        check(weight)


def test_not_kept_where_others_may_write(rng, weight):
    check(weight)
    shared = dg.from_dlpack(weight)
    shared.copy_(new(rng))
    check(weight)
    assert weight.data_as("bfloat16") is not weight.data_as("bfloat16")


@pytest.mark.parametrize("lent", [False, True])
def test_an_optimizer_shares_its_own(rng, lent):
    layer = Linear(7, 5)
    layer.compute_dtype = "bfloat16"
    optimizer = AdamW(layer, lr=0.1)
    if lent:
        other = dg.from_dlpack(layer.weight)
    for _ in range(2):
        first = layer.weight.data_as("bfloat16")
        assert (layer.weight.data_as("bfloat16") is first) == (not lent)
        x = dg.tensor(rng.standard_normal((3, 7)), dtype="bfloat16")
        dg.functional.cross_entropy(layer(x), [0, 1, 2]).backward()
        optimizer.step()
        check(layer.weight)
        assert (layer.weight.data_as("bfloat16") is first) == (not lent)
    (other if lent else layer.weight).copy_(new(rng))
    check(layer.weight)


@pytest.mark.parametrize("used_before", [False, True])
def test_a_program_reads_the_values_of_its_own_time(rng, used_before):
    layer, x = Linear(7, 5), dg.tensor(rng.standard_normal((3, 7)), dtype="bfloat16")
    with dg.no_grad():
        if used_before:
            layer(x)
        recorder = _core.Recorder()
        try:
            program = recorder.finish([x.data], [layer(x).data])
        finally:
            recorder.stop()
        layer.weight.copy_(new(rng))
        replayed = dg.Tensor(program.replay([x.data])[0])
        np.testing.assert_array_equal(replayed.numpy(), layer(x).numpy())
