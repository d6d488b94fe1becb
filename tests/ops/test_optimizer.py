"""AdamW and the gradient's norm against the reference."""

import dragoman as dg
import ml_dtypes
import numpy as np
import pytest
import reference
from dragoman import _core
from dragoman.train.averaging import ExponentialAverage


def core(array, *device):
    return dg.tensor(array, *device).data


SCALARS = {"beta1": 0.9, "beta2": 0.98, "eps": 1e-9}


@pytest.mark.parametrize("size", [1, 31, 33, 1023, 100_003])
@pytest.mark.parametrize("clipped", [False, True])
def test_adamw_step_matches_reference(rng, device, size, clipped):
    """Five steps over three segments, each of its own learning rate and decay; the kernel counts them and clips."""
    cuts = np.array([0, size // 3, size // 2, size], np.int64)
    lr_scale, decay = np.array([1, 0.5, 2], np.float32), np.array([0.1, 0, 0.01], np.float32)
    spread = lambda per_segment: np.repeat(per_segment.astype(np.float64), np.diff(cuts))  # noqa: E731
    parameters = rng.standard_normal(size).astype(np.float32)
    truth = [parameters.astype(np.float64), np.zeros(size), np.zeros(size)]
    arenas = [core(parameters), *(_core.Tensor.zeros([size], "float32", device) for _ in range(2))]
    norm, max_norm = (4.0, 1.0) if clipped else (4.0, 8.0)
    count = _core.Tensor.zeros([], "int64", device)
    for step in range(1, 6):
        gradients = rng.standard_normal(size).astype(np.float32)
        cleared, shadow = core(gradients.copy()), _core.Tensor.empty([size], "bfloat16", device)
        _core.adamw_step(
            arenas[0],
            cleared,
            *arenas[1:],
            shadow,
            core(cuts, device),
            core(lr_scale),
            core(decay),
            lr=core(np.array(0.01, np.float32)),
            norm=core(np.array(norm, np.float32)),
            step=count,
            max_norm=max_norm,
            **SCALARS,
        )
        truth = reference.adamw(
            truth[0],
            (0.25 if clipped else 1.0) * gradients.astype(np.float64),
            *truth[1:],
            lr=0.01 * spread(lr_scale),
            betas=(0.9, 0.98),
            eps=1e-9,
            weight_decay=spread(decay),
            step=step,
        )
        assert count.numpy() == step
        assert not cleared.numpy().any()
        np.testing.assert_array_equal(dg.Tensor(shadow).numpy(), arenas[0].numpy().astype(ml_dtypes.bfloat16))
    for arena, expected in zip(arenas, truth, strict=True):
        np.testing.assert_allclose(arena.numpy(), expected, rtol=2e-6, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize("norm", [np.nan, np.inf])
def test_adamw_step_writes_nothing_where_the_norm_is_not_finite(rng, device, norm):
    arrays = [rng.standard_normal(37).astype(np.float32) for _ in range(4)]
    arenas, count = [core(array.copy()) for array in arrays], core(np.array(5), device)
    per_segment = [core(np.array([0, 37]), device), core(np.ones(1, np.float32)), core(np.ones(1, np.float32))]
    lr, norm = core(np.array(0.1, np.float32)), core(np.array(norm, np.float32))
    shadow = _core.Tensor.zeros([37], "bfloat16", device)
    _core.adamw_step(*arenas, shadow, *per_segment, lr, norm, count, max_norm=1.0, **SCALARS)
    for arena, array in zip(arenas, arrays, strict=True):
        np.testing.assert_array_equal(arena.numpy(), array)
    assert count.numpy() == 5
    assert not shadow.numpy().any()


@pytest.mark.parametrize("size", [0, 1, 31, 1023, 100_003])
def test_moving_average_matches_reference(rng, size):
    average, x = rng.standard_normal((2, size)).astype(np.float32)
    moved = core(average.copy())
    _core.moving_average(moved, core(x), 0.1)
    expected = average.astype(np.float64) + 0.1 * (x.astype(np.float64) - average)
    np.testing.assert_allclose(moved.numpy(), expected, rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match=rf"moving_average: average must have shape \({size + 1},\), got \({size},\)"):
        _core.moving_average(moved, core(np.zeros(size + 1, np.float32)), 0.1)


@pytest.mark.parametrize("size", [0, 1, 31, 1023, 300_001])
def test_gradient_norm_matches_reference(rng, size):
    gradients = (1e3 * rng.standard_normal(size)).astype(np.float32)
    norm = _core.gradient_norm(core(gradients))
    assert norm.shape == ()
    np.testing.assert_allclose(norm.numpy(), reference.gradient_norm(gradients), rtol=2e-7)


@pytest.mark.parametrize("chunks", [1, 3, 300])
def test_the_norm_of_pieces_is_that_of_the_whole_to_the_bit(rng, device, chunks):
    """Several processes have the gradients of some chunks each, and exchange the sums of their squares."""
    gradients = (1e3 * rng.standard_normal(chunks * 16384 - 5)).astype(np.float32)
    pieces = np.split(gradients, [16384 * (chunks // 3)])
    sums = [value for piece in pieces for value in _core.square_sums(core(piece))]
    assert len(sums) == chunks
    norm = _core.norm_of_sums(sums, device)
    assert norm.device == device
    assert norm.numpy() == _core.gradient_norm(core(gradients)).numpy()


def test_cast_into_rounds_as_a_cast(rng):
    x = core(rng.standard_normal(1023).astype(np.float32))
    rounded = _core.cast(x, "bfloat16")
    y = _core.Tensor.zeros([1023], "bfloat16", x.device)
    _core.cast_into(x, y)
    np.testing.assert_array_equal(y.numpy(), rounded.numpy())
    with pytest.raises(ValueError, match=r"cast_into: y must have shape \(1023,\), got \(1022,\)"):
        _core.cast_into(x, y.narrow(0, 1022))


def test_gradient_norm_neither_overflows_nor_hides_a_nan():
    np.testing.assert_allclose(_core.gradient_norm(core(np.full(4, 1e30, np.float32))).numpy(), 2e30, rtol=1e-6)
    gradients = np.zeros(100_000, np.float32)
    gradients[77_777] = np.nan
    assert np.isnan(_core.gradient_norm(core(gradients)).numpy())


def make_model():
    dg.manual_seed(1)
    return dg.nn.FeedForward(6, 11)


def set_gradients(model, seed):
    """Gradients from a backward, as in training."""
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
    """Moments end at 0. At the smallest denormals they would make every later step slower."""
    model = make_model()
    optimizer = dg.optim.AdamW(model, 0.01, (0.9, 0.9))
    set_gradients(model, 0)
    for _ in range(1000):
        optimizer.step()
    state = optimizer.state_dict()
    assert all(not array.any() for name, array in state.items() if name != "step")
    assert state["step"] == 1000


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


def test_a_step_after_a_bad_one_uses_the_copies_of_the_weights_as_they_are():
    """Weights written by hand, then a skipped step: the bfloat16 copies in the arena are of the old weights."""
    dg.manual_seed(0)
    model = dg.nn.FeedForward(6, 11)
    model.compute_dtype = "bfloat16"
    optimizer = dg.optim.AdamW(model, 0.01)
    values = np.full((11, 6), 3.0, np.float32)
    model.linear1.weight.copy_(values)
    model.linear1.weight.grad.data.copy_(np.full((11, 6), np.nan, np.float32))
    with pytest.raises(FloatingPointError, match=r"the first bad one is of linear1.weight"):
        optimizer.step()
    np.testing.assert_array_equal(dg.Tensor(model.linear1.weight.data_as("bfloat16")).numpy(), values)


GROUPS = [
    dg.optim.ParameterGroup("linear1.bias", lr_scale=3.0),
    dg.optim.ParameterGroup("linear1.*", lr_scale=0.5, weight_decay=0.0),
    dg.optim.ParameterGroup("*.bias", weight_decay=0.3),
]


def test_parameter_groups_match_reference():
    """A parameter belongs to the first group that matches; the rest to none."""
    model = make_model()
    optimizer = dg.optim.AdamW(model, 0.01, (0.9, 0.95), 1e-8, 0.1, groups=GROUPS)
    lr = {"linear1.bias": 0.03, "linear1.weight": 0.005, "linear2.bias": 0.01, "linear2.weight": 0.01}
    decay = {"linear1.bias": 0.0, "linear1.weight": 0.0, "linear2.bias": 0.3, "linear2.weight": 0.1}
    truth = {name: (p.numpy().astype(np.float64), 0.0, 0.0) for name, p in model.named_parameters()}
    assert truth.keys() == lr.keys()
    for step in range(1, 4):
        set_gradients(model, step)
        gradients = {name: p.grad.numpy().astype(np.float64) for name, p in model.named_parameters()}
        optimizer.step()
        for name, parameter in model.named_parameters():
            truth[name] = reference.adamw(
                truth[name][0],
                gradients[name],
                *truth[name][1:],
                lr=lr[name],
                betas=(0.9, 0.95),
                eps=1e-8,
                weight_decay=decay[name],
                step=step,
            )
            np.testing.assert_allclose(parameter.numpy(), truth[name][0], rtol=1e-5, atol=1e-6)


def freeze(model, *frozen):
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name not in frozen
    return model


def test_a_subset_trains_and_resumes_to_the_very_bits():
    def train(model, optimizer, seeds):
        for seed in seeds:
            set_gradients(model, seed)
            optimizer.step()
        return model.state_dict()

    frozen = ("linear1.weight", "linear2.bias")
    whole = freeze(make_model(), *frozen)
    before = whole.state_dict()
    expected = train(whole, dg.optim.AdamW(whole, 0.01), range(4))
    for name, array in before.items():
        assert (expected[name] == array).all() == (name in frozen)

    first = freeze(make_model(), *frozen)
    optimizer = dg.optim.AdamW(first, 0.01)
    weights, state = train(first, optimizer, range(2)), optimizer.state_dict()
    assert state.keys() == {
        "step",
        *(f"{kind}.{name}" for kind in ("mean", "variance") for name in ("linear1.bias", "linear2.weight")),
    }
    assert state["mean.linear2.weight"].shape == (6, 11)

    second = freeze(make_model(), *frozen)
    second.load_state_dict(weights)
    resumed = dg.optim.AdamW(second, 0.01)
    resumed.load_state_dict(state)
    for name, array in train(second, resumed, range(2, 4)).items():
        np.testing.assert_array_equal(array, expected[name])


def test_the_state_of_another_subset_is_refused():
    """Of the same number of values, too: both projections have 66."""
    state = dg.optim.AdamW(freeze(make_model(), "linear1.weight"), 0.01).state_dict()
    other = dg.optim.AdamW(freeze(make_model(), "linear2.weight"), 0.01)
    with pytest.raises(ValueError, match=r"the state must hold mean.linear1.weight, which this optimizer trains, got"):
        other.load_state_dict(state)
    fewer = dg.optim.AdamW(freeze(make_model(), "linear1.weight", "linear1.bias"), 0.01)
    with pytest.raises(ValueError, match=r"the state holds mean.linear1.bias, which this optimizer does not train"):
        fewer.load_state_dict(state)
    with pytest.raises(ValueError, match="the state must hold step, got none"):
        fewer.load_state_dict({})
    wrong = state | {"variance.linear2.weight": np.zeros((11, 6), np.float32)}
    same = dg.optim.AdamW(freeze(make_model(), "linear1.weight"), 0.01)
    with pytest.raises(ValueError, match=r"variance.linear2.weight must have shape \(6, 11\), got \(11, 6\)"):
        same.load_state_dict(wrong | {"mean.linear2.weight": np.ones((6, 11), np.float32)})
    assert not same.state_dict()["mean.linear2.weight"].any(), "a state that does not fit changes nothing"


def flat_state(model, moments, step):
    """The state that AdamW wrote before its moments had names: backward order, each on a multiple of 16 floats."""
    flat = {"step": np.array(step, np.int64)}
    for kind in ("mean", "variance"):
        pieces = []
        for name in reversed([name for name, _ in model.named_parameters()]):
            piece = moments[f"{kind}.{name}"].ravel()
            pieces += [piece, np.zeros(-piece.size % 16, np.float32)]
        flat[kind] = np.concatenate(pieces)
    return flat


def test_the_flat_state_of_earlier_versions_is_taken_where_all_is_trained():
    model = make_model()
    optimizer = dg.optim.AdamW(model, 0.01)
    set_gradients(model, 0)
    optimizer.step()
    named = optimizer.state_dict()
    flat = flat_state(model, named, 1)
    resumed = dg.optim.AdamW(make_model(), 0.01)
    resumed.load_state_dict(flat)
    for name, array in resumed.state_dict().items():
        np.testing.assert_array_equal(array, named[name])
    with pytest.raises(ValueError, match=r"mean must have shape \(192,\), got \(240,\)"):
        resumed.load_state_dict(flat | {"mean": np.zeros(240, np.float32)})
    subset = dg.optim.AdamW(freeze(make_model(), "linear1.weight"), 0.01)
    with pytest.raises(ValueError, match=r"fits only where all parameters are trained, and linear1.weight is frozen"):
        subset.load_state_dict(flat)


@pytest.mark.parametrize("habit", ["before backward", "after backward"])
def test_a_grad_set_to_none_counts_as_zeros_and_a_new_one_is_taken(habit):
    """The habit from PyTorch, `for p in model.parameters(): p.grad = None`: once, the step then moved nothing."""
    expected, model = make_model(), make_model()
    optimizers = [dg.optim.AdamW(m, 0.01, max_grad_norm=1.0) for m in (expected, model)]
    for seed in range(3):
        set_gradients(expected, seed)
        if habit == "after backward":
            set_gradients(model, seed + 10)
        for parameter in model.parameters():
            parameter.grad = None
        set_gradients(model, seed)
        assert optimizers[0].step() == optimizers[1].step() > 0
        for a, b in zip(expected.parameters(), model.parameters(), strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_zero_grad_clears_a_grad_that_was_replaced():
    model = make_model()
    optimizer = dg.optim.AdamW(model, 0.01)
    model.linear1.bias.grad = dg.tensor(np.ones(11, np.float32))
    assert optimizer.bad_gradient() is None
    model.linear1.bias.grad = dg.tensor(np.full(11, np.nan, np.float32))
    assert optimizer.bad_gradient() == "linear1.bias"
    optimizer.zero_grad()
    assert not model.linear1.bias.grad.numpy().any()
    assert optimizer.step() == 0.0


def test_a_step_is_refused_where_it_would_not_reach_the_model():
    model = freeze(make_model(), "linear2.bias")
    first = dg.optim.AdamW(model, 0.01)
    model.linear2.bias.requires_grad = True
    with pytest.raises(RuntimeError, match=r"linear2.bias was frozen when AdamW was made and is trainable now"):
        first.step()
    model = make_model()
    first = dg.optim.AdamW(model, 0.01)
    model.linear2.bias.requires_grad = False
    with pytest.raises(RuntimeError, match=r"linear2.bias was frozen after AdamW was made"):
        first.step()
    model.linear2.bias.requires_grad = True
    second = dg.optim.AdamW(model, 0.01)
    set_gradients(model, 0)
    with pytest.raises(
        RuntimeError, match=r"linear2.bias has moved out of this optimizer's memory, to that of a later"
    ):
        first.step()
    assert second.step() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "AdamW: lr must be at least 0, got -1.0"),
        ({"lr": 0.1, "betas": (1.0, 0.9)}, r"AdamW: betas\[0\] must lie in \[0, 1\), got 1.0"),
        ({"lr": 0.1, "eps": 0.0}, "AdamW: eps must be above 0, got 0.0"),
        ({"lr": 0.1, "weight_decay": -0.1}, "AdamW: weight_decay must be at least 0, got -0.1"),
        ({"lr": 0.1, "max_grad_norm": 0.0}, "AdamW: max_grad_norm must be above 0, got 0.0"),
        (
            {"lr": 0.1, "groups": [GROUPS[1], GROUPS[0]]},
            r"groups\[1\] must match a trainable parameter that no earlier group has, got 'linear1.bias'",
        ),
        (
            {"lr": 0.1, "groups": [dg.optim.ParameterGroup("encoder.*")]},
            r"AdamW: groups\[0\] must match a trainable parameter .*, got 'encoder",
        ),
    ],
    ids=str,
)
def test_errors_name_the_argument(options, message):
    with pytest.raises(ValueError, match=message):
        dg.optim.AdamW(make_model(), **options)


def test_a_learning_rate_is_checked_where_it_is_set():
    optimizer = dg.optim.AdamW(make_model(), 0.01)
    with pytest.raises(ValueError, match="AdamW: lr must be at least 0, got -1"):
        optimizer.lr = -1
    with pytest.raises(ValueError, match="AdamW: lr must be finite in float32, got nan"):
        optimizer.lr = float("nan")
    assert optimizer.lr == 0.01


def on_test_device(model):
    """The model with its parameters in the memory of the device "test"."""
    for parameter in model.parameters():
        parameter.data = dg.tensor(parameter.numpy(), device="test").data
    return model


@pytest.mark.cpu
def test_a_step_on_a_device_reads_the_norm_alone(rng, monkeypatch):
    """Both optimizers get the same gradients; the bits are those of the CPU."""
    monkeypatch.setattr(dg.random, "_step_at", {})  # no Program with dropout follows the step
    models = [make_model(), on_test_device(make_model())]
    optimizers = [dg.optim.AdamW(model, 0.01, weight_decay=0.1, max_grad_norm=1.0) for model in models]
    averages = [ExponentialAverage(model, 0.5) for model in models]
    for step in range(1, 4):
        gradients = [rng.standard_normal(p.shape).astype(np.float32) for p in models[0].parameters()]
        for model in models:
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter.grad = dg.tensor(gradient, device=parameter.device)
        before = _core.test_device_counts()
        norm = optimizers[1].step()
        averages[1].update(step)
        after = _core.test_device_counts()
        assert after["downloads"] - before["downloads"] == 1
        assert after["uploads"] == before["uploads"]
        assert optimizers[0].step() == norm > 1.0
        averages[0].update(step)
    for on_cpu, on_device in [(models[0], models[1]), (optimizers[0], optimizers[1]), (averages[0], averages[1])]:
        state = on_device.state_dict()
        for name, array in on_cpu.state_dict().items():
            np.testing.assert_array_equal(state[name], array)
    optimizers[1].load_state_dict(optimizers[0].state_dict())
    models[1].linear1.bias.grad.copy_(np.full(11, np.inf, np.float32))
    with pytest.raises(FloatingPointError, match=r"got inf; the first bad one is of linear1.bias"):
        optimizers[1].step()
    assert optimizers[1].step_count == 3
