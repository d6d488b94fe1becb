"""The moving average of weights against float64."""

import dragoman as dg
import numpy as np
import pytest
from dragoman.train.averaging import ExponentialAverage
from toy_runs import model_of


def test_the_moving_average_matches_float64(rng):
    """Every update of every weight; the gain is at first that of a short memory."""
    model = model_of()
    average = ExponentialAverage(model, 0.5)
    truth = {name: array.astype(np.float64) for name, array in model.state_dict().items()}
    for count in range(1, 8):
        gain = 1 - min(0.5, (1 + count) / (10 + count))
        for name, parameter in model.named_parameters():
            parameter.copy_(rng.standard_normal(parameter.shape).astype(np.float32))
            truth[name] += gain * (parameter.numpy() - truth[name])
        average.update(count)
    for name, array in average.state_dict().items():
        np.testing.assert_allclose(array, truth[name], rtol=1e-5, atol=1e-6)


def test_it_follows_the_weights_into_an_optimizer(rng):
    """AdamW moves the memory of the parameters."""
    model = dg.nn.Linear(3, 2)
    average = ExponentialAverage(model, 0.0)
    dg.optim.AdamW(model, 0.1)
    model.weight.copy_(rng.standard_normal((2, 3)).astype(np.float32))
    average.update(1)
    np.testing.assert_allclose(average.state_dict()["weight"], model.weight.numpy(), rtol=1e-6)


def test_frozen_parameters_have_no_average():
    model = dg.nn.Linear(3, 2)
    model.weight.requires_grad = False
    assert ExponentialAverage(model, 0.9).state_dict().keys() == {"bias"}


def test_the_state_comes_back():
    model = dg.nn.Linear(3, 2)
    average = ExponentialAverage(model, 0.9)
    state = average.state_dict()
    model.weight.copy_(np.ones((2, 3), np.float32))
    average.update(1)
    assert (average.state_dict(copy=False)["weight"] != state["weight"]).all()
    average.load_state_dict(state)
    np.testing.assert_array_equal(average.state_dict(copy=False)["weight"], state["weight"])
    with pytest.raises(ValueError, match=r"ema: weight must have shape \(2, 3\), got \(3, 2\)"):
        average.load_state_dict(state | {"weight": state["weight"].T})
    with pytest.raises(ValueError, match=r"ema: bias must have shape \(2,\), got none"):
        average.load_state_dict({"weight": state["weight"]})
