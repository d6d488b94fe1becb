"""Row-wise ops in bfloat16: float32 arithmetic on rounded inputs, and one rounding of each result."""

import dragoman as dg
import ml_dtypes
import numpy as np
import pytest
import reference
from gradcheck import backward, next_mask

HALF_ULP = 2.0**-8  # the largest relative error of rounding to nearest


def rounded(array):
    return array.astype(ml_dtypes.bfloat16).astype(np.float64)


def assert_one_rounding(actual, truth):
    actual, truth = np.asarray(actual, np.float64), np.asarray(truth, np.float64)
    bar = 1.02 * HALF_ULP * np.abs(truth) + 2e-6 * (1 + np.abs(truth).max(initial=0))
    assert actual.shape == truth.shape
    assert (np.abs(actual - truth) <= bar).all(), np.abs(actual - truth).max()


OPS = {
    "layer_norm": (
        lambda x, s: dg.functional.layer_norm(x, dg.tensor(np.full(x.shape[1], 1.5, np.float32)), sequences=s),
        lambda x, mask: reference.layer_norm(x, np.full(x.shape[1], 1.5)),
        lambda dy, x, mask: reference.layer_norm_backward(dy, x, np.full(x.shape[1], 1.5))[0],
    ),
    "rms_norm": (
        lambda x, s: dg.functional.rms_norm(x, dg.tensor(np.full(x.shape[1], 1.5, np.float32)), sequences=s),
        lambda x, mask: reference.rms_norm(x, np.full(x.shape[1], 1.5)),
        lambda dy, x, mask: reference.rms_norm_backward(dy, x, np.full(x.shape[1], 1.5))[0],
    ),
    "relu": (
        lambda x, s: dg.functional.relu(x, sequences=s),
        lambda x, mask: reference.activation(x, "relu"),
        lambda dy, x, mask: reference.activation_backward(dy, x, "relu")[0],
    ),
    "gelu": (
        lambda x, s: dg.functional.gelu(x, sequences=s),
        lambda x, mask: reference.activation(x, "gelu"),
        lambda dy, x, mask: reference.activation_backward(dy, x, "gelu")[0],
    ),
    "dropout": (
        lambda x, s: dg.functional.dropout(x, 0.3, sequences=s),
        lambda x, mask: x * mask,
        lambda dy, x, mask: dy * mask,
    ),
    "scale": (
        lambda x, s: dg.functional.scale(x, 0.37),
        lambda x, mask: x * np.float32(0.37),
        lambda dy, x, mask: dy * np.float32(0.37),
    ),
}


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(("rows", "features"), [(1, 2), (31, 33), (5, 1023), (0, 9), (300, 16)])
def test_matches_reference(rng, op, rows, features):
    run, forward, backward_ = OPS[op]
    tail = 0 if op == "scale" else 3
    x = dg.tensor(rng.standard_normal((rows + tail, features)).astype(np.float32), requires_grad=True)
    mask = next_mask(rows, features, 0.3)
    out = run(dg.functional.cast(x, "bfloat16"), dg.Sequences([rows], capacity=rows + tail))
    assert out.dtype == "bfloat16"
    values, dy = rounded(x.numpy()[:rows]), rng.standard_normal((rows + tail, features))
    assert_one_rounding(out.numpy()[:rows], forward(values, mask))
    assert not out.numpy()[rows:].any() or not tail
    if rows:
        backward(dg.functional.cast(out, "float32"), dy)
        assert_one_rounding(x.grad.numpy()[:rows], backward_(rounded(dy[:rows]), values, mask))
        assert not x.grad.numpy()[rows:].any() or not tail


def test_layer_norm_parameter_gradients_are_float32(rng):
    x = dg.tensor(rng.standard_normal((200, 40)).astype(np.float32))
    weight, bias = (dg.tensor(rng.standard_normal(40).astype(np.float32), requires_grad=True) for _ in range(2))
    dy = rng.standard_normal((200, 40)).astype(np.float32)
    backward(
        dg.functional.cast(dg.functional.layer_norm(dg.functional.cast(x, "bfloat16"), weight, bias), "float32"), dy
    )
    arguments = (rounded(dy), rounded(x.numpy()), weight.numpy().astype(np.float64), bias.numpy().astype(np.float64))
    _, dweight, dbias = reference.layer_norm_backward(*arguments)
    np.testing.assert_allclose(weight.grad.numpy(), dweight, rtol=1e-5, atol=1e-5 * np.abs(dweight).max())
    np.testing.assert_allclose(bias.grad.numpy(), dbias, rtol=1e-5, atol=1e-5 * np.abs(dbias).max())


@pytest.mark.parametrize("p", [0.0, 0.25])
def test_residual(rng, p):
    arrays = [rng.standard_normal((33, 31)).astype(np.float32) for _ in range(3)]
    x, residual = (dg.tensor(array, requires_grad=True) for array in arrays[:2])
    mask = next_mask(33, 31, p) if p else np.ones((33, 31))
    out = dg.functional.residual(dg.functional.cast(x, "bfloat16"), dg.functional.cast(residual, "bfloat16"), dropout=p)
    assert_one_rounding(out.numpy(), rounded(arrays[1]) + rounded(arrays[0]) * mask)
    backward(dg.functional.cast(out, "float32"), arrays[2])
    assert_one_rounding(x.grad.numpy(), rounded(arrays[2]) * mask)
    np.testing.assert_array_equal(residual.grad.numpy(), rounded(arrays[2]))


@pytest.mark.parametrize("p", [0.0, 0.3])
def test_residual_layer_norm(rng, p):
    """The norm reads the rounded sum. Each gradient is rounded once."""
    arrays = [rng.standard_normal((33, 31)).astype(np.float32) for _ in range(3)]
    x, residual = (dg.tensor(array, requires_grad=True) for array in arrays[:2])
    inputs = [dg.functional.cast(tensor, "bfloat16") for tensor in (x, residual)]
    mask = next_mask(33, 31, p) if p else np.ones((33, 31))
    state = dg.random.get_state()
    total = dg.functional.residual(*inputs, dropout=p).numpy().astype(np.float64)
    dg.random.set_state(state)
    weight = np.full(31, 1.5)
    out = dg.functional.residual_layer_norm(*inputs, dg.tensor(weight.astype(np.float32)), dropout=p)
    assert_one_rounding(out.numpy(), reference.layer_norm(total, weight))
    backward(dg.functional.cast(out, "float32"), arrays[2])
    dsum, *_ = reference.layer_norm_backward(rounded(arrays[2]), total, weight)
    assert_one_rounding(residual.grad.numpy(), dsum)
    assert_one_rounding(x.grad.numpy(), dsum * mask)


def test_gradients_of_several_users_are_added(rng):
    """add, and the tape's sum of gradients, in bfloat16."""
    a = rng.standard_normal((17, 5)).astype(np.float32)
    dy = rng.standard_normal((17, 5)).astype(np.float32)
    x = dg.tensor(a, requires_grad=True)
    y = dg.functional.cast(x, "bfloat16")
    out = dg.functional.add(y, dg.functional.scale(y, 2.0))
    np.testing.assert_allclose(out.numpy().astype(np.float64), 3 * rounded(a), rtol=2 * HALF_ULP)
    backward(dg.functional.cast(out, "float32"), dy)
    np.testing.assert_allclose(x.grad.numpy(), 3 * rounded(dy), rtol=2 * HALF_ULP)


@pytest.mark.parametrize("p", [0.0, 0.25])
def test_embedding(rng, p):
    weight, positions = (
        dg.tensor(rng.standard_normal(shape).astype(np.float32), requires_grad=True) for shape in [(50, 33), (20, 33)]
    )
    ids, place = rng.integers(0, 50, 30).astype(np.int32), np.r_[0:12, 0:18]
    sequences = dg.Sequences([12, 18])
    mask = next_mask(30, 33, p) if p else np.ones((30, 33))
    out = dg.functional.embedding(ids, weight, sequences, positions=positions, scale=2.0, dropout=p, dtype="bfloat16")
    tables = weight.numpy().astype(np.float64), positions.numpy().astype(np.float64)
    assert_one_rounding(out.numpy(), reference.embedding(*tables, ids, place, 2.0) * mask)
    dy = rng.standard_normal((30, 33)).astype(np.float32)
    backward(dg.functional.cast(out, "float32"), dy)
    truth = reference.embedding_backward(rounded(dy) * mask, *tables, ids, place, 2.0)
    for tensor, expected in zip((weight, positions), truth, strict=True):
        np.testing.assert_allclose(tensor.grad.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_cast_rounds_to_nearest_even():
    """Equal to ml_dtypes, for ties, the largest numbers, infinities and NaN."""
    bits = np.arange(2**16, dtype=np.uint32) << 16
    near = np.concatenate([bits, bits | 0x7FFF, bits | 0x8000, bits | 0x8001, bits | 0xFFFF]).view(np.float32)
    normal = near[(np.abs(near) >= np.finfo(np.float32).tiny) | np.isnan(near) | (near == 0)]
    result = dg.functional.cast(dg.tensor(normal), "bfloat16").numpy()
    with np.errstate(invalid="ignore"):
        expected = normal.astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(np.isnan(result), np.isnan(expected))
    finite = ~np.isnan(expected)
    np.testing.assert_array_equal(result[finite].view(np.uint16), expected[finite].view(np.uint16))
    back = dg.functional.cast(dg.functional.cast(dg.tensor(normal), "bfloat16"), "float32").numpy()
    np.testing.assert_array_equal(back[finite], expected[finite].astype(np.float32))


@pytest.mark.parametrize("dtype", ["float16", "int32", "", None])
def test_cast_refuses_other_dtypes(dtype):
    with pytest.raises((TypeError, ValueError), match="cast: dtype must be"):
        dg.functional.cast(dg.tensor(np.ones(2, np.float32)), dtype)


def test_dtypes_of_a_call_must_agree():
    x = dg.tensor(np.ones((2, 3), np.float32))
    with pytest.raises(TypeError, match="residual: residual must be bfloat16, got float32"):
        dg.functional.residual(dg.functional.cast(x, "bfloat16"), x)
    with pytest.raises(TypeError, match="add: b must be float32 like a, got bfloat16"):
        dg.functional.add(x, dg.functional.cast(x, "bfloat16"))


def small_model(compute_dtype, **overrides):
    dg.manual_seed(3)
    return dg.Transformer(dg.TransformerConfig.tiny(vocab_size=200, **overrides).with_dropout(0.0), compute_dtype)


def batch(rng):
    return tuple([rng.integers(4, 200, n).tolist() for n in lengths] for lengths in ((5, 17, 9), (8, 3, 21)))


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_model_in_bfloat16_has_nearly_the_same_loss_and_gradients(rng, norm_first):
    data, grads, losses = batch(rng), [], []
    for compute_dtype in ("float32", "bfloat16"):
        model = small_model(compute_dtype, norm_first=norm_first)
        loss = model.loss(*data)
        loss.backward()
        losses.append(loss.item())
        assert all(p.grad.dtype == "float32" for p in model.parameters())
        grads.append(np.concatenate([p.grad.numpy().ravel() for p in model.parameters()]).astype(np.float64))
    assert losses[1] == pytest.approx(losses[0], rel=5e-3)
    assert losses[1] != losses[0]
    exact, low = grads
    assert exact @ low / np.linalg.norm(exact) / np.linalg.norm(low) > 0.995
    assert np.linalg.norm(low) == pytest.approx(np.linalg.norm(exact), rel=0.02)


def test_inference_is_float32_whatever_training_computes_in(rng):
    data = batch(rng)
    np.testing.assert_array_equal(small_model("bfloat16").logits(*data), small_model("float32").logits(*data))


@pytest.mark.cpu
def test_bfloat16_training_learns_and_its_weights_follow_the_masters(rng):
    data, model = batch(rng), small_model("bfloat16")
    optimizer = dg.optim.AdamW(model, lr=1e-3)
    losses = []
    for _ in range(30):
        loss = model.loss(*data, label_smoothing=0.0)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    for parameter in model.parameters():
        copy = dg.Tensor(parameter.data_as("bfloat16")).numpy()
        np.testing.assert_array_equal(copy, parameter.numpy().astype(ml_dtypes.bfloat16))
    parameter.copy_(np.full(parameter.shape, 0.1))
    assert (dg.Tensor(parameter.data_as("bfloat16")).numpy() == ml_dtypes.bfloat16(0.1)).all()


def test_compute_dtype_is_checked():
    with pytest.raises(ValueError, match="Transformer: compute_dtype must be one of float32, bfloat16, got 'half'"):
        small_model("half")
    with pytest.raises(ValueError, match="Trainer: compute_dtype must be one of float32, bfloat16, got 'half'"):
        dg.Trainer(small_model("float32"), compute_dtype="half")
