"""One row for each sequence: mean, largest, first, last."""

import dragoman as dg
import numpy as np
import pytest
from gradcheck import assert_near, check_by_differences, with_tail

LENGTHS = [3, 0, 1, 33, 2]


def truth(kind, lengths):
    def pooled(x):
        starts = np.cumsum([0, *lengths])
        parts = [x[starts[i] : starts[i + 1]] for i in range(len(lengths))]
        pick = {
            "mean": lambda p: p.mean(0),
            "max": lambda p: p.max(0),
            "first": lambda p: p[0],
            "last": lambda p: p[-1],
        }
        return np.array([pick[kind](part) if len(part) else np.zeros(x.shape[1]) for part in parts])

    return pooled


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("features", [1, 17, 33])
@pytest.mark.parametrize("kind", ["mean", "max", "first", "last"])
def test_matches_numpy(rng, kind, features, dtype):
    rows = np.tile(np.arange(sum(LENGTHS)), (features, 1))  # no two equal, in bfloat16 too
    x, sequences = rng.permuted(rows, axis=1).T / 8.0 - 2.0, dg.Sequences(LENGTHS)
    check_by_differences(lambda x: dg.functional.pool(x, sequences, kind), truth(kind, LENGTHS), [x], dtype)


@pytest.mark.parametrize("kind", ["mean", "max", "first", "last"])
def test_rows_that_are_not_in_use_are_not_read_and_get_no_gradient(rng, kind):
    array = with_tail(rng.standard_normal((sum(LENGTHS), 5)).astype(np.float32), 4)
    x = dg.tensor(array, requires_grad=True)
    y = dg.functional.pool(x, dg.Sequences(LENGTHS, capacity=len(array)), kind)
    assert_near(y, truth(kind, LENGTHS)(array[:-4].astype(np.float64)), 1e-6)
    y.sum().backward()
    assert not x.grad.numpy()[-4:].any()
    assert x.grad.numpy().any()


def test_the_first_of_equal_values_gets_the_gradient():
    x = dg.tensor([[1.0, 2.0], [1.0, 3.0], [0.0, 3.0]], requires_grad=True)
    y = dg.functional.pool(x, dg.Sequences([3]), "max")
    y.backward(np.array([[5.0, 7.0]], np.float32))
    np.testing.assert_array_equal(x.grad.numpy(), [[5, 0], [0, 7], [0, 0]])


def test_a_batch_without_sequences():
    x = dg.tensor(np.zeros((0, 3), np.float32), requires_grad=True)
    y = dg.functional.pool(x, dg.Sequences([]))
    assert y.shape == (0, 3)
    y.sum().backward()
    assert x.grad.shape == (0, 3)


def test_other_arguments_are_refused():
    x, sequences = dg.tensor(np.zeros((3, 2), np.float32)), dg.Sequences([2])
    with pytest.raises(ValueError, match="pool: sequences must have capacity 3"):
        dg.functional.pool(x, sequences)
    with pytest.raises(ValueError, match="pool: kind must be one of mean, max, first, last, got 'sum'"):
        dg.functional.pool(x, sequences, "sum")
