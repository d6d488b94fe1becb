"""dropout: the mask is the reference's, bit for bit."""

import dragoman as dg
import numpy as np
import pytest
from gradcheck import check_op, next_mask


@pytest.mark.parametrize("p", [1e-6, 0.1, 0.5, 0.999])
@pytest.mark.parametrize(("rows", "features", "tail"), [(1, 1, 0), (31, 33, 4), (33, 31, 0), (5, 1023, 1), (0, 9, 2)])
def test_matches_reference(rng, rows, features, tail, p):
    mask = next_mask(rows, features, p)
    sequences = dg.Sequences([rows // 3, 0, rows - rows // 3], capacity=rows + tail) if tail else None
    check_op(
        lambda x: dg.functional.dropout(x, p, sequences=sequences),
        lambda x: (x * mask).astype(x.dtype),
        lambda dy, x: ((dy * mask).astype(x.dtype),),
        [rng.standard_normal((rows, features))],
        tail=tail,
    )


@pytest.mark.parametrize("seed", [0, 1, 2**40 + 17])
def test_mask_is_the_reference_bit_for_bit(seed):
    dg.manual_seed(seed)
    ones = dg.tensor(np.ones((129, 77), np.float32))
    for _ in range(3):
        mask = next_mask(129, 77, 0.3)
        np.testing.assert_array_equal(dg.functional.dropout(ones, 0.3).numpy(), mask.astype(np.float32))


def test_rate_and_mean():
    ones = dg.tensor(np.ones((1000, 1000), np.float32))
    y = dg.functional.dropout(ones, 0.1).numpy()
    assert abs((y == 0).mean() - 0.1) < 0.002
    assert abs(y.mean() - 1) < 0.002


def test_no_dropout_keeps_the_values(rng):
    x = rng.standard_normal((5, 7)).astype(np.float32)
    np.testing.assert_array_equal(dg.functional.dropout(dg.tensor(x), 0.0).numpy(), x)


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_p_out_of_range(p):
    with pytest.raises(ValueError, match=r"dropout: p must lie in \[0, 1\), got"):
        dg.functional.dropout(dg.tensor(np.ones((1, 1), np.float32)), p)
