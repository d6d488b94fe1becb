"""relu and gelu against the reference."""

import dragoman as dg
import numpy as np
import pytest
import reference
from gradcheck import check_op, check_reference


@pytest.mark.parametrize("kind", ["relu", "gelu"])
@pytest.mark.parametrize(("rows", "features", "tail"), [(1, 1, 0), (31, 33, 4), (33, 31, 0), (5, 1023, 1), (0, 7, 2)])
def test_matches_reference(rng, kind, rows, features, tail):
    function = getattr(dg.functional, kind)
    sequences = dg.Sequences([rows // 3, 0, rows - rows // 3], capacity=rows + tail) if tail else None
    check_op(
        lambda x: function(x, sequences=sequences),
        lambda x: reference.activation(x, kind),
        lambda dy, x: reference.activation_backward(dy, x, kind),
        [3 * rng.standard_normal((rows, features))],
        tail=tail,
    )


@pytest.mark.parametrize("kind", ["relu", "gelu"])
def test_reference_gradient(rng, kind):
    check_reference(
        lambda x: reference.activation(x, kind),
        lambda dy, x: reference.activation_backward(dy, x, kind),
        [rng.standard_normal((4, 5))],
    )


def test_gelu_over_the_whole_line():
    """Far from 0 nothing overflows: x Phi(x) is 0 for large negative x, and x for large positive x."""
    x = np.array([[-np.inf, -1e30, -40, -12, -5, -1e-20, 0, 1e-20, 5, 12, 40, 1e30]], np.float32)
    y = dg.functional.gelu(dg.tensor(x)).numpy()[0]
    truth = reference.activation(x.astype(np.float64)[:, 1:], "gelu")[0]
    np.testing.assert_allclose(y[1:], truth, rtol=1e-5, atol=1e-8)


def test_errors_name_the_argument():
    with pytest.raises(TypeError, match="x must be float32 or bfloat16, got int64"):
        dg.functional.relu(dg.tensor(np.ones((2, 2), np.int64)))
    with pytest.raises(ValueError, match=r"sequences must have capacity 2 .*got 3"):
        dg.functional.gelu(dg.tensor(np.ones((2, 2), np.float32)), sequences=dg.Sequences([3]))
