"""Sums and means over the first axis, the last axis and all elements."""

import dragoman as dg
import numpy as np
import pytest
from gradcheck import assert_near, check_by_differences

SHAPES = [(), (1,), (33,), (3, 5), (5, 1), (1, 17), (2, 3, 5)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 0, -1])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", ["sum", "mean"])
def test_matches_numpy(rng, kind, shape, axis, keepdims, dtype):
    if axis is not None and not shape:
        return
    op, truth = getattr(dg.functional, kind), getattr(np, kind)
    options = {"axis": axis, "keepdims": keepdims}
    x = rng.standard_normal(shape)
    out = check_by_differences(lambda x: op(x, **options), lambda x: truth(x, **options), [x], dtype)
    assert out.dtype == dtype


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(1023, 129), (3, 70_001), (70_001, 3), (100_003,)], ids=str)
def test_many_elements(rng, shape, dtype):
    x = dg.tensor(rng.uniform(0, 1, shape), dtype=dtype)
    double = x.numpy().astype(np.float64)
    for axis in (None, 0, -1):
        assert_near(x.sum(axis), double.sum(axis), 1e-6 if dtype == "float32" else 2.0**-8)
        assert_near(x.mean(axis), double.mean(axis), 1e-6 if dtype == "float32" else 2.0**-8)


def test_none_sum_to_zero():
    none = dg.tensor(np.ones((0, 3), np.float32), requires_grad=True)
    assert none.sum().item() == 0
    np.testing.assert_array_equal(none.sum(0).numpy(), np.zeros(3))
    assert none.sum(-1).shape == (0,)
    assert np.isnan(none.mean().item())
    none.sum(0).backward(np.ones(3))
    assert none.grad.shape == (0, 3)


def test_other_axes_are_refused():
    x = dg.tensor(np.ones((2, 3, 4), np.float32))
    assert x.sum(2).shape == (2, 3)
    assert x.sum(-3).shape == (3, 4)
    for axis in (1, 3, -2, -4):
        with pytest.raises(ValueError, match=r"sum: axis must be"):
            x.sum(axis)
    with pytest.raises(ValueError, match="mean: axis must be"):
        dg.tensor(1.0).mean(0)
