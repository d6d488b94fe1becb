"""AdamW and the gradient's norm against the reference."""

import dragoman as dg
import ml_dtypes
import numpy as np
import pytest
import reference
from dragoman import _core


def core(array):
    return dg.tensor(array).data


@pytest.mark.parametrize("size", [1, 31, 33, 1023, 100_003])
def test_adamw_step_matches_reference(rng, size):
    """Five steps over three segments, each of its own learning rate and decay; gradients are scaled first."""
    cuts = np.array([0, size // 3, size // 2, size], np.int64)
    lr_scale, decay = np.array([1, 0.5, 2], np.float32), np.array([0.1, 0, 0.01], np.float32)
    spread = lambda per_segment: np.repeat(per_segment.astype(np.float64), np.diff(cuts))  # noqa: E731
    parameters = rng.standard_normal(size).astype(np.float32)
    truth = [parameters.astype(np.float64), np.zeros(size), np.zeros(size)]
    arenas = [core(parameters), _core.Tensor.zeros([size]), _core.Tensor.zeros([size])]
    for step in range(1, 6):
        gradients = rng.standard_normal(size).astype(np.float32)
        cleared, shadow = core(gradients.copy()), _core.Tensor.empty([size], "bfloat16")
        _core.adamw_step(
            arenas[0],
            cleared,
            *arenas[1:],
            shadow,
            core(cuts),
            core(lr_scale),
            core(decay),
            lr=0.01,
            beta1=0.9,
            beta2=0.98,
            eps=1e-9,
            step=step,
            gradient_scale=0.25,
        )
        truth = reference.adamw(
            truth[0],
            0.25 * gradients.astype(np.float64),
            *truth[1:],
            lr=0.01 * spread(lr_scale),
            betas=(0.9, 0.98),
            eps=1e-9,
            weight_decay=spread(decay),
            step=step,
        )
        assert not cleared.numpy().any()
        np.testing.assert_array_equal(dg.Tensor(shadow).numpy(), arenas[0].numpy().astype(ml_dtypes.bfloat16))
    for arena, expected in zip(arenas, truth, strict=True):
        np.testing.assert_allclose(arena.numpy(), expected, rtol=2e-6, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize("size", [0, 1, 31, 1023, 300_001])
def test_gradient_norm_matches_reference(rng, size):
    gradients = (1e3 * rng.standard_normal(size)).astype(np.float32)
    norm = _core.gradient_norm(core(gradients))
    assert norm.shape == ()
    np.testing.assert_allclose(norm.numpy(), reference.gradient_norm(gradients), rtol=2e-7)


def test_gradient_norm_neither_overflows_nor_hides_a_nan():
    np.testing.assert_allclose(_core.gradient_norm(core(np.full(4, 1e30, np.float32))).numpy(), 2e30, rtol=1e-6)
    gradients = np.zeros(100_000, np.float32)
    gradients[77_777] = np.nan
    assert np.isnan(_core.gradient_norm(core(gradients)).numpy())


def make_model():
    dg.manual_seed(1)
    return dg.nn.FeedForward(6, 11)


def set_gradients(model, seed):
    """Gradients through a backward, as training makes them."""
    x = dg.tensor(np.random.default_rng(seed).standard_normal((9, 6)).astype(np.float32))
    out = model(x)
    ones = dg.tensor(np.ones((1, out.size), np.float32))
    dg.functional.linear(out.reshape(1, -1), ones).reshape().backward()


@pytest.mark.parametrize("max_grad_norm", [None, 1.0, 1e6])
def test_adamw_over_a_model(max_grad_norm):
    model = make_model()
    optimizer = dg.optim.AdamW(model, 0.01, (0.9, 0.95), 1e-8, 0.1, max_grad_norm)
    truth = {name: (p.numpy().astype(np.float64), 0.0, 0.0) for name, p in model.named_parameters()}
    for step in range(1, 4):
        optimizer.lr = 0.01 / step
        set_gradients(model, step)
        gradients = {name: p.grad.numpy().astype(np.float64) for name, p in model.named_parameters()}
        norm = reference.gradient_norm(np.concatenate([g.ravel() for g in gradients.values()]))
        assert optimizer.step() == pytest.approx(norm, rel=1e-6)
        clip = 1.0 if max_grad_norm is None else min(1.0, max_grad_norm / norm)
        for name, parameter in model.named_parameters():
            truth[name] = reference.adamw(
                truth[name][0],
                clip * gradients[name],
                *truth[name][1:],
                lr=optimizer.lr,
                betas=(0.9, 0.95),
                eps=1e-8,
                weight_decay=0.1 if parameter.numpy().ndim > 1 else 0.0,
                step=step,
            )
            np.testing.assert_allclose(parameter.numpy(), truth[name][0], rtol=1e-5, atol=1e-6)
            assert not parameter.grad.numpy().any(), "a step clears the gradients"


def test_moments_without_gradients_end_at_zero():
    """Not at the smallest denormals, which would slow down every later step."""
    model = make_model()
    optimizer = dg.optim.AdamW(model, 0.01, (0.9, 0.9))
    set_gradients(model, 0)
    for _ in range(1000):
        optimizer.step()
    state = optimizer.state_dict()
    assert not state["mean"].any()
    assert not state["variance"].any()


def test_state_restores_the_very_bits():
    def train(model, optimizer, seeds):
        for seed in seeds:
            set_gradients(model, seed)
            optimizer.step()
        return model.state_dict()

    whole = make_model()
    expected = {name: a.copy() for name, a in train(whole, dg.optim.AdamW(whole, 0.01), range(4)).items()}

    first = make_model()
    optimizer = dg.optim.AdamW(first, 0.01)
    weights = {name: array.copy() for name, array in train(first, optimizer, range(2)).items()}
    state = optimizer.state_dict()

    second = make_model()
    resumed = dg.optim.AdamW(second, 0.01)
    second.load_state_dict(weights)
    resumed.load_state_dict(state)
    for name, array in train(second, resumed, range(2, 4)).items():
        np.testing.assert_array_equal(array, expected[name])


def test_a_gradient_that_is_not_finite_changes_nothing():
    model = make_model()
    optimizer = dg.optim.AdamW(model, 0.01)
    set_gradients(model, 0)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    x = dg.tensor(np.full((1, 6), np.inf, np.float32))
    out = model(x)
    dg.functional.linear(out.reshape(1, -1), dg.tensor(np.ones((1, 6), np.float32))).reshape().backward()
    with pytest.raises(FloatingPointError, match="AdamW: the gradient's norm must be finite"):
        optimizer.step()
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "AdamW: lr must be at least 0, got -1.0"),
        ({"lr": 0.1, "betas": (1.0, 0.9)}, r"AdamW: betas\[0\] must lie in \[0, 1\), got 1.0"),
        ({"lr": 0.1, "eps": 0.0}, "AdamW: eps must be above 0, got 0.0"),
        ({"lr": 0.1, "weight_decay": -0.1}, "AdamW: weight_decay must be at least 0, got -0.1"),
        ({"lr": 0.1, "max_grad_norm": 0.0}, "AdamW: max_grad_norm must be above 0, got 0.0"),
    ],
    ids=str,
)
def test_errors_name_the_argument(options, message):
    with pytest.raises(ValueError, match=message):
        dg.optim.AdamW(make_model(), **options)
