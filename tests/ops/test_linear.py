"""linear and feed_forward against the reference."""

import dragoman as dg
import ml_dtypes
import numpy as np
import pytest
import reference
from dragoman import _core
from gradcheck import backward, check_op, check_reference, next_mask, poison_cache, with_tail

SIZES = [
    (1, 1, 1),
    (31, 33, 1),
    (33, 31, 65),
    (7, 1023, 33),
    (1023, 33, 31),
    (64, 128, 96),
    (75, 96, 300),
    (130, 257, 100),
]


def grid(rng, *shape):
    """Multiples of 1/8: sums of their products are exact in float32, so no rounding changes the sign before ReLU."""
    return rng.integers(-16, 17, shape) / 8


@pytest.mark.parametrize(("tail", "p"), [(0, 0.0), (5, 0.0), (5, 0.3)])
@pytest.mark.parametrize("kind", ["none", "relu", "gelu", "silu"])
@pytest.mark.parametrize(("rows", "in_features", "out_features"), SIZES)
def test_matches_reference(rng, rows, in_features, out_features, kind, tail, p):
    make = grid if kind == "relu" else (lambda rng, *shape: rng.standard_normal(shape))
    bias = make(rng, out_features) if rows != 31 else None
    inputs = [make(rng, rows, in_features), make(rng, out_features, in_features), bias]
    sequences = dg.Sequences([rows], capacity=rows + tail) if tail else None
    mask = next_mask(rows, out_features, p)
    check_op(
        lambda *args: dg.functional.linear(*args, activation=kind, dropout=p, sequences=sequences),
        lambda x, *args: reference.linear(x, *args, kind, mask.astype(x.dtype)),
        lambda dy, *args: reference.linear_backward(dy, *args, kind, mask.astype(dy.dtype)),
        inputs,
        tail=tail,
    )


@pytest.mark.parametrize(("tail", "p"), [(0, 0.0), (5, 0.0), (5, 0.3)])
@pytest.mark.parametrize("kind", ["none", "relu", "gelu", "silu"])
@pytest.mark.parametrize(("rows", "in_features", "out_features"), [*SIZES, (12, 2050, 45), (3, 0, 7)])
def test_bfloat16_matches_reference(rng, device, rows, in_features, out_features, kind, tail, p):
    """Sums are float32 and rounded once, and again after dropout. Gradients of parameters are float32.

    CUDA rounds the bias, and what GELU and its like are computed from.
    """
    cuda = device == "cuda"

    def rounded(x):
        return np.asarray(x, np.float32).astype(ml_dtypes.bfloat16).astype(np.float32)

    def core(x):
        return dg.tensor(with_tail(x, tail), dtype="bfloat16").data

    make = grid if kind == "relu" else (lambda rng, *shape: rng.standard_normal(shape))
    x, weight, dy = (
        rounded(make(rng, *shape)) for shape in [(rows, in_features), (out_features, in_features), (rows, out_features)]
    )
    bias = make(rng, out_features).astype(np.float32)
    dweight, dbias = rng.standard_normal(weight.shape).astype(np.float32), make(rng, out_features).astype(np.float32)

    def plain(dtype, rounded):
        pre = (x.astype(dtype) @ weight.T.astype(dtype)) + (rounded(bias) if cuda else bias)
        pre = rounded(pre) if cuda and kind in ("gelu", "silu") else pre
        factor = mask.astype(dtype)
        y = rounded(rounded(reference.activation(pre, kind)) * factor)
        saved = y if kind == "relu" else rounded(pre)
        (dpre,) = reference.activation_backward(dy * factor, saved, kind)
        dpre = rounded(dpre)
        return y, rounded(dpre @ weight), dweight + dpre.T @ x, dbias + dpre.sum(0)

    dropout = dg.random.next_dropout(p)
    mask = reference.dropout_mask(rows, out_features, p, dropout.seed, dropout.step, dropout.id)
    sequences = dg.Sequences([rows], capacity=rows + tail) if tail else None
    weight_data = dg.tensor(weight, dtype="bfloat16").data
    poison_cache()
    y, pre = _core.linear_forward(core(x), weight_data, dg.tensor(bias).data, kind, dropout, sequences)
    saved = y if kind == "relu" else pre
    sums = dg.tensor(dweight.copy()), dg.tensor(dbias.copy())
    poison_cache()
    dx = _core.linear_backward(
        core(dy), core(x), weight_data, saved, kind, dropout, True, sums[0].data, True, sums[1].data, True, sequences
    )
    actual = [dg.Tensor(y), dg.Tensor(dx), *sums]
    assert [tensor.dtype for tensor in actual] == ["bfloat16", "bfloat16", "float32", "float32"]
    for tensor, truth, expected in zip(actual, plain(np.float64, lambda x: x), plain(np.float32, rounded), strict=True):
        array = tensor.numpy().astype(np.float64)
        reference.assert_close(array[: len(truth)], truth, expected)
        assert not array[len(truth) :].any(), "the tail must be zeros"


@pytest.mark.parametrize("kind", ["none", "relu", "gelu", "silu"])
def test_reference_gradient(rng, kind):
    inputs = [rng.standard_normal(shape) for shape in [(3, 4), (5, 4), (5,)]]
    mask = rng.integers(0, 2, (3, 5)) * 1.5
    check_reference(
        lambda *args: reference.linear(*args, kind, mask),
        lambda dy, *args: reference.linear_backward(dy, *args, kind, mask),
        inputs,
    )


@pytest.mark.parametrize("tail", [0, 3])
def test_no_rows(tail):
    weight = dg.tensor(np.ones((4, 3), np.float32), requires_grad=True)
    x = dg.tensor(np.full((tail, 3), np.nan, np.float32))
    out = dg.functional.linear(x, weight, sequences=dg.Sequences([0, 0], capacity=tail))
    assert out.shape == (tail, 4)
    assert not out.numpy().any()
    if tail:
        backward(out, np.ones((tail, 4)))
        assert not weight.grad.numpy().any()


@pytest.mark.parametrize("kind", ["relu", "gelu"])
def test_feed_forward_is_two_linears_around_a_dropout(rng, kind):
    arrays = [rng.standard_normal(shape) for shape in [(17, 12), (40, 12), (40,), (12, 40), (12,)]]
    mask = next_mask(17, 40, 0.3)

    def forward(x, weight1, bias1, weight2, bias2):
        return reference.linear(reference.linear(x, weight1, bias1, kind, mask.astype(x.dtype)), weight2, bias2)

    def backward_(dy, x, weight1, bias1, weight2, bias2):
        factor = mask.astype(x.dtype)
        hidden = reference.linear(x, weight1, bias1, kind, factor)
        dhidden, dweight2, dbias2 = reference.linear_backward(dy, hidden, weight2, bias2)
        return *reference.linear_backward(dhidden, x, weight1, bias1, kind, factor), dweight2, dbias2

    check_op(
        lambda *args: dg.functional.feed_forward(
            *args, activation=kind, dropout=0.3, sequences=dg.Sequences([10, 7], capacity=20)
        ),
        forward,
        backward_,
        arrays,
        tail=3,
    )


@pytest.mark.parametrize(("p", "drawn"), [(0.0, 0), (0.3, 1)])
def test_a_call_draws_one_mask_if_any(p, drawn):
    x, weight = dg.tensor(np.ones((3, 4), np.float32)), dg.tensor(np.ones((4, 4), np.float32))
    first = dg.random.get_state()["next_id"]
    dg.functional.linear(x, weight, dropout=p)
    assert dg.random.get_state()["next_id"] == first + drawn
    dg.functional.feed_forward(x, weight, None, weight, None, dropout=p)
    assert dg.random.get_state()["next_id"] == first + 2 * drawn


def test_a_mask_beyond_the_counter_is_refused():
    x = dg.tensor(np.empty((2**18, 0), np.float32))
    with pytest.raises(
        ValueError, match=r"linear: with dropout rows \* features must be at most 2\^35, got 262144 \* 262144"
    ):
        dg.functional.linear(x, x, dropout=0.1)


@pytest.mark.parametrize(
    ("shapes", "activation", "message"),
    [
        (((2, 3), (4, 5), None), "none", r"linear: weight .*\(4, 5\)"),
        (((2, 3), (4, 3), (3,)), "none", r"linear: bias must have shape \(4,\), got \(3,\)"),
        (((2, 3), (4,), None), "none", r"linear: weight .*\(4,\)"),
        (((2, 3), (4, 3), None), "swish", r"linear: activation .*swish"),
    ],
)
def test_errors_name_the_argument(shapes, activation, message):
    x, weight, bias = (None if shape is None else dg.tensor(np.ones(shape, np.float32)) for shape in shapes)
    with pytest.raises(ValueError, match=message):
        dg.functional.linear(x, weight, bias, activation=activation)


def test_dtype_error():
    with pytest.raises(TypeError, match="linear: x must be float32 or bfloat16, got int32"):
        dg.functional.linear(dg.tensor(np.ones((2, 3), np.int32)), dg.tensor(np.ones((4, 3), np.float32)))
