"""softmax over the last axis."""

import dragoman as dg
import numpy as np
import pytest
from gradcheck import assert_near, check_by_differences


def truth(x):
    e = np.exp(x - x.max(-1, keepdims=True, initial=-np.inf))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(1,), (33,), (3, 5), (2, 3, 17), (4, 1), (0, 4), (4, 0)], ids=str)
def test_matches_numpy(rng, shape, dtype):
    check_by_differences(dg.functional.softmax, truth, [2 * rng.standard_normal(shape)], dtype)


def test_wide_rows_and_large_values(rng):
    x = 50 * rng.standard_normal((33, 4099)).astype(np.float32)
    out = dg.tensor(x).softmax()
    assert_near(out, truth(x.astype(np.float64)), 1e-6)
    np.testing.assert_allclose(out.sum(-1).numpy(), 1, rtol=1e-6)
    masked = dg.tensor([[1.0, -np.inf, 1.0], [1e30, -1e30, 0.0]]).softmax()
    np.testing.assert_array_equal(masked.numpy(), [[0.5, 0, 0.5], [1, 0, 0]])


def test_a_scalar_is_refused():
    with pytest.raises(ValueError, match="softmax: x must have at least 1 dimension"):
        dg.tensor(1.0).softmax()
