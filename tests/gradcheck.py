"""Compares the gradients of ops with the reference, and the reference with finite differences."""

import dragoman as dg
import numpy as np
import reference
from dragoman import _core


def numerical_gradient(function, array, step=1e-6):
    """Central differences of a scalar function of one float64 array. Restores the array."""
    gradient = np.zeros_like(array)
    for index in np.ndindex(array.shape):
        value = array[index]
        array[index] = value + step
        above = function()
        array[index] = value - step
        below = function()
        array[index] = value
        gradient[index] = (above - below) / (2 * step)
    return gradient


def check_reference(forward, backward, inputs):
    """What `backward(dy, *inputs)` returns equals the finite differences of sum(dy * forward(*inputs))."""
    inputs = [None if x is None else np.array(x, np.float64) for x in inputs]
    dy = np.random.default_rng(1).standard_normal(np.shape(forward(*inputs)))
    for array, gradient in zip(inputs, backward(dy, *inputs), strict=True):
        if array is not None:
            expected = numerical_gradient(lambda: float((dy * forward(*inputs)).sum()), array)
            np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7)


def backward(out, upstream):
    """Runs the tape from any upstream gradient."""
    out.backward(np.asarray(upstream))


def poison_cache():
    """Fills the free blocks of the caching allocator with NaN, so that a test sees output that no kernel wrote."""
    kept, device = [], dg.tensor(0.0).device
    for exponent in range(8, 19):
        for quarters in (5, 6, 7, 8):
            block = _core.Tensor.empty([(quarters << exponent) // 16], "float32", device)
            block.copy_(np.full(block.shape, np.nan, np.float32))
            kept += [block]


def with_tail(array, tail):
    """The array with `tail` more rows of NaN, or of ids that no table has."""
    filler = np.nan if array.dtype.kind == "f" else 2**31 - 1
    return np.concatenate([array, np.full((tail, *array.shape[1:]), filler, array.dtype)])


def check_by_differences(op, truth, arrays, dtype="float32"):
    """op(*tensors) equals truth(*float64 arrays), and its gradients the finite differences of the truth.

    The tensors hold the arrays in `dtype`, one of all or one for each. Returns the output.
    """
    leaves = [dg.tensor(np.asarray(array, np.float32), requires_grad=True) for array in arrays]
    dtypes = [dtype] * len(arrays) if isinstance(dtype, str) else dtype
    inputs = [x if kind == "float32" else dg.functional.cast(x, kind) for x, kind in zip(leaves, dtypes, strict=True)]
    values = [x.numpy().astype(np.float64) for x in inputs]
    poison_cache()
    out = op(*inputs)
    dy = dg.tensor(np.random.default_rng(2).standard_normal(out.shape), dtype=out.dtype)
    double = dy.numpy().astype(np.float64)
    bar = 2e-6 if set(dtypes) == {"float32"} else 2.0**-7
    assert_near(out, truth(*values), bar)
    poison_cache()
    out.backward(dy)
    for leaf, array in zip(leaves, values, strict=True):
        expected = numerical_gradient(lambda: float((double * truth(*values)).sum()), array)
        assert_near(leaf.grad, expected, max(bar, 5e-6))
    return out


def assert_near(tensor, truth, bar):
    """The largest error is at most `bar` of the largest value."""
    truth = np.asarray(truth, np.float64)
    assert tensor.shape == truth.shape
    error = np.abs(tensor.numpy().astype(np.float64) - truth).max(initial=0)
    assert error <= bar * max(1.0, np.abs(truth).max(initial=0)), error


def check_op(op, forward, backward_, inputs, *, rows=(0,), tail=0, seed=0):
    """Compares op(*tensors) and all its gradients with the reference.

    inputs: float arrays, None for an absent one; `rows` says which of them have a row per token. Those and
    the upstream gradient get `tail` NaN rows: output and gradients must be zeros there; the other gradients
    must not notice.
    """
    inputs = [None if x is None else np.asarray(x, np.float32) for x in inputs]
    double = [None if x is None else x.astype(np.float64) for x in inputs]
    tensors = [
        None if x is None else dg.tensor(with_tail(x, tail if i in rows else 0), requires_grad=True)
        for i, x in enumerate(inputs)
    ]
    poison_cache()
    out = op(*tensors)
    truth = forward(*double)
    used = len(truth)
    assert out.shape == (used + tail, *truth.shape[1:])
    reference.assert_close(out.numpy()[:used], truth, forward(*inputs))
    assert not np.asarray(out)[used:].any(), "the tail of the output must be zeros"

    dy = np.random.default_rng(seed).standard_normal(truth.shape).astype(np.float32)
    poison_cache()
    backward(out, with_tail(dy, tail))
    gradients = backward_(dy.astype(np.float64), *double)
    plain = backward_(dy, *inputs)
    for i, tensor in enumerate(tensors):
        if tensor is not None:
            gradient = tensor.grad.numpy()
            reference.assert_close(gradient[: len(inputs[i])], gradients[i], plain[i])
            assert not gradient[len(inputs[i]) :].any(), f"the tail of gradient {i} must be zeros"


def next_mask(rows, features, p):
    """The mask of the next dropout call. Restores the random state."""
    state = dg.random.get_state()
    dropout = dg.random.next_dropout(p)
    dg.random.set_state(state)
    return reference.dropout_mask(rows, features, p, dropout.seed, dropout.step, dropout.id)
