"""residual + dropout(x) against the reference."""

import dragoman as dg
import numpy as np
import pytest
from gradcheck import check_op, next_mask


@pytest.mark.parametrize("p", [0.0, 0.25])
@pytest.mark.parametrize(("rows", "features", "tail"), [(1, 1, 0), (31, 33, 4), (33, 31, 0), (5, 1023, 1), (0, 9, 2)])
def test_matches_reference(rng, rows, features, tail, p):
    mask = next_mask(rows, features, p) if p else np.ones((rows, features))
    sequences = dg.Sequences([rows // 3, 0, rows - rows // 3], capacity=rows + tail) if tail else None
    check_op(
        lambda x, residual: dg.functional.residual(x, residual, dropout=p, sequences=sequences),
        lambda x, residual: (residual + x * mask).astype(x.dtype),
        lambda dy, x, residual: ((dy * mask).astype(x.dtype), dy),
        [rng.standard_normal((rows, features)), rng.standard_normal((rows, features))],
        rows=(0, 1),
        tail=tail,
    )


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match=r"residual: residual must have shape \(2, 3\), got \(2, 4\)"):
        dg.functional.residual(dg.tensor(np.ones((2, 3), np.float32)), dg.tensor(np.ones((2, 4), np.float32)))
