"""top_k of rows of logits: columns, logits and softmax against a sort in NumPy."""

import dragoman as dg
import numpy as np
import pytest
from dragoman import _core


def found(logits, k):
    return [part.numpy() for part in _core.top_k(dg.tensor(np.asarray(logits, np.float32)).data, k)]


def check(logits, k):
    ids, values, softmax = found(logits, k)
    order = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(ids, order)
    np.testing.assert_array_equal(values, np.take_along_axis(logits, order, 1))
    exact = logits.astype(np.float64)
    maximum = exact.max(1)
    np.testing.assert_array_equal(softmax[:, 0], maximum)
    np.testing.assert_allclose(softmax[:, 1], np.exp(exact - maximum[:, None]).sum(1), rtol=2e-6)


@pytest.mark.parametrize("columns", [1, 31, 64, 511, 512, 513, 1025, 9001])
@pytest.mark.parametrize("k", [1, 2, 7, 40, 10_000])
def test_against_a_sort(rng, columns, k, device):
    if device != "cpu" and k * columns > 10**7:
        pytest.skip("a block takes a turn for each of the k")
    check(5 * rng.standard_normal((3, columns)).astype(np.float32), k)
    check(rng.integers(0, 9, (5, columns)).astype(np.float32), k)  # many ties
    check(np.sort(rng.standard_normal((2, columns)), axis=1).astype(np.float32), k)  # each column beats those before
    check(np.full((2, columns), -3.4028e38, np.float32), k)


def test_rows_that_are_mostly_forbidden(rng):
    """Columns of -inf come last, in their order, also where whole blocks are -inf."""
    for columns, left in ((700, [3, 699]), (5000, [4999]), (5000, [0, 2600, 4000])):
        logits = np.full((2, columns), -np.inf, np.float32)
        logits[:, left] = rng.standard_normal((2, len(left)))
        for k in (1, 3, 12, 600):
            check(logits, k)
    ids, values, softmax = found(np.full((1, 600), -np.inf), 4)
    assert ids.tolist() == [[0, 1, 2, 3]] and (values == -np.inf).all() and softmax[0, 1] == 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 5, 511, 512, 1299])
def test_a_row_that_is_not_finite_is_told(rng, value, place):
    logits = rng.standard_normal((4, 1300)).astype(np.float32)
    expected = found(logits, 3)
    logits[2, place] = value
    ids, values, softmax = found(logits, 3)
    assert np.isnan(softmax[:, 1]).tolist() == [False, False, True, False]
    assert (ids >= 0).all() and (ids < 1300).all()
    for part, before in zip((ids, values, softmax), expected, strict=True):
        np.testing.assert_array_equal(part[[0, 1, 3]], before[[0, 1, 3]])


def test_bits_of_a_row_do_not_depend_on_rows_or_threads(rng, one_thread):
    logits = rng.standard_normal((9, 4001)).astype(np.float32)
    alone = [found(row[None], 9) for row in logits]
    dg.set_num_threads(2)
    for i, part in enumerate(found(logits, 9)):
        np.testing.assert_array_equal(part, np.concatenate([each[i] for each in alone]))
    assert found(logits[:0], 9)[0].shape == (0, 9)


@pytest.mark.parametrize(
    ("shape", "dtype", "k", "message"),
    [
        ((2, 3), "int32", 1, "logits must be float32, got int32"),
        ((3,), "float32", 1, r"logits must have 2 dimensions, got shape \(3,\)"),
        ((2, 0), "float32", 1, r"logits must have at least 1 column, got shape \(2, 0\)"),
        ((2, 3), "float32", 0, "k must be at least 1, got 0"),
    ],
)
def test_errors_name_the_argument(shape, dtype, k, message):
    with pytest.raises((ValueError, TypeError), match=f"top_k: {message}"):
        _core.top_k(_core.Tensor.zeros(shape, dtype), k)
