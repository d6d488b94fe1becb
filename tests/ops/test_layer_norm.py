"""layer_norm against the reference."""

import dragoman as dg
import numpy as np
import pytest
import reference
from gradcheck import check_op, check_reference


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(
    ("rows", "features", "tail"),
    [(1, 1, 0), (31, 33, 4), (33, 31, 0), (1023, 17, 2), (5, 1023, 1), (0, 7, 2)],
)
def test_matches_reference(rng, rows, features, tail, with_bias):
    sequences = dg.Sequences([rows // 3, 0, rows - rows // 3], capacity=rows + tail) if tail else None
    eps = 1.0 if features == 1 else 1e-5  # one feature has variance 0, and 1 / sqrt(eps) multiplies the roundings
    bias = rng.standard_normal(features) if with_bias else None
    check_op(
        lambda *args: dg.functional.layer_norm(*args, eps=eps, sequences=sequences),
        lambda *args: reference.layer_norm(*args, eps),
        lambda dy, *args: reference.layer_norm_backward(dy, *args, eps),
        [2 * rng.standard_normal((rows, features)) + 0.5, 1 + 0.1 * rng.standard_normal(features), bias],
        tail=tail,
    )


def test_reference_gradient(rng):
    inputs = [rng.standard_normal(shape) for shape in [(3, 7), (7,), (7,)]]
    check_reference(reference.layer_norm, reference.layer_norm_backward, inputs)


def test_variance_survives_a_large_mean(rng):
    """With a mean of 10,000 standard deviations E[x^2] - E[x]^2 has no correct digit; two passes have."""
    x = (1e4 + rng.standard_normal((33, 512))).astype(np.float32)
    y = dg.functional.layer_norm(dg.tensor(x), dg.tensor(np.ones(512, np.float32)))
    truth = reference.layer_norm(x.astype(np.float64), np.ones(512))
    assert np.abs(y.numpy() - truth).max() < 2e-3


def test_eps_and_constant_rows():
    """A constant row has variance 0: the result is the bias, because eps is inside the root."""
    one = np.ones(4, np.float32)
    constant = dg.functional.layer_norm(dg.tensor(np.full((2, 4), 3, np.float32)), dg.tensor(one), dg.tensor(5 * one))
    np.testing.assert_array_equal(constant.numpy(), np.full((2, 4), 5))
    y = dg.functional.layer_norm(dg.tensor(np.array([[-1, 1, -1, 1]], np.float32)), dg.tensor(one), eps=3.0)
    np.testing.assert_allclose(y.numpy(), [[-0.5, 0.5, -0.5, 0.5]], rtol=1e-6)


@pytest.mark.parametrize(
    ("weight", "bias", "message"),
    [
        (256, None, r"layer_norm: weight must have shape \(512,\), got \(256,\)"),
        (512, 3, r"layer_norm: bias must have shape \(512,\), got \(3,\)"),
    ],
)
def test_errors_name_the_argument(weight, bias, message):
    with pytest.raises(ValueError, match=message):
        dg.functional.layer_norm(
            dg.tensor(np.ones((2, 512), np.float32)),
            dg.tensor(np.ones(weight, np.float32)),
            None if bias is None else dg.tensor(np.ones(bias, np.float32)),
        )


def test_sequences_must_cover_the_rows():
    x, weight = dg.tensor(np.ones((4, 8), np.float32)), dg.tensor(np.ones(8, np.float32))
    with pytest.raises(ValueError, match=r"layer_norm: sequences must have capacity 4 .*got 5"):
        dg.functional.layer_norm(x, weight, sequences=dg.Sequences([3], capacity=5))
