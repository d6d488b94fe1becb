"""What users do to a model after its AdamW was made: it is taken up, or an error."""

import dragoman as dg
import numpy as np
import pytest
from dragoman import nn


class Net(nn.Module):
    def __init__(self, compute_dtype="float32"):
        self.compute_dtype = compute_dtype
        self.first = nn.Linear(5, 7)
        self.layers = [nn.Linear(7, 7), nn.Linear(7, 3)]

    def loss(self):
        x = self.first(dg.functional.cast(dg.tensor(np.ones((4, 5), np.float32)), self.compute_dtype))
        for layer in self.layers:
            x = layer(x)
        return dg.functional.cast(x, "float32").mean()


def trained():
    """A model and its AdamW after a step, with gradients for the next one."""
    model = Net()
    optimizer = dg.optim.AdamW(model, 0.01)
    model.loss().backward()
    optimizer.step()
    model.loss().backward()
    return model, optimizer


def values(model):
    return [parameter.numpy().copy() for parameter in model.parameters()]


@pytest.mark.cpu
@pytest.mark.parametrize(
    ("grad", "error", "message"),
    [
        ("text", TypeError, "grad must be a Tensor, got str"),
        (0, TypeError, "grad must be a Tensor, got int"),
        (np.ones((7, 5), np.float32), TypeError, "grad must be a Tensor, got ndarray"),
        (dg.tensor(np.ones((7, 5), np.int32)), TypeError, "grad must be float32, got int32"),
        (dg.tensor(np.ones(7, np.float32)), ValueError, r"grad must have shape \(7, 5\) on \w+, got \(7,\) on cpu"),
    ],
    ids=str,
)
def test_a_grad_that_is_none_is_named(grad, error, message):
    model, optimizer = trained()
    before = values(model)
    model.first.weight.grad = grad
    with pytest.raises(error, match=f"AdamW: first.weight.{message}"):
        optimizer.step()
    for was, now in zip(before, values(model), strict=True):
        np.testing.assert_array_equal(was, now)
    optimizer.zero_grad()
    assert optimizer.step() == 0.0


@pytest.mark.parametrize("grad", ["text", 0, np.ones(3, np.float32)], ids=str)
def test_backward_names_a_grad_that_is_none(grad):
    x = dg.tensor(np.ones(3, np.float32), requires_grad=True)
    x.grad = grad
    with pytest.raises(TypeError, match="backward: grad must be a Tensor, got "):
        (x * 2.0).sum().backward()


@pytest.mark.parametrize("value", ["no", None, 0, np.ones(2)], ids=str)
def test_requires_grad_must_be_a_bool(value):
    model, optimizer = trained()
    model.first.weight.requires_grad = value
    with pytest.raises(TypeError, match=r"AdamW: first.weight.requires_grad must be a bool, got "):
        optimizer.step()
    with pytest.raises(TypeError, match=r"AdamW: first.weight.requires_grad must be a bool, got "):
        dg.optim.AdamW(model, 0.01)


def test_a_numpy_bool_is_a_bool():
    model, optimizer = trained()
    model.first.weight.requires_grad = np.True_
    assert optimizer.step() > 0
    model.first.weight.requires_grad = np.False_
    with pytest.raises(RuntimeError, match=r"AdamW: first.weight was frozen after AdamW was made"):
        optimizer.step()


def replace_parameter(model):
    model.first.weight = nn.Linear(5, 7).weight


def remove_parameter(model):
    del model.first.bias


def replace_module(model):
    model.first = nn.Linear(5, 7)


def replace_layer(model):
    model.layers[1] = nn.Linear(7, 3)


def remove_layer(model):
    model.layers.pop()


def replace_list(model):
    model.layers = [nn.Linear(7, 7), nn.Linear(7, 3)]


@pytest.mark.parametrize(
    ("replace", "name"),
    [
        (replace_parameter, "first.weight"),
        (remove_parameter, "first.bias"),
        (replace_module, "first"),
        (replace_layer, "layers.1"),
        (remove_layer, "layers.1"),
        (replace_list, "layers"),
    ],
)
def test_a_step_is_refused_where_a_part_of_the_model_was_replaced(replace, name):
    model, optimizer = trained()
    replace(model)
    with pytest.raises(RuntimeError, match=f"AdamW: {name} was replaced in the model after AdamW was made"):
        optimizer.step()
    after = dg.optim.AdamW(model, 0.01)
    model.parameters()[0].grad = dg.tensor(np.ones(model.parameters()[0].shape, np.float32))
    assert after.step() > 0


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_a_state_loaded_later_is_what_the_next_step_starts_from(compute_dtype):
    first, second = Net(compute_dtype), Net(compute_dtype)
    state = second.state_dict()
    optimizers = [dg.optim.AdamW(model, 0.01) for model in (first, second)]
    first.load_state_dict(state)
    losses = []
    for model, optimizer in zip((first, second), optimizers, strict=True):
        losses.append(model.loss().item())
        model.loss().backward()
        optimizer.step()
        losses.append(model.loss().item())
    assert losses[:2] == losses[2:]
    for a, b in zip(values(first), values(second), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_second_optimizer_takes_over_and_the_first_says_so():
    model, first = trained()
    second = dg.optim.AdamW(model, 0.01)
    assert second.step() > 0
    with pytest.raises(RuntimeError, match=r"first.weight has moved out of this optimizer's memory|layers.1.bias has"):
        first.step()
