"""rms_norm against the reference."""

import dragoman as dg
import numpy as np
import pytest
import reference
from gradcheck import check_op, check_reference


@pytest.mark.parametrize(
    ("rows", "features", "tail"),
    [(1, 1, 0), (31, 33, 4), (33, 31, 0), (1023, 17, 2), (5, 1023, 1), (0, 7, 2)],
)
def test_matches_reference(rng, rows, features, tail):
    sequences = dg.Sequences([rows // 3, 0, rows - rows // 3], capacity=rows + tail) if tail else None
    eps = 1.0 if features == 1 else 1e-5  # one feature's gradient is eps * rstd^3: all rounding for a small eps
    check_op(
        lambda *args: dg.functional.rms_norm(*args, eps=eps, sequences=sequences),
        lambda *args: reference.rms_norm(*args, eps),
        lambda dy, *args: reference.rms_norm_backward(dy, *args, eps),
        [2 * rng.standard_normal((rows, features)) + 0.5, 1 + 0.1 * rng.standard_normal(features)],
        tail=tail,
    )


def test_reference_gradient(rng):
    inputs = [rng.standard_normal(shape) for shape in [(3, 7), (7,)]]
    check_reference(reference.rms_norm, reference.rms_norm_backward, inputs)


def test_the_layer_scales_rows_to_a_mean_square_of_1(rng):
    layer = dg.nn.RMSNorm(64)
    y = layer(dg.tensor(100 * rng.standard_normal((9, 64)).astype(np.float32))).numpy()
    np.testing.assert_allclose((y**2).mean(-1), 1, rtol=1e-5)
    assert [name for name, _ in layer.named_parameters()] == ["weight"]


def test_rows_of_zeros_stay_zeros():
    x, weight = dg.tensor(np.zeros((2, 5), np.float32)), dg.tensor(np.ones(5, np.float32))
    assert not dg.functional.rms_norm(x, weight).numpy().any()


def test_errors_name_the_argument():
    x = dg.tensor(np.ones((2, 5), np.float32))
    with pytest.raises(ValueError, match=r"rms_norm: weight must have shape \(5,\), got \(4,\)"):
        dg.functional.rms_norm(x, dg.tensor(np.ones(4, np.float32)))
    with pytest.raises(ValueError, match="rms_norm: eps must be at least 0, got -1"):
        dg.functional.rms_norm(x, dg.tensor(np.ones(5, np.float32)), eps=-1.0)
