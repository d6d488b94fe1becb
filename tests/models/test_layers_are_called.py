"""Every product of a model goes through its Linear: in training, in the loss and in decoding."""

import dragoman as dg
import numpy as np
import pytest
from dragoman import nn
from dragoman.generate import generate

CONFIG = dg.TransformerConfig(
    vocab_size=13, d_model=8, num_heads=2, d_ff=12, num_encoder_layers=2, num_decoder_layers=2, output_bias=True
).with_dropout(0.0)
SRC, TGT = [[5, 6, 7], [8, 9]], [[4, 5], [6]]
FED = [[1, *ids] for ids in TGT]


class Doubled(nn.Linear):
    """Twice the product, as an adapter or an int8 weight would change it; counts its calls."""

    calls = 0

    def __call__(self, x, sequences=None, *, activation="none", dropout=0.0):
        self.calls += 1
        return super().__call__(x * 2.0, sequences, activation=activation, dropout=dropout)


def make_model():
    dg.manual_seed(0)
    model = dg.Transformer(CONFIG)
    rng = np.random.default_rng(1)
    state = {name: rng.normal(0, 0.5, array.shape).astype(np.float32) for name, array in model.state_dict().items()}
    model.load_state_dict({name: array + ("norm" in name) for name, array in state.items()})
    return model


LINEARS = [name for name, module in make_model().named_modules() if isinstance(module, nn.Linear)]


def replace(model, name):
    """Puts a Doubled in the place of a Linear, with the weights it has."""
    parent, _, attribute = name.rpartition(".")
    owner = dict(model.named_modules())[parent]
    linear = getattr(owner, attribute)
    doubled = Doubled(*reversed(linear.weight.shape), weight=linear.weight)
    doubled.bias = linear.bias
    setattr(owner, attribute, doubled)
    return doubled


def test_a_model_has_this_many_linears():
    assert len(LINEARS) == 2 * (4 + 2) + 2 * (4 + 4 + 2) + 1


@pytest.mark.parametrize("name", LINEARS)
def test_a_subclass_is_called(name):
    plain, model = make_model(), make_model()
    doubled = replace(model, name)

    loss = model.loss(SRC, TGT)
    assert doubled.calls == 1
    assert loss.item() != plain.loss(SRC, TGT).item()
    loss.backward()
    assert np.isfinite(doubled.weight.grad.numpy()).all() and doubled.weight.grad.numpy().any()

    assert np.abs(model.logits(SRC, FED) - plain.logits(SRC, FED)).max() > 1e-4
    assert doubled.calls == 2

    found, others = (generate(m, SRC, beam=3, max_length=4) for m in (model, plain))
    assert doubled.calls > 2
    assert found != others


def test_the_loss_is_that_of_the_subclasss_logits():
    model = make_model()
    replace(model, "output")
    logits = model(SRC, FED)
    expected = dg.functional.cross_entropy(logits, [4, 5, 2, 6, 2], label_smoothing=0.1)
    assert model.loss(SRC, TGT).item() == expected.item()


def test_a_subclass_may_have_a_cross_entropy_of_its_own():
    class Scaled(Doubled):
        def cross_entropy(self, x, ids, **options):
            return nn.Linear.cross_entropy(nn.Linear(8, 13), x, ids, **options) * 0.0

    model = make_model()
    model.output = Scaled(8, 13)
    assert model.loss(SRC, TGT).item() == 0 and model.output.calls == 0


def test_cross_entropy_of_a_linear(rng):
    layer, x, ids = nn.Linear(6, 9), dg.tensor(rng.standard_normal((5, 6))), [3, -1, 8, 0, 2]
    options = {"label_smoothing": 0.2, "num_targets": 7, "sequences": dg.Sequences([2, 3])}
    expected = dg.functional.cross_entropy(layer(x), ids, **options).item()
    assert layer.cross_entropy(x, ids, **options).item() == pytest.approx(expected, rel=1e-6)
    for kind in ("none", "relu", "gelu"):
        expected = dg.functional.linear(x, layer.weight, layer.bias, activation=kind)
        np.testing.assert_array_equal(layer(x, activation=kind), expected)
    assert 0.2 < (layer(dg.tensor(np.ones((200, 6))), dropout=0.5).numpy() == 0).mean() < 0.8


def test_a_call_is_on_the_tape_in_training_and_is_what_logits_gives():
    model = make_model()
    logits = model(SRC, FED)
    assert logits.requires_grad and logits.shape == (5, 13)
    np.testing.assert_array_equal(logits, model.logits(SRC, FED))
    dg.functional.cross_entropy(logits, [4, 5, 2, 6, 2]).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    with model.inference():
        assert not model(SRC, FED).requires_grad
    low = dg.Transformer(CONFIG, compute_dtype="bfloat16")
    assert low(SRC, FED).dtype == "bfloat16" and low.eval()(SRC, FED).dtype == "float32"
