"""checkpoint_layers: the same bits with less memory."""

import dragoman as dg
import numpy as np
import pytest
from toy_runs import model_of, pairs_of

RAGGED = ([[4, 5, 6, 7, 8], [], [9], [5, 4] * 9], [[6], [7, 8], [], [4, 5, 6] * 5])


def gradients(config, dtype, checkpointed, frozen=()):
    dg.manual_seed(3)
    model = dg.Transformer(config, dtype)
    model.checkpoint_layers = checkpointed
    for name, parameter in model.named_parameters():
        parameter.requires_grad = not name.startswith(frozen)
    losses = []
    for _ in range(2):  # the second step adds to the gradients of the first
        loss = model.loss(*RAGGED)
        loss.backward()
        losses.append(loss.item())
    named = model.named_parameters()
    return losses, {name: None if x.grad is None else x.grad.numpy().copy() for name, x in named}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("frozen", [(), ("src_embedding", "encoder.layers.0"), ("src_embedding",)], ids=str)
def test_the_bits_are_those_without(dtype, norm_first, frozen):
    config = dg.TransformerConfig(
        vocab_size=12, d_model=16, num_heads=2, d_ff=24, num_encoder_layers=3, num_decoder_layers=2,
        norm_first=norm_first, dropout=0.3, attention_dropout=0.2, activation_dropout=0.1,
    )  # fmt: skip
    losses, plain = gradients(config, dtype, False, frozen)
    again, checkpointed = gradients(config, dtype, True, frozen)
    assert losses == again
    for name, gradient in plain.items():
        np.testing.assert_array_equal(checkpointed[name], gradient, err_msg=name)
        assert (gradient is None) == name.startswith(frozen or "none")


def test_a_plan_knows_it():
    model = dg.Transformer(dg.TransformerConfig.tiny(num_encoder_layers=8, num_decoder_layers=8))
    plain = model.memory_plan(2048)["activations"]
    model.checkpoint_layers = True
    assert model.checkpoint_layers
    assert model.memory_plan(2048)["activations"] < 0.45 * plain


def test_inference_is_as_before():
    model = dg.Transformer(dg.TransformerConfig.tiny(vocab_size=12, num_encoder_layers=1, num_decoder_layers=1))
    plain = model.logits([[4, 5]], [[1, 6]])
    model.checkpoint_layers = True
    np.testing.assert_array_equal(model.logits([[4, 5]], [[1, 6]]), plain)


def test_an_input_that_the_function_does_not_read():
    x, unread = (dg.tensor(np.array([1.0, -2.0]), requires_grad=True) for _ in range(2))
    fixed = x.detach()
    y = dg.functional.checkpoint(lambda fixed, unread: fixed * 2.0, fixed, unread)
    (x * y).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [2.0, -4.0])
    assert unread.grad is None


def test_checkpoint_of_any_function():
    x = dg.tensor(np.array([[1.0, -2.0, 3.0]]), requires_grad=True)
    weight = dg.tensor(np.array([[0.5, 1.0, -1.0]]), requires_grad=True)
    y = dg.functional.checkpoint(lambda x: dg.functional.tanh(x * weight), x * 2.0, parameters=[weight])
    y.backward(np.ones((1, 3), np.float32))
    a, b = (tensor.numpy().astype(np.float64) for tensor in (x, weight))
    slope = 1 - np.tanh(2 * a * b) ** 2
    np.testing.assert_allclose(x.grad.numpy(), 2 * slope * b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(weight.grad.numpy(), 2 * slope * a, rtol=1e-5, atol=1e-6)


def test_errors_name_the_argument():
    x = dg.tensor(np.ones((1, 3)))
    with pytest.raises(TypeError, match="checkpoint: run must be a function, got int"):
        dg.functional.checkpoint(3, x)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"checkpoint: inputs\[1\] must be a Tensor, got list"):
        dg.functional.checkpoint(lambda x: x, x, [1])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Model: checkpoint_layers must be a bool, got int"):
        dg.Transformer(dg.TransformerConfig.tiny(vocab_size=12)).checkpoint_layers = 1  # type: ignore[assignment]


def test_a_run_with_and_without(tmp_path, rng, one_thread):
    """The same weights, also where a run goes on with what it did without before."""

    def train(folder, steps, checkpointed, resume=False):
        model = model_of()
        options = {"output": folder, "warmup": 1, "batch_tokens": 30, "checkpoint_every": 2, "final": "last"}
        trainer = dg.Trainer(model, max_steps=steps, checkpoint_layers=checkpointed, **options)
        assert model.checkpoint_layers == bool(checkpointed)
        trainer.fit(pairs, resume=resume)
        return {name: array.tobytes() for name, array in dg.load(folder).state_dict().items()}

    pairs = pairs_of(rng, 12)
    plain = train(tmp_path / "plain", 4, None)
    assert train(tmp_path / "whole", 4, True) == plain
    train(tmp_path / "parts", 2, True)
    assert train(tmp_path / "parts", 4, False, resume=True) == plain


def test_the_option_needs_layers():
    class Flat(dg.nn.Module):
        compute_dtype = "float32"

    with pytest.raises(ValueError, match="Trainer: checkpoint_layers needs a Model with a TransformerStack, got Flat"):
        dg.Trainer(Flat(), task=Flatten(), lr=1.0, checkpoint_layers=True)
    model = model_of()
    model.checkpoint_layers = True
    dg.Trainer(model)  # as the model stands
    assert model.checkpoint_layers
    dg.Trainer(model, checkpoint_layers=False)
    assert not model.checkpoint_layers


class Flatten(dg.train.LanguageModelling):
    """Takes any model."""

    def check_model(self, model):
        pass
