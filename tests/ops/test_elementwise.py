"""Arithmetic of tensors and numbers: NumPy's values and shapes, finite differences, and what is refused."""

import dragoman as dg
import numpy as np
import pytest
from dragoman import _core
from gradcheck import assert_near, check_by_differences

F = dg.functional
DTYPES = ["float32", "bfloat16"]
BINARY = {
    "add": (lambda a, b: a + b),
    "subtract": (lambda a, b: a - b),
    "multiply": (lambda a, b: a * b),
    "divide": (lambda a, b: a / b),
    "maximum": None,
}
SHAPES = [
    ((3, 4), (3, 4)),
    ((33,), (33,)),
    ((2, 3, 5), (2, 3, 5)),
    ((5, 7), (7,)),
    ((5, 7), (1, 7)),
    ((5, 7), (5, 1)),
    ((5, 7), ()),
    ((5, 7), (1, 1)),
    ((2, 3, 17), (17,)),
    ((2, 3, 5), (1,)),
    ((5, 1), (1, 7)),
    ((5, 1), (7,)),
    ((1, 1), (3,)),
    ((9, 1), (1,)),
    ((), ()),
    ((0, 5), (5,)),
    ((4, 0), (4, 1)),
]


def values(rng, *shape):
    """Away from 0, where quotients have no finite differences, and from each other."""
    return rng.uniform(0.5, 2.0, shape) * rng.choice([-1.0, 1.0], shape)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", BINARY)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_binary(rng, kind, shapes, dtype):
    op, truth = getattr(F, kind), BINARY[kind] or np.maximum
    a, b = (values(rng, *shape) for shape in shapes)
    for left, right in ((a, b), (b, a)):
        out = check_by_differences(op, truth, [left, right], dtype)
        assert out.dtype == dtype
        if BINARY[kind]:
            x, y = dg.tensor(left, dtype=dtype), dg.tensor(right, dtype=dtype)
            np.testing.assert_array_equal(truth(x, y).numpy(), op(x, y).numpy())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", BINARY)
def test_numbers_on_either_side(rng, kind, dtype):
    op, truth = getattr(F, kind), BINARY[kind] or np.maximum
    x = values(rng, 5, 19)
    check_by_differences(lambda x: op(x, 0.75), lambda x: truth(x, 0.75), [x], dtype)
    check_by_differences(lambda x: op(-3, x), lambda x: truth(-3, x), [x], dtype)
    if BINARY[kind]:
        for left, right in ((dg.tensor(x), np.float32(1.5)), (2, dg.tensor(x))):
            np.testing.assert_array_equal(truth(left, right).numpy(), op(left, right).numpy())


def test_of_two_dtypes_the_repeated_one_gives_way(rng):
    """A float32 weight on bfloat16 activations: one rounding, and a float32 gradient of the weight."""
    x, weight, column = values(rng, 6, 5), values(rng, 5), values(rng, 6, 1)
    for other in (weight, column):
        for low in (["bfloat16", "float32"], ["float32", "bfloat16"]):
            assert check_by_differences(F.multiply, lambda a, b: a * b, [x, other], low).dtype == low[0]
            assert check_by_differences(F.add, lambda a, b: a + b, [other, x], low[::-1]).dtype == low[0]
    with pytest.raises(TypeError, match="multiply: b must be bfloat16 like a, got float32"):
        dg.tensor(x, dtype="bfloat16") * dg.tensor(x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_of_a_repeated_operand_are_float32(rng, dtype):
    """2,000 rows: bfloat16 sums would stand still at 256."""
    rows, features = 2003, 33
    x = dg.tensor(rng.standard_normal((rows, features)), dtype=dtype)
    weight, column = (dg.tensor(rng.standard_normal(n), requires_grad=True) for n in ((features,), (rows, 1)))
    dy = dg.tensor(rng.uniform(0.5, 1.5, (rows, features)), dtype=dtype)
    (x * weight + column).backward(dy)
    dy, x = dy.numpy().astype(np.float64), x.numpy().astype(np.float64)
    assert_near(weight.grad, (dy * x).sum(0), 1e-6)
    assert_near(column.grad, dy.sum(1, keepdims=True), 1e-6)


def test_equal_operands_of_maximum_share_the_gradient():
    a, b = (dg.tensor([1.0, 2.0, 3.0], requires_grad=True), dg.tensor([1.0, 3.0, 2.0], requires_grad=True))
    a.maximum(b).backward(np.ones(3))
    np.testing.assert_array_equal(a.grad.numpy(), [0.5, 0, 1])
    np.testing.assert_array_equal(b.grad.numpy(), [0.5, 1, 0])
    nan = dg.tensor([np.nan, 1.0])
    assert np.isnan(nan.maximum(0.0).numpy()[0])
    assert np.isnan(F.maximum(0.0, nan).numpy()[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("op", "truth"),
    [(F.exp, np.exp), (F.log, np.log), (F.sqrt, np.sqrt), (lambda x: -x, np.negative)],
    ids=["exp", "log", "sqrt", "negative"],
)
@pytest.mark.parametrize("shape", [(), (33,), (3, 5), (2, 3, 17), (0, 4)], ids=str)
def test_unary(rng, op, truth, shape, dtype):
    check_by_differences(op, truth, [rng.uniform(0.5, 3.0, shape)], dtype)


def test_exp_from_one_end_of_float32_to_the_other():
    x = np.concatenate([np.linspace(-86.9, 88.7, 4001), [0.0]]).astype(np.float32)
    np.testing.assert_allclose(dg.tensor(x).exp().numpy(), np.exp(x.astype(np.float64)), rtol=4e-7)
    ends = dg.tensor([-np.inf, -1e30, -104.0, 88.8, 1e30, np.inf, np.nan]).exp().numpy()
    np.testing.assert_array_equal(ends, [0, 0, 0, np.inf, np.inf, np.inf, np.nan])
    np.testing.assert_array_equal(dg.tensor([0.0, -1.0]).log().numpy(), [-np.inf, np.nan])
    np.testing.assert_array_equal(dg.tensor([0.0, -1.0]).sqrt().numpy(), [0.0, np.nan])


def test_a_layer_and_a_loss_of_operators(rng):
    """What a user writes: a gated layer, an L2 loss, in both dtypes."""
    arrays = [values(rng, 7, 6), values(rng, 6, 5), values(rng, 5), values(rng, 7, 5)]

    def loss(exp, x, weight, bias, target):
        hidden = x @ weight + bias
        error = hidden / (1.0 + exp(-hidden)) - target
        return (error * error).mean(-1, keepdims=True).sum()

    check_by_differences(lambda *x: loss(F.exp, *x), lambda *x: loss(np.exp, *x), arrays)


@pytest.mark.parametrize(
    ("a", "b"), [((3, 4), (3,)), ((3, 4), (4, 3)), ((2, 3, 4), (3, 4)), ((2, 3, 4), (3, 1)), ((2, 3), (0,))], ids=str
)
def test_other_shapes_are_refused(a, b):
    for left, right in ((a, b), (b, a)):
        with pytest.raises(ValueError, match=r"multiply: b must have shape \(.*\) like a, or one of them be a single"):
            dg.tensor(np.ones(left, np.float32)) * dg.tensor(np.ones(right, np.float32))


def test_numpy_arrays_are_no_operands():
    """NumPy would loop over the rows, or drop the tape: either side is refused."""
    x = dg.tensor(np.ones((2, 3), np.float32))
    for op in (lambda a, b: a * b, lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a / b):
        with pytest.raises(TypeError, match="b must be a Tensor or a number, got ndarray"):
            op(x, np.ones((2, 3), np.float32))
        with pytest.raises(TypeError, match="a must be a Tensor or a number, got ndarray"):
            op(np.ones((2, 3), np.float32), x)
    with pytest.raises(TypeError, match="matmul: a must be a Tensor, got ndarray"):
        np.ones((3, 2), np.float32) @ x
    np.testing.assert_array_equal((np.float32(2) * x).numpy(), np.full((2, 3), 2))
    with pytest.raises(TypeError, match="add: a or b must be a Tensor, got two of type int and float"):
        F.add(1, 2.0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_scale_by_a_factor_in_memory(rng, device, dtype):
    x, factor = dg.tensor(rng.standard_normal(37), dtype=dtype), dg.tensor(np.array(-1.5, np.float32))
    expected = (x * -1.5).data.numpy()
    y = x.data.clone()
    _core.scale_by(y, factor.data)
    np.testing.assert_array_equal(y.numpy(), expected)
    with pytest.raises(ValueError, match=r"scale_by: factor must have one element, got shape \(2,\)"):
        _core.scale_by(y, dg.tensor(np.zeros(2)).data)
    with pytest.raises(TypeError, match="scale_by: factor must be float32, got int32"):
        _core.scale_by(y, _core.Tensor.zeros([1], "int32", device))
