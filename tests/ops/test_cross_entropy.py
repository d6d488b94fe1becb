"""cross_entropy and linear_cross_entropy against the reference."""

import dragoman as dg
import ml_dtypes
import numpy as np
import pytest
import reference
from dragoman import _core
from gradcheck import check_reference, poison_cache, with_tail

# rows, vocabulary, rows not in use, smoothing
CASES = [
    (0, 5, 2, 0.1),
    (1, 1, 0, 0.0),
    (257, 2, 3, 0.1),
    (31, 33, 4, 0.1),
    (33, 1025, 0, 0.0),
    (300, 517, 1, 0.3),
    (3, 32001, 2, 0.1),
    pytest.param(66, 32000, 1, 0.1, marks=pytest.mark.cpu),  # a gradient that goes past the caches
]
DTYPES = ["float32", "bfloat16"]


def make_ids(rng, rows, vocabulary):
    ids = rng.integers(0, vocabulary, rows).astype(np.int32)
    ids[1::5] = -1
    return ids


def rounded(x, dtype):
    return x if dtype == "float32" else np.asarray(x, np.float32).astype(ml_dtypes.bfloat16).astype(np.float32)


def leaf(array, dtype="float32"):
    tensor = dg.tensor(array, dtype=dtype)
    tensor.requires_grad = True
    return tensor


def check(op, forward, backward, inputs, tail, dtype, terms=None):
    """Like check_op, for a scalar output and an upstream gradient that is not 1. A bias is always float32.

    `terms` gives for each gradient the sum of its terms' magnitudes, where they may cancel.
    """
    inputs = [x if x is None or x.ndim == 1 else rounded(x, dtype) for x in inputs]
    double = [None if x is None else x.astype(np.float64) for x in inputs]
    tensors = [
        None if x is None else leaf(with_tail(x, tail if i == 0 else 0), dtype if x.ndim > 1 else "float32")
        for i, x in enumerate(inputs)
    ]
    poison_cache()
    loss = op(*tensors)
    assert (loss.shape, loss.dtype) == ((), "float32")
    reference.assert_close(loss.numpy(), forward(*double, "float32"), forward(*inputs, dtype))
    poison_cache()
    (loss * 4.0).backward()
    truth, plain = backward(4.0, *double, "float32"), backward(np.float32(4), *inputs, dtype)
    for i, tensor in enumerate(tensors):
        if tensor is not None:
            assert tensor.grad.dtype == (dtype if i == 0 else "float32")
            gradient = tensor.grad.numpy().astype(np.float64)
            magnitude = 0.0 if terms is None else terms(4.0, *double)[i].max(initial=0.0)
            reference.assert_close(gradient[: len(inputs[i])], truth[i], plain[i], magnitude)
            assert not gradient[len(inputs[i]) :].any()


@pytest.mark.parametrize("num_targets", [None, 1000])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "vocabulary", "tail", "smoothing"), CASES)
def test_cross_entropy_matches_reference(rng, rows, vocabulary, tail, smoothing, dtype, num_targets):
    ids = make_ids(rng, rows, vocabulary)
    sequences = dg.Sequences([rows], capacity=rows + tail) if tail else None

    def backward(dloss, logits, dtype):
        (dlogits,) = reference.cross_entropy_backward(dloss, logits, ids, smoothing, num_targets)
        return (rounded(dlogits, dtype),)

    check(
        lambda logits: dg.functional.cross_entropy(
            logits,
            with_tail(ids, tail),
            label_smoothing=smoothing,
            num_targets=num_targets,
            sequences=sequences,
        ),
        lambda logits, dtype: reference.cross_entropy(logits, ids, smoothing, num_targets),
        backward,
        [(4 * rng.standard_normal((rows, vocabulary))).astype(np.float32)],
        tail,
        dtype,
    )


def check_linear(rng, rows, vocabulary, tail, smoothing, with_bias, dtype, num_targets, device="cpu"):
    ids = make_ids(rng, rows, vocabulary)
    sequences = dg.Sequences([rows], capacity=rows + tail) if tail else None

    def logits(x, weight, bias, dtype):
        if bias is not None and device == "cuda":
            bias = rounded(bias, dtype).astype(bias.dtype)  # as its products take it
        return rounded(reference.linear(x, weight, bias), dtype)

    def forward(x, weight, bias, dtype):
        return reference.cross_entropy(logits(x, weight, bias, dtype), ids, smoothing, num_targets)

    def backward(dloss, x, weight, bias, dtype):
        (dlogits,) = reference.cross_entropy_backward(
            dloss, logits(x, weight, bias, dtype), ids, smoothing, num_targets
        )
        dx, dweight, dbias = reference.linear_backward(rounded(dlogits, dtype), x, weight, bias)
        return rounded(dx, dtype), dweight, dbias

    def terms(dloss, x, weight, bias):
        (dlogits,) = reference.cross_entropy_backward(
            dloss, logits(x, weight, bias, "float32"), ids, smoothing, num_targets
        )
        absolute = [None if values is None else np.abs(values) for values in (dlogits, x, weight, bias)]
        return reference.linear_backward(*absolute)

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
        forward,
        backward,
        [None if shape is None else rng.standard_normal(shape).astype(np.float32) for shape in shapes],
        tail,
        dtype,
        terms,
    )


@pytest.mark.parametrize("num_targets", [None, 1000])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("rows", "vocabulary", "tail", "smoothing"), CASES)
def test_linear_cross_entropy_matches_reference(
    rng, rows, vocabulary, tail, smoothing, with_bias, dtype, num_targets, device
):
    check_linear(rng, rows, vocabulary, tail, smoothing, with_bias, dtype, num_targets, device)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "vocabulary"), [(1030, 501), pytest.param(459, 32001, marks=pytest.mark.cpu)])
def test_chunks_of_rows(rng, rows, vocabulary, dtype, device):
    """A chunk has up to 512 rows and 56 MiB of logits: three chunks here, two in float32."""
    check_linear(rng, rows, vocabulary, 2, 0.1, True, dtype, None, device)


def assert_loss_and_gradient(loss, grad, logits, ids):
    double = logits.astype(np.float64)
    reference.assert_close(loss, reference.cross_entropy(double, ids), reference.cross_entropy(logits, ids))
    (truth,) = reference.cross_entropy_backward(1.0, double, ids)
    (plain,) = reference.cross_entropy_backward(np.float32(1), logits, ids)
    reference.assert_close(grad, truth, plain)


def test_extreme_logits(rng):
    """Every row has another scale. The largest logit may come last, after a thousand smaller ones."""
    logits = (rng.standard_normal((4, 2500)) * [[1e4], [1e2], [1e-4], [0]]).astype(np.float32)
    logits[0, -1], logits[1, 3] = 1e5, -1e30
    ids = np.array([5, 2499, 0, 1])
    tensor = leaf(logits)
    loss = dg.functional.cross_entropy(tensor, ids)
    loss.backward()
    assert_loss_and_gradient(loss.numpy(), tensor.grad.numpy(), logits, ids)


def test_logits_of_minus_infinity_are_as_if_left_out(rng):
    logits, ids = rng.standard_normal((3, 2500)).astype(np.float32), np.array([5, 399, 0])
    logits[:, 400:1600] = -np.inf
    left = np.delete(logits, np.s_[400:1600], axis=1)
    tensor = leaf(logits)
    loss = dg.functional.cross_entropy(tensor, ids)
    loss.backward()
    grad = tensor.grad.numpy()
    assert not grad[:, 400:1600].any()
    assert_loss_and_gradient(loss.numpy(), np.delete(grad, np.s_[400:1600], axis=1), left, ids)


def of_ready_logits(x, weight, ids, **options):
    ids = np.minimum(ids, 39)
    op = dg.functional.cross_entropy
    return op(x, ids, **options) + op(weight, ids[:70], **options)


LOSSES = [dg.functional.linear_cross_entropy, of_ready_logits]


def gradients(make_loss, seed=3):
    """The gradients of `make_loss` on x (300, 40) and weight (70, 40). Each of them can be the logits of a loss."""
    rng = np.random.default_rng(seed)
    x, weight = (leaf(rng.standard_normal(shape).astype(np.float32)) for shape in [(300, 40), (70, 40)])
    make_loss(x, weight, rng.integers(-1, 70, 300))
    return [tensor.grad.numpy().copy() for tensor in (x, weight)]


@pytest.mark.parametrize("op", LOSSES)
def test_losses_add_up(op):
    """Gradients are computed in the forward pass. They are right for weighted sums of losses and for losses in turn."""

    def alone(begin, end, factor):
        return gradients(lambda x, weight, ids: (op(x, weight, ids * 0 + begin, num_targets=end) * factor).backward())

    def together(x, weight, ids):
        first, second = op(x, weight, ids * 0 + 1, num_targets=7), op(x, weight, ids * 0 + 2, num_targets=9)
        (first * 0.5 + second * -3.0).backward()

    def in_turn(x, weight, ids):
        (op(x, weight, ids * 0 + 1, num_targets=7) * 0.5).backward()
        (op(x, weight, ids * 0 + 2, num_targets=9) * -3.0).backward()

    expected = [a + b for a, b in zip(alone(1, 7, 0.5), alone(2, 9, -3.0), strict=True)]
    for make_loss in (together, in_turn):
        for actual, array in zip(gradients(make_loss), expected, strict=True):
            np.testing.assert_array_equal(actual, array)


@pytest.mark.parametrize("op", LOSSES)
def test_a_dropped_loss_leaves_no_gradient(op):
    def with_dropped(x, weight, ids):
        dropped = op(x, weight, ids)
        assert x.grad is None and weight.grad is None
        op(x, weight, ids).backward()
        op(x, weight, ids)
        del dropped

    plain = gradients(lambda x, weight, ids: op(x, weight, ids).backward())
    for actual, expected in zip(gradients(with_dropped), plain, strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.cpu
@pytest.mark.parametrize("dtype", DTYPES)
def test_memory_is_a_chunk_of_logits(rng, dtype):
    """Less than 64 MB beyond the gradients: not all logits, and no copy of dweight beside a chunk."""
    x, weight = (leaf(rng.standard_normal(shape, np.float32), dtype) for shape in [(1030, 320), (32000, 320)])
    ids = rng.integers(0, 32000, 1030)
    before = dg.memory_stats()["allocated"]
    dg.reset_peak_memory_stats()
    dg.functional.linear_cross_entropy(x, weight, ids).backward()
    peak = dg.memory_stats()["peak_allocated"]
    gradients = x.grad.numpy().nbytes + weight.grad.numpy().nbytes
    assert peak - before - gradients < 64e6


@pytest.mark.parametrize("dtype", DTYPES)
def test_ready_logits_have_one_gradient(rng, dtype):
    """Without a tape there is no gradient; on the way to a leaf there is no copy of it."""
    logits = leaf(rng.standard_normal((64, 3000), np.float32), dtype)
    dg.reset_peak_memory_stats()
    before = dg.memory_stats()["allocated"]
    with dg.no_grad():
        dg.functional.cross_entropy(logits, np.zeros(64, int))
    assert dg.memory_stats()["peak_allocated"] - before < 4096  # bytes: of row losses and the like
    dg.functional.cross_entropy(logits, np.zeros(64, int)).backward()
    assert dg.memory_stats()["peak_allocated"] - before < 1.5 * logits.data.nbytes


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


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("factor", [None, 3.0])
def test_a_step_reads_nothing_on_the_host(rng, linear, factor):
    """While a program is recorded, numpy() raises. The gradients of forward and backward are still those of eager."""
    ids = dg.tensor(make_ids(rng, 9, 7))
    x, weight = rng.standard_normal((9, 4)), rng.standard_normal((7, 4))

    def gradients():
        tensors = leaf(x if linear else x @ weight.T), leaf(weight)
        recorder = _core.Recorder()
        try:
            if linear:
                loss = dg.functional.linear_cross_entropy(*tensors, ids)
            else:
                loss = dg.functional.cross_entropy(tensors[0], ids)
            (loss if factor is None else loss * factor).backward()
        finally:
            recorder.stop()
        return [None if tensor.grad is None else tensor.grad.numpy() for tensor in tensors]

    logits = x @ weight.T
    (dlogits,) = reference.cross_entropy_backward(factor or 1.0, logits, ids.numpy(), 0.0)
    dx, dweight = gradients()
    np.testing.assert_allclose(dx, dlogits @ weight if linear else dlogits, atol=1e-6)
    if linear:
        np.testing.assert_allclose(dweight, dlogits.T @ x, atol=1e-6)


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("factor", [None, 3.0])
def test_a_device_gives_the_bits_of_the_cpu(rng, linear, factor):
    """The device "test" ends the process where the host reads the loss, its factor or the upstream gradient."""
    ids, x, weight = make_ids(rng, 9, 7), rng.standard_normal((9, 4)), rng.standard_normal((7, 4))

    def results(device):
        tensors = [
            dg.tensor(array, device, requires_grad=True) for array in ((x, weight) if linear else (x @ weight.T,))
        ]
        function = dg.functional.linear_cross_entropy if linear else dg.functional.cross_entropy
        loss = function(*tensors, ids)
        downloads = _core.test_device_counts()["downloads"]
        (loss if factor is None else loss * factor).backward()
        assert _core.test_device_counts()["downloads"] == downloads
        return [loss, *(tensor.grad for tensor in tensors)]

    for on_cpu, on_device in zip(results("cpu"), results("test"), strict=True):
        np.testing.assert_array_equal(on_cpu.numpy(), on_device.numpy())
