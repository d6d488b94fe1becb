"""The product of two matrices, and transpose."""

import dragoman as dg
import numpy as np
import pytest
from gradcheck import assert_near, check_by_differences


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", ["bfloat16", "float32"], ["float32", "bfloat16"]], ids=str)
@pytest.mark.parametrize("sizes", [(3, 4, 5), (1, 33, 1), (31, 1, 2), (0, 4, 3), (2, 0, 3), (2, 3, 0)], ids=str)
def test_matches_numpy(rng, sizes, dtype):
    m, k, n = sizes
    a, b = rng.standard_normal((m, k)), rng.standard_normal((k, n))
    if isinstance(dtype, list):  # the float32 operand is rounded
        a, b = (dg.tensor(x, dtype="bfloat16").numpy().astype(np.float32) for x in (a, b))
    out = check_by_differences(lambda a, b: a @ b, lambda a, b: a @ b, [a, b], dtype)
    assert out.dtype == ("float32" if dtype == "float32" else "bfloat16")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_large(rng, dtype):
    a, b = (dg.tensor(rng.standard_normal(s), dtype=dtype) for s in ((257, 1023), (1023, 131)))
    truth = a.numpy().astype(np.float64) @ b.numpy().astype(np.float64)
    assert_near(a @ b, truth, 1e-6 if dtype == "float32" else 2.0**-8)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "shape", [(1, 1), (3, 5), (33, 1), (65, 130), (2, 3, 5), (2, 3, 2, 2), (0, 3), (3, 2, 0)], ids=str
)
def test_transpose(rng, shape, dtype):
    x = dg.tensor(rng.standard_normal(shape), dtype=dtype)
    np.testing.assert_array_equal(x.transpose().numpy(), x.numpy().swapaxes(0, 1))
    if x.size < 100:
        check_by_differences(lambda x: x.T, lambda x: x.swapaxes(0, 1), [rng.standard_normal(shape)], dtype)


def test_errors():
    x = dg.tensor(np.ones((2, 3), np.float32))
    with pytest.raises(ValueError, match=r"matmul: b must have as many rows as a has columns, got shapes \(2, 3\) and"):
        x @ x
    with pytest.raises(ValueError, match="matmul: a must have 2 dimensions"):
        x[0] @ x
    with pytest.raises(TypeError, match="matmul: b must be a Tensor, got float"):
        x @ 2.0
    with pytest.raises(ValueError, match="transpose: x must have at least 2 dimensions"):
        x[0].transpose()
