"""Activations and gates against the reference."""

import dragoman as dg
import numpy as np
import pytest
import reference
from gradcheck import check_by_differences, check_op, check_reference, next_mask

KINDS = ["relu", "gelu", "gelu_tanh", "silu", "tanh", "sigmoid"]
SIZES = [(1, 1, 0), (31, 33, 4), (33, 31, 0), (5, 1023, 1), (0, 7, 2)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("rows", "features", "tail"), SIZES)
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


@pytest.mark.parametrize("kind", KINDS)
def test_reference_gradient(rng, kind):
    check_reference(
        lambda x: reference.activation(x, kind),
        lambda dy, x: reference.activation_backward(dy, x, kind),
        [rng.standard_normal((4, 5))],
    )


@pytest.mark.parametrize("kind", KINDS)
def test_over_the_whole_line(kind):
    """Far from 0 neither the value nor the slope overflows; near 0 the relative error stays small."""
    x = np.array([[-1e30, -400, -90, -40, -12, -5, -0.6, -1e-3, -1e-20, 0, 1e-20, 1e-3, 0.6, 5, 12, 40, 400, 1e30]])
    given = dg.tensor(x, requires_grad=True)
    y = getattr(dg.functional, kind)(given)
    y.backward(np.ones(x.shape, np.float32))
    with np.errstate(over="ignore"):
        truth = reference.activation(given.numpy().astype(np.float64), kind)
        slope = reference.activation_backward(1.0, np.clip(x, -600, 600), kind)[0]
    np.testing.assert_allclose(y.numpy(), truth, rtol=1e-5, atol=1e-36 if kind == "tanh" else 1e-6)
    np.testing.assert_allclose(given.grad.numpy(), slope, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["none", *KINDS])
@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize(("rows", "features", "tail"), SIZES)
def test_gate_matches_reference(rng, kind, p, rows, features, tail):
    sequences = dg.Sequences([rows // 3, 0, rows - rows // 3], capacity=rows + tail) if tail else None
    mask = next_mask(rows, features, p)
    check_op(
        lambda a, b: dg.functional.gate(a, b, activation=kind, dropout=p, sequences=sequences),
        lambda a, b: reference.gate(a, b, kind, mask.astype(a.dtype)),
        lambda dy, a, b: reference.gate_backward(dy, a, b, kind, mask.astype(dy.dtype)),
        [3 * rng.standard_normal((rows, features)), rng.standard_normal((rows, features))],
        rows=(0, 1),
        tail=tail,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_in_bfloat16(rng, kind):
    arrays = [rng.standard_normal((3, 19)), rng.standard_normal((3, 19))]
    function = getattr(dg.functional, kind)
    check_by_differences(function, lambda x: reference.activation(x, kind), arrays[:1], "bfloat16")
    check_by_differences(
        lambda a, b: dg.functional.gate(a, b, activation=kind),
        lambda a, b: reference.gate(a, b, kind),
        arrays,
        "bfloat16",
    )


def test_errors_name_the_argument():
    with pytest.raises(TypeError, match="x must be float32 or bfloat16, got int64"):
        dg.functional.relu(dg.tensor(np.ones((2, 2), np.int64)))
    with pytest.raises(ValueError, match=r"sequences must have capacity 2 .*got 3"):
        dg.functional.gelu(dg.tensor(np.ones((2, 2), np.float32)), sequences=dg.Sequences([3]))
    ones = dg.tensor(np.ones((2, 2), np.float32))
    with pytest.raises(ValueError, match=r"gate: b must have shape \(2, 2\), got \(2, 3\)"):
        dg.functional.gate(ones, dg.tensor(np.ones((2, 3), np.float32)))
    with pytest.raises(ValueError, match=r"gate: activation must be one of none, relu, .*, got 'swish'"):
        dg.functional.gate(ones, ones, activation="swish")
