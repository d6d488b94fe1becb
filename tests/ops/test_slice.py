"""concat along rows and columns. Slices are tested as indices, in test_gather.py."""

import dragoman as dg
import numpy as np
import pytest
from gradcheck import check_by_differences


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("sizes", [[3], [2, 3], [1, 0, 4], [1, 2, 3, 4], [2, 1, 3, 1, 5, 2, 1, 1, 2]], ids=str)
@pytest.mark.parametrize(("axis", "shape"), [(0, ()), (0, (3,)), (1, (2,)), (1, (2, 3)), (1, (0,))], ids=str)
def test_concat(rng, axis, shape, sizes, dtype):
    shapes = [(n, *shape) if axis == 0 else (shape[0], n, *shape[1:]) for n in sizes]
    arrays = [rng.standard_normal(s) for s in shapes]
    check_by_differences(lambda *x: dg.functional.concat(x, axis), lambda *x: np.concatenate(x, axis), arrays, dtype)


def test_one_tensor_in_several_places(rng):
    x = rng.standard_normal((3, 4))
    check_by_differences(
        lambda x: dg.functional.concat([x, x * 2.0, x], 1), lambda x: np.concatenate([x, x * 2.0, x], 1), [x]
    )


def test_wide_rows(rng):
    arrays = [rng.standard_normal((37, n)).astype(np.float32) for n in (4001, 5000, 17)]
    joined = dg.functional.concat([dg.tensor(array) for array in arrays], 1)
    np.testing.assert_array_equal(joined.numpy(), np.concatenate(arrays, 1))
    np.testing.assert_array_equal(joined[:, 4001:9001].numpy(), arrays[1])


def test_errors():
    x = dg.tensor(np.ones((2, 3), np.float32))
    with pytest.raises(ValueError, match=r"concat: tensors must have equal shapes but for axis 0, got .* and \(2, 2\)"):
        dg.functional.concat([x, x[:, :2]])
    with pytest.raises(TypeError, match="concat: tensors must be float32, got bfloat16"):
        dg.functional.concat([x, dg.functional.cast(x, "bfloat16")])
    for tensors, axis in (([], 0), ([x], 2), ([x[0]], 1)):
        with pytest.raises(ValueError, match="concat: tensors must have the axis, 0 or 1, got axis"):
            dg.functional.concat(tensors, axis)
