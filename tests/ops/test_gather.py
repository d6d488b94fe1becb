"""Rows by their ids, and by Python's indices."""

import dragoman as dg
import numpy as np
import pytest
from gradcheck import assert_near, check_by_differences


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(5,), (5, 33), (5, 2, 3), (5, 0)], ids=str)
@pytest.mark.parametrize("ids", [[3, 0, 3, 3, 4], [2], []], ids=str)
def test_rows_by_ids(rng, shape, ids, dtype):
    index = np.array(ids, int)
    for given in (ids, index, dg.tensor(np.array(ids, np.int32))):
        check_by_differences(lambda x, g=given: x[g], lambda x: x[index], [rng.standard_normal(shape)], dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "index",
    [3, -1, np.int64(0), slice(2, 5), slice(None), slice(-3, -1), slice(4, 2), slice(None, None, 2), slice(6, 0, -3)],
    ids=str,
)
@pytest.mark.parametrize("shape", [(7,), (7, 5), (7, 2, 3)], ids=str)
def test_rows_by_index(rng, shape, index, dtype):
    check_by_differences(lambda x: x[index], lambda x: x[index], [rng.standard_normal(shape)], dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("part", [slice(1, 4), slice(None), slice(-2, None), slice(3, 3)], ids=str)
@pytest.mark.parametrize("shape", [(3, 5), (2, 5, 3), (0, 5)], ids=str)
def test_columns(rng, shape, part, dtype):
    check_by_differences(lambda x: x[:, part], lambda x: x[:, part], [rng.standard_normal(shape)], dtype)


def test_many_rows_of_one_id_are_added_in_float32(rng):
    x = dg.tensor(rng.standard_normal((3, 130)), dtype="bfloat16")
    leaf = dg.tensor(x.numpy().astype(np.float32), requires_grad=True)
    ids = rng.integers(0, 3, 3001)
    dy = dg.tensor(rng.uniform(0.5, 1.5, (3001, 130)), dtype="bfloat16")
    dg.functional.cast(leaf, "bfloat16")[ids].backward(dy)
    truth = np.zeros((3, 130))
    np.add.at(truth, ids, dy.numpy().astype(np.float64))
    assert_near(leaf.grad, truth, 2.0**-8)


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        (5, IndexError, r"getitem: index must lie in \[-5, 5\), got 5"),
        (-6, IndexError, r"getitem: index must lie in \[-5, 5\), got -6"),
        ([5], ValueError, r"gather: ids must lie in \[0, 5\), got 5 at position 0"),
        ([0, -1], ValueError, r"gather: ids must lie in \[0, 5\), got -1 at position 1"),
        ([[1]], ValueError, r"gather: ids must have 1 dimensions"),
        ([True] * 5, TypeError, "gather: ids must be integers, got dtype bool"),
        ([0.5], TypeError, "gather: ids must be integers, got dtype float64"),
        (True, TypeError, "getitem: index must be an int, a slice or ids, got bool"),
        (None, TypeError, "getitem: index must be an int, a slice or ids, got NoneType"),
        ((0, 1), TypeError, r"getitem: index must be rows, or \[:, begin:end\] of columns, got \(0, 1\)"),
        ((slice(None), slice(0, 3, 2)), ValueError, "getitem: a slice of columns must have step 1, got 2"),
        (slice(0.5, 1), TypeError, "slice indices must be integers"),
    ],
    ids=str,
)
def test_other_indices_are_refused(index, error, message):
    with pytest.raises(error, match=message):
        dg.tensor(np.ones((5, 3), np.float32))[index]
    with pytest.raises(IndexError, match="getitem: a scalar tensor has no rows"):
        dg.tensor(1.0)[0]
