"""The tape: accumulation, freed memory, errors."""

import gc

import dragoman as dg
import numpy as np
import pytest
from dragoman.tensor import Function, add_grad, edge, is_unit_gradient, watched
from gradcheck import backward


def leaf(rng, *shape):
    return dg.tensor(rng.standard_normal(shape).astype(np.float32), requires_grad=True)


def scalar(out):
    """The sum of the elements, as a tensor on the tape."""
    ones = dg.tensor(np.ones((1, out.size), np.float32))
    return dg.functional.linear(out.reshape(1, -1), ones).reshape()


@pytest.mark.parametrize("place", [0, 1])
def test_backward_runs_functions_from_the_last_call_to_the_first(rng, place):
    """Whatever the places of their results among the arguments of another function are."""
    x, seen = leaf(rng, 3, 4), []

    class Watcher:
        def started(self, order):
            seen.extend(order)

        def left(self, functions):
            assert all(function.freed for function in seen[functions:])
            assert not any(function.freed for function in seen[:functions])

    first = x.exp()
    second = first.exp()
    third = x.exp()
    parts = (second, third) if place else (third, second)
    with watched(Watcher()):
        scalar(dg.functional.residual(*parts)).backward()
    assert seen[:3] == [first.function, second.function, third.function]


def test_a_second_backward_adds(rng):
    """For a parameter (the kernel adds in place), an activation (the tape adds) and a tied weight (both)."""
    x, weight, bias = leaf(rng, 7, 5), leaf(rng, 5, 5), leaf(rng, 5)
    leaves = (x, weight, bias)

    def loss():
        hidden = dg.functional.linear(x, weight, bias, activation="gelu")
        return scalar(dg.functional.residual(dg.functional.linear(hidden, weight), x))

    loss().backward()
    once = [tensor.grad.numpy().copy() for tensor in leaves]
    loss().backward()
    for tensor, grad in zip(leaves, once, strict=True):
        np.testing.assert_allclose(tensor.grad.numpy(), 2 * grad, rtol=1e-6, atol=1e-6)
    for tensor in leaves:
        tensor.grad = None
    loss().backward()
    for tensor, grad in zip(leaves, once, strict=True):
        np.testing.assert_array_equal(tensor.grad.numpy(), grad)


def test_gradients_of_a_tensor_used_many_times_add_up(rng):
    x = leaf(rng, 3, 4)
    backward(x + x * 2.0 + (x + x), np.full((3, 4), 0.5))
    np.testing.assert_array_equal(x.grad.numpy(), np.full((3, 4), 2.5))


def test_gradients_that_start_as_one_array_do_not_stay_one(rng):
    """Without dropout, residual may give one array to both inputs. Adding to one gradient must not change the other."""
    x, residual = leaf(rng, 3, 4), leaf(rng, 3, 4)
    backward(dg.functional.residual(x, residual), np.ones((3, 4)))
    backward(x * 3.0, np.ones((3, 4)))
    np.testing.assert_array_equal(x.grad.numpy(), np.full((3, 4), 4))
    np.testing.assert_array_equal(residual.grad.numpy(), np.ones((3, 4)))


def test_only_what_requires_a_gradient_gets_one(rng):
    x, weight = leaf(rng, 3, 4), dg.tensor(np.ones((2, 4), np.float32))
    out = dg.functional.linear(x, weight)
    assert out.requires_grad
    backward(out, np.ones((3, 2)))
    assert weight.grad is None
    assert x.grad.shape == (3, 4)
    assert not dg.functional.relu(x.detach()).requires_grad


def test_backward_twice_is_refused(rng):
    loss = scalar(leaf(rng, 2, 2))
    loss.backward()
    with pytest.raises(RuntimeError, match="freed by an earlier backward"):
        loss.backward()


def test_backward_through_a_freed_part_is_refused_and_leaves_gradients_alone(rng):
    x, y = leaf(rng, 2, 2), leaf(rng, 2, 2)
    shared = dg.functional.relu(x)
    scalar(shared).backward()
    before = x.grad.numpy().copy()
    with pytest.raises(RuntimeError, match="freed by an earlier backward"):
        scalar(shared + y).backward()
    np.testing.assert_array_equal(x.grad.numpy(), before)
    assert y.grad is None


def test_backward_from_any_gradient(rng):
    """Of a product, given as a Tensor, as an array, and twice; the caller may change dy afterwards."""
    x, weight = leaf(rng, 3, 4), leaf(rng, 2, 4)
    dy = rng.standard_normal((3, 2)).astype(np.float32)
    for given in (dy, dg.tensor(dy), dy.tolist()):
        x.grad = None
        dg.functional.linear(x, weight).backward(given)
        np.testing.assert_allclose(x.grad.numpy(), dy @ weight.numpy(), rtol=1e-6, atol=1e-6)
    kept = dg.tensor(dy.copy())
    out = leaf(rng, 3, 2)
    out.backward(kept)
    kept.copy_(np.zeros_like(dy))
    (out + out).backward(dy)
    np.testing.assert_allclose(out.grad.numpy(), 3 * dy, rtol=1e-6)


def test_backward_of_bfloat16_takes_its_dtype(rng):
    x = leaf(rng, 3, 4)
    low = dg.functional.cast(x, "bfloat16")
    with pytest.raises(TypeError, match="backward: dy must be bfloat16 like the tensor, got float32"):
        low.backward(dg.tensor(np.ones((3, 4), np.float32)))
    low.backward(np.full((3, 4), 1.5))
    np.testing.assert_array_equal(x.grad.numpy(), np.full((3, 4), 1.5))


def test_only_a_scalar_begins_from_one(rng):
    out = dg.functional.relu(leaf(rng, 2, 2))
    with pytest.raises(ValueError, match=r"backward: dy must be a Tensor of shape \(2, 2\); only a scalar needs none"):
        out.backward()
    with pytest.raises(ValueError, match=r"backward: dy must have shape \(2, 2\), got \(2,\)"):
        out.backward(np.ones(2))
    with pytest.raises(TypeError, match="backward: dy must hold numbers"):
        out.backward(np.full((2, 2), None))


def test_the_gradient_of_a_loss_is_one_known_constant(rng):
    """A loss that is the last op need not read its upstream gradient; one that is scaled must."""
    seen = []

    class Spy(Function):
        def forward(self, x):
            self.saved = (edge(x),)
            return x.data.clone()

        def backward(self, dy):
            seen.append(is_unit_gradient(dy))
            add_grad(*self.saved, dy)

    x = leaf(rng)
    Spy()(x).backward()
    (Spy()(x) * 2.0).backward()
    Spy()(x).backward(1.0)
    assert seen == [True, False, False]
    assert x.grad.item() == 4.0


def test_no_grad(rng):
    x = leaf(rng, 2, 2)
    with dg.no_grad():
        assert not dg.is_grad_enabled()
        with dg.no_grad():
            loss = scalar(x)
        assert not dg.is_grad_enabled()
    assert dg.is_grad_enabled()
    assert not loss.requires_grad
    with pytest.raises(RuntimeError, match="requires no gradient"):
        loss.backward()
    with pytest.raises(ZeroDivisionError), dg.no_grad():
        _ = 1 / 0
    assert dg.is_grad_enabled()


def test_linear_cross_entropy_under_no_grad_keeps_nothing(rng):
    x, weight = leaf(rng, 4, 3), leaf(rng, 9, 3)
    ids = np.arange(4)
    with dg.no_grad():
        value = dg.functional.linear_cross_entropy(x, weight, ids)
    np.testing.assert_array_equal(value.numpy(), dg.functional.linear_cross_entropy(x, weight, ids).numpy())
    assert not value.requires_grad


def test_backward_frees_the_tape(rng):
    """After backward only leaves, gradients and the loss hold memory, even while the output is alive."""
    x, weight = leaf(rng, 64, 64), leaf(rng, 64, 64)
    gc.collect()
    before = dg.memory_stats()["allocated"]
    hidden = x
    for _ in range(10):
        hidden = dg.functional.linear(hidden, weight, activation="gelu")
    loss = scalar(hidden)
    del hidden
    loss.backward()
    gc.collect()
    assert dg.memory_stats()["allocated"] - before <= 3 * 64 * 64 * 4


def test_a_long_tape_does_not_overflow_the_stack(rng):
    x = leaf(rng, 1, 1)
    out = x
    for _ in range(5000):
        out = out * 1.0
    out.reshape().backward()
    assert x.grad.numpy() == 1
    del out


def test_a_long_tape_without_backward_goes_quietly(rng):
    """Deleting a graph of many thousand nodes must not recurse once for each node."""
    out = leaf(rng, 1, 1)
    for _ in range(100_000):
        out = out * 1.0
    del out


def test_what_is_no_op_says_so(rng):
    x, y = leaf(rng, 2, 3), leaf(rng, 2, 3)
    for compare in (lambda: x < y, lambda: x >= 0, lambda: x == y, lambda: x != 1.0, lambda: x == np.ones((2, 3))):
        with pytest.raises(TypeError, match="compare: Tensors are not compared"):
            compare()
    for truth in (lambda: bool(x), lambda: not x, lambda: x and y):
        with pytest.raises(TypeError, match="bool: a Tensor is neither true nor false"):
            truth()
    with pytest.raises(TypeError, match="iter: a Tensor is not iterated over"):
        list(x)
    with pytest.raises(ValueError, match=r"item: the tensor must have one element, got shape \(2, 3\)"):
        float(x)
    assert float(x.sum()) == x.sum().item()


def test_tensors_are_told_apart_by_identity(rng):
    x, y = leaf(rng, 2), leaf(rng, 2)
    assert x == x
    assert x != "x"
    assert x != None  # noqa: E711
    assert {x: 1, y: 2}[y] == 2
    assert x in {x} and y not in {x}
    assert [y, x].index(y) == 0


def test_numpy_sees_the_values_of_the_tape(rng):
    x = leaf(rng, 2, 3)
    np.testing.assert_array_equal(np.asarray(x * 2.0), 2 * x.numpy())
    np.testing.assert_array_equal(np.exp(x), np.exp(x.numpy()))


def test_a_leaf_gets_a_gradient_of_its_own():
    """Both sides of a sum once held the same memory: writing one gradient changed the other."""
    for shape in ((3,), ()):
        a, b = (dg.tensor(np.ones(shape, np.float32), requires_grad=True) for _ in range(2))
        (a + b).backward(np.ones(shape, np.float32))
        a.grad.copy_(np.full(shape, 7.0))
        np.testing.assert_array_equal(b.grad, np.ones(shape))
    x = dg.tensor(np.float32(2), requires_grad=True)
    (x + x).backward()
    x.grad.copy_(9.0)
    y = dg.tensor(np.float32(2), requires_grad=True)
    (y * 1.0).backward()
    assert y.grad.item() == 1
