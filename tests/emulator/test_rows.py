"""Row-wise and element-wise kernels of a device beside the CPU's, in shapes that only a device treats apart."""

import dragoman as dg
import numpy as np
import pytest
from dragoman import _core, random
from gradcheck import with_tail

pytestmark = pytest.mark.cuda

F = dg.functional
LENGTHS, TAIL = [17, 0, 23], 5  # and in short, wide shapes: the first rows of them
TOLERANCES = {"float32": 2e-6, "bfloat16": 1e-2}


def results(function, arrays, device, dtype):
    """The output and the gradients of every array, as float64."""
    random.manual_seed(5)
    tensors = [dg.tensor(array, device, "float32", requires_grad=True) for array in arrays]
    y = function(*(tensor if len(tensor.shape) == 1 else F.cast(tensor, dtype) for tensor in tensors))
    y.backward(np.random.default_rng(6).standard_normal(y.shape))
    return [t.numpy().astype(np.float64) for t in (y, *(tensor.grad for tensor in tensors))]


def packed(rows):
    return dg.Sequences([rows - 1, 0, 1], capacity=rows + TAIL)


NORMS = {
    "layer_norm": lambda x, r, w, b, s: F.layer_norm(x + r, w, b, sequences=s),
    "rms_norm": lambda x, r, w, b, s: F.rms_norm(x + r, w * b, sequences=s),
    "residual_layer_norm": lambda x, r, w, b, s: F.residual_layer_norm(x, r, w, b, dropout=0.2, sequences=s),
    "residual_rms_norm": lambda x, r, w, b, s: F.residual_rms_norm(x, r, w * b, dropout=0.2, sequences=s),
}


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("shape", [(70, 264), (3, 1500), (2, 4100), (33, 1024), (3, 16393)], ids=str)
@pytest.mark.parametrize("name", NORMS)
def test_norms(rng, name, shape, dtype):
    """One warp a row in registers of several sizes, a block a row, rows that stay in memory, several chunks of rows."""
    rows, features = shape
    x, residual = (with_tail(rng.standard_normal(shape), TAIL) for _ in range(2))
    arrays = [x, residual, 1 + 0.1 * rng.standard_normal(features), 1 + 0.1 * rng.standard_normal(features)]
    compare(lambda *tensors: NORMS[name](*tensors, packed(rows)), arrays, dtype)


def compare(function, arrays, dtype="float32"):
    for there, here in zip(*(results(function, arrays, device, dtype) for device in ("cuda", "cpu")), strict=True):
        np.testing.assert_allclose(there, here, rtol=0, atol=TOLERANCES[dtype] * max(1.0, np.abs(here).max(initial=0)))


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (F.softmax, (3, 1500)),
        (F.softmax, (9, 40)),
        (lambda x: x.sum(0), (300, 264)),
        (lambda x: x.mean(-1), (3, 1500)),
        (lambda x: x.mean(), (70, 264)),
        (lambda x: F.pool(x, dg.Sequences(LENGTHS, capacity=45)), (45, 264)),
        (lambda x: F.pool(x, dg.Sequences(LENGTHS, capacity=45), "max"), (45, 300)),
        (lambda x: F.pool(x, dg.Sequences(LENGTHS), "last"), (40, 300)),
        (lambda x: F.gate(x, x, activation="silu", dropout=0.3), (9, 40)),
        (lambda x: F.gate(x, x, activation="gelu", sequences=dg.Sequences([7], capacity=9)), (9, 35)),
        (lambda x: F.dropout(x, 0.4), (33, 31)),
        (lambda x: x[dg.tensor(np.array([3, 1, 3, 0, 3], np.int32))], (5, 300)),
        (lambda x: x / (x * x + 2.0).sum(-1, keepdims=True), (33, 35)),
        (lambda x: F.concat([x, x[:, 3:], x[:, :8]], axis=1), (9, 40)),
        (lambda x: F.transpose(x) * 2.0, (70, 45)),
        (lambda x: F.transpose(x) * 2.0, (7, 5, 8)),
    ],
)
def test_other_rows(rng, function, shape, dtype):
    compare(function, [rng.standard_normal(shape)], dtype)


def test_a_mask_has_the_bits_of_the_cpu(rng):
    """Also where groups of eight elements do not begin at a block of random bits, and where the step is in memory."""
    for features in (1, 8, 33):
        ones = np.ones((37, features), np.float32)
        for step in (0, 2**33 + 5):
            masks = []
            for device in ("cpu", "cuda"):
                step_at = dg.tensor(np.array(step), device)
                mask = _core.Dropout(0.3, 2**40 + 1, 7, 3, step_at.data)
                x, weight = (dg.tensor(a, device).data for a in (ones, ones[0]))
                summed = _core.residual_norm_forward(x, x, weight, None, mask, 1e-5, True, None)[1]
                gated = _core.gate_forward(x, x, "relu", mask, None)
                masks.append([dg.Tensor(t).numpy() for t in (_core.dropout_forward(x, mask, None), summed, gated)])
            for here, there in zip(*masks, strict=True):
                np.testing.assert_array_equal(here, there)


def test_rows_that_are_copied_keep_their_bits(rng):
    x = rng.standard_normal((40, 33)).astype(np.float32)
    ids = dg.tensor(np.array([39, 0, 7, 7], np.int32))
    for dtype in TOLERANCES:
        here, there = (dg.tensor(x, device, dtype) for device in ("cpu", "cuda"))
        for function in (lambda x: x[ids], lambda x: x[:, 2:31], F.transpose, lambda x: F.concat([x, x[3:]])):
            np.testing.assert_array_equal(function(here).numpy(), function(there).numpy())
