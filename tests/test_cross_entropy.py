"""cross_entropy and linear_cross_entropy against the reference."""

import dragoman as dg
import numpy as np
import pytest
import reference
from gradcheck import check_reference, poison_cache, with_tail

CASES = [(1, 1, 0, 0.0), (31, 33, 4, 0.1), (33, 1023, 0, 0.0), (700, 31, 3, 0.1), (300, 517, 1, 0.3)]


def make_ids(rng, rows, vocabulary):
    ids = rng.integers(0, vocabulary, rows).astype(np.int32)
    ids[1::5] = -1
    return ids


def check(op, forward, backward, inputs, tail, num_targets):
    """As check_op, for a scalar output and an upstream gradient that is not 1."""
    double = [None if x is None else x.astype(np.float64) for x in inputs]
    tensors = [
        None if x is None else dg.tensor(with_tail(x, tail if i == 0 else 0), requires_grad=True)
        for i, x in enumerate(inputs)
    ]
    poison_cache()
    loss = op(*tensors)
    assert loss.shape == ()
    reference.assert_close(loss.numpy(), forward(*double), forward(*inputs))
    poison_cache()
    (loss * 3.0).backward()
    truth, plain = backward(3.0, *double), backward(np.float32(3), *inputs)
    for i, tensor in enumerate(tensors):
        if tensor is not None:
            gradient = tensor.grad.numpy()
            reference.assert_close(gradient[: len(inputs[i])], truth[i], plain[i])
            assert not gradient[len(inputs[i]) :].any()


@pytest.mark.parametrize("num_targets", [None, 1000])
@pytest.mark.parametrize(("rows", "vocabulary", "tail", "smoothing"), CASES)
def test_cross_entropy_matches_reference(rng, rows, vocabulary, tail, smoothing, num_targets):
    ids = make_ids(rng, rows, vocabulary)
    sequences = dg.Sequences([rows], capacity=rows + tail) if tail else None
    check(
        lambda logits: dg.functional.cross_entropy(
            logits,
            with_tail(ids, tail),
            label_smoothing=smoothing,
            num_targets=num_targets,
            sequences=sequences,
        ),
        lambda logits: reference.cross_entropy(logits, ids, smoothing, num_targets),
        lambda dloss, logits: reference.cross_entropy_backward(dloss, logits, ids, smoothing, num_targets),
        [(4 * rng.standard_normal((rows, vocabulary))).astype(np.float32)],
        tail,
        num_targets,
    )


@pytest.mark.parametrize("num_targets", [None, 1000])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("rows", "vocabulary", "tail", "smoothing"), CASES)
def test_linear_cross_entropy_matches_reference(rng, rows, vocabulary, tail, smoothing, with_bias, num_targets):
    ids = make_ids(rng, rows, vocabulary)
    sequences = dg.Sequences([rows], capacity=rows + tail) if tail else None

    def backward(dloss, x, weight, bias):
        (dlogits,) = reference.cross_entropy_backward(
            dloss, reference.linear(x, weight, bias), ids, smoothing, num_targets
        )
        return reference.linear_backward(dlogits, x, weight, bias)

    shapes = [(rows, 33), (vocabulary, 33), (vocabulary,) if with_bias else None]
    check(
        lambda x, weight, bias: dg.functional.linear_cross_entropy(
            x,
            weight,
            with_tail(ids, tail),
            bias=bias,
            label_smoothing=smoothing,
            num_targets=num_targets,
            sequences=sequences,
        ),
        lambda *args: reference.cross_entropy(reference.linear(*args), ids, smoothing, num_targets),
        backward,
        [None if shape is None else rng.standard_normal(shape).astype(np.float32) for shape in shapes],
        tail,
        num_targets,
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_reference_gradient(rng, smoothing):
    ids = np.array([2, -1, 0])
    check_reference(
        lambda logits: reference.cross_entropy(logits, ids, smoothing),
        lambda dy, logits: reference.cross_entropy_backward(dy, logits, ids, smoothing),
        [rng.standard_normal((3, 5))],
    )


def test_large_logits_do_not_overflow():
    logits = dg.tensor(np.array([[1e4, -1e4, 0], [-3e38, 3e38, 0]], np.float32))
    assert dg.functional.cross_entropy(logits, np.array([0, 1])).item() == 0


def test_no_targets_gives_zero_loss_and_gradient(rng):
    logits = dg.tensor(rng.standard_normal((3, 5)).astype(np.float32), requires_grad=True)
    loss = dg.functional.cross_entropy(logits, np.full(3, -1))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.numpy().any()


@pytest.mark.parametrize(
    ("ids", "options", "error", "message"),
    [
        ([0, 5], {}, ValueError, r"cross_entropy: ids .*5.*got 5"),
        ([0, -2], {}, ValueError, r"cross_entropy: ids .*got -2"),
        ([0, 1, 2], {}, ValueError, r"cross_entropy: ids must have shape \(2,\), got \(3,\)"),
        ([0.0, 1.0], {}, TypeError, r"cross_entropy: ids must be"),
        ([0, 1], {"label_smoothing": 1.5}, ValueError, r"cross_entropy: label_smoothing must .*got 1.5"),
        ([0, 1], {"num_targets": 0}, ValueError, r"cross_entropy: num_targets must .*got 0"),
    ],
)
def test_errors_name_the_argument(ids, options, error, message):
    x, weight = dg.tensor(np.ones((2, 5), np.float32)), dg.tensor(np.eye(5, dtype=np.float32))
    with pytest.raises(error, match=message):
        dg.functional.cross_entropy(x, np.array(ids), **options)
    with pytest.raises(error, match=message):
        dg.functional.linear_cross_entropy(x, weight, np.array(ids), **options)
