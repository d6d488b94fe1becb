"""The norm of residual + dropout(x) against the reference, and against residual and norm one after the other."""

import dragoman as dg
import numpy as np
import pytest
import reference
from gradcheck import backward, check_op, check_reference, next_mask

SHAPES = [(1, 1, 0), (31, 33, 4), (33, 31, 0), (1023, 17, 2), (5, 1023, 1), (70, 512, 3), (0, 7, 2)]


def layer_norm(mask, eps):
    """Reference of residual_layer_norm(x, residual, weight, bias) and of its gradients."""

    def forward(x, residual, weight, bias):
        return reference.layer_norm((residual + x * mask).astype(x.dtype), weight, bias, eps)

    def backward(dy, x, residual, weight, bias):
        dsum, *rest = reference.layer_norm_backward(dy, (residual + x * mask).astype(x.dtype), weight, bias, eps)
        return (dsum * mask).astype(x.dtype), dsum, *rest

    return forward, backward


def rms_norm(mask, eps):
    """Reference of residual_rms_norm(x, residual, weight) and of its gradients."""

    def forward(x, residual, weight):
        return reference.rms_norm((residual + x * mask).astype(x.dtype), weight, eps)

    def backward(dy, x, residual, weight):
        dsum, dweight = reference.rms_norm_backward(dy, (residual + x * mask).astype(x.dtype), weight, eps)
        return (dsum * mask).astype(x.dtype), dsum, dweight

    return forward, backward


NORMS = {
    "layer_norm": (dg.functional.residual_layer_norm, dg.functional.layer_norm, layer_norm, 2),
    "rms_norm": (dg.functional.residual_rms_norm, dg.functional.rms_norm, rms_norm, 1),
}  # of a sum, of a tensor, the reference, the number of parameters


@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize(("rows", "features", "tail"), SHAPES)
@pytest.mark.parametrize("name", NORMS)
def test_matches_reference(rng, name, rows, features, tail, p):
    of_sum, _, truth, parameters = NORMS[name]
    mask = next_mask(rows, features, p) if p else np.ones((rows, features))
    sequences = dg.Sequences([rows // 3, 0, rows - rows // 3], capacity=rows + tail) if tail else None
    eps = 1.0 if features == 1 else 1e-5  # one feature's gradient is all rounding for a small eps
    x, residual = 2 * rng.standard_normal((2, rows, features)) + 0.5
    check_op(
        lambda *args: of_sum(*args, dropout=p, eps=eps, sequences=sequences),
        *truth(mask, eps),
        [x, residual, *(1 + 0.1 * rng.standard_normal((parameters, features)))],
        rows=(0, 1),
        tail=tail,
    )


@pytest.mark.parametrize("name", NORMS)
def test_reference_gradient(rng, name):
    _, _, truth, parameters = NORMS[name]
    shapes = [(3, 7), (3, 7), *[(7,)] * parameters]
    check_reference(*truth(next_mask(3, 7, 0.3), 1e-5), [rng.standard_normal(shape) for shape in shapes])


@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("rows", "features", "tail"), SHAPES)
@pytest.mark.parametrize("name", NORMS)
def test_same_bits_as_residual_and_norm(rng, name, rows, features, tail, dtype, p):
    """One pass equals two passes, except for one rounding: in bfloat16 the gradient between them is not rounded."""
    of_sum, norm, _, parameters = NORMS[name]
    shapes = [(rows + tail, features)] * 2 + [(features,)] * parameters
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    dy = rng.standard_normal((rows + tail, features))
    sequences = dg.Sequences([rows], capacity=rows + tail)

    def run(fused):
        dg.manual_seed(5)
        tensors = [dg.tensor(array, requires_grad=True) for array in arrays]
        x, residual = (dg.functional.cast(tensor, dtype) for tensor in tensors[:2])
        if fused:
            out = of_sum(x, residual, *tensors[2:], dropout=p, sequences=sequences)
        else:
            total = dg.functional.residual(x, residual, dropout=p, sequences=sequences)
            out = norm(total, *tensors[2:], sequences=sequences)
        backward(dg.functional.cast(out, "float32"), dy)
        return [out.numpy(), *(tensor.grad.numpy() for tensor in tensors)]

    for i, (actual, expected) in enumerate(zip(run(True), run(False), strict=True)):
        if i == 1 and dtype == "bfloat16":
            np.testing.assert_allclose(actual, expected, rtol=2.0**-7)
        else:
            np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("p", [0.0, 0.3])
def test_gradients_add_up(rng, p):
    """Without dropout both inputs receive the same array, of which each leaf keeps memory of its own."""
    x, residual = (dg.tensor(array, requires_grad=True) for array in rng.standard_normal((2, 5, 6)).astype(np.float32))
    weight = dg.tensor(np.ones(6, np.float32))
    dy = rng.standard_normal((5, 6))
    for times in (1, 2):
        dg.manual_seed(0)
        backward(dg.functional.residual_layer_norm(x, residual, weight, dropout=p), dy)
        if times == 1:
            once = [x.grad.numpy().copy(), residual.grad.numpy().copy()]
            assert x.grad.data.data_ptr != residual.grad.data.data_ptr
    np.testing.assert_array_equal(x.grad.numpy(), 2 * once[0])
    np.testing.assert_array_equal(residual.grad.numpy(), 2 * once[1])


@pytest.mark.parametrize("layer", [dg.nn.LayerNorm, dg.nn.RMSNorm])
def test_the_layer(rng, layer):
    norm = layer(8)
    x, residual = (dg.tensor(array) for array in rng.standard_normal((2, 40, 8)).astype(np.float32))
    for p in (0.5, 0.0):
        dg.manual_seed(3)
        expected = norm(dg.functional.residual(x, residual, dropout=p)).numpy()
        dg.manual_seed(3)
        np.testing.assert_array_equal(norm(x, residual=residual, dropout=p).numpy(), expected)


def test_errors_name_the_argument():
    x, weight = dg.tensor(np.ones((2, 5), np.float32)), dg.tensor(np.ones(5, np.float32))
    with pytest.raises(ValueError, match=r"residual_layer_norm: residual must have shape \(2, 5\), got \(3, 5\)"):
        dg.functional.residual_layer_norm(x, dg.tensor(np.ones((3, 5), np.float32)), weight)
    with pytest.raises(ValueError, match=r"residual_rms_norm: weight must have shape \(5,\), got \(4,\)"):
        dg.functional.residual_rms_norm(x, x, dg.tensor(np.ones(4, np.float32)))
