"""copy.deepcopy and pickle of tensors, modules, models and translators: equal values, memory of their own."""

import copy
import pickle
import subprocess
import sys

import dragoman as dg
import numpy as np
import pytest
from dragoman import nn

CONFIG = dg.TransformerConfig.tiny(vocab_size=30).with_dropout(0.0)
SOURCES, TARGETS = [[4, 5, 6], [7]], [[8, 9], [4, 5, 6]]


def pickled(value):
    return pickle.loads(pickle.dumps(value))


COPIES = {"deepcopy": copy.deepcopy, "pickle": pickled}
each_copy = pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)


@each_copy
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "int64", "bool", "int8", "uint8"])
@pytest.mark.parametrize("shape", [(), (3, 4), (0, 2)])
def test_tensors(rng, copied, dtype, shape):
    x = dg.tensor(rng.integers(0, 2, shape), dtype=dtype)
    y = copied(x)
    assert (y.dtype, y.requires_grad, y.grad) == (x.dtype, False, None)
    np.testing.assert_array_equal(y.numpy(), x.numpy())
    y.copy_(np.ones(shape) - x.numpy().astype(float))
    assert not x.size or (y.numpy() != x.numpy()).all()


@each_copy
def test_leaves_keep_their_flag_and_leave_the_gradient(rng, copied):
    x = dg.tensor(rng.standard_normal((2, 3)), dtype="float32", requires_grad=True)
    x.sum().backward()
    y = copied(x)
    assert y.requires_grad
    assert y.grad is None
    (y * 3.0).sum().backward()
    np.testing.assert_array_equal(y.grad.numpy(), np.full((2, 3), 3))
    np.testing.assert_array_equal(x.grad.numpy(), np.ones((2, 3)))


@each_copy
def test_what_an_op_made_must_be_detached(rng, copied):
    y = dg.tensor([1.0, 2.0], requires_grad=True) * 2.0
    with pytest.raises(RuntimeError, match="copy: a tensor that an op on the tape made cannot be copied or pickled"):
        copied(y)
    np.testing.assert_array_equal(copied(y.detach()).numpy(), [2, 4])


class Named(nn.Parameter):
    """A user's subclass with state and another constructor."""

    def __init__(self, name, array):
        super().__init__(array)
        self.name = name


@each_copy
def test_parameters_are_parameters(copied):
    named = Named("gain", np.arange(3))
    named.requires_grad = False
    other = copied(named)
    assert (type(other), other.name, other.requires_grad) == (Named, "gain", False)
    np.testing.assert_array_equal(other.numpy(), [0, 1, 2])


@each_copy
def test_a_parameter_in_two_places_stays_one(copied):
    layer = nn.Linear(4, 4)
    pair = copied([layer, nn.Linear(4, 4, weight=layer.weight)])
    assert pair[0].weight is pair[1].weight
    assert pair[0].weight is not layer.weight


@each_copy
@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_models(copied, compute_dtype):
    """After training under an optimizer and after decoding: the arena, gradients and packed weights stay behind."""
    model = dg.Transformer(CONFIG, compute_dtype)
    optimizer = dg.optim.AdamW(model, lr=0.01)

    def step(model, optimizer):
        model.loss(SOURCES, TARGETS).backward()
        optimizer.step()

    step(model, optimizer)
    expected = model.logits(SOURCES, TARGETS)
    other = copied(model)
    assert [name for name, _ in other.named_parameters()] == [name for name, _ in model.named_parameters()]
    assert (other.training, other.compute_dtype) == (model.training, compute_dtype)
    np.testing.assert_array_equal(other.logits(SOURCES, TARGETS), expected)
    step(model, optimizer)
    np.testing.assert_array_equal(other.logits(SOURCES, TARGETS), expected)
    changed = model.logits(SOURCES, TARGETS)
    assert (changed != expected).any()
    step(other, dg.optim.AdamW(other, lr=0.01))
    np.testing.assert_array_equal(model.logits(SOURCES, TARGETS), changed)


@each_copy
def test_an_optimizer_says_what_to_do(copied):
    with pytest.raises(TypeError, match=r"AdamW: an optimizer cannot be copied .* load state_dict\(\)"):
        copied(dg.optim.AdamW(nn.Linear(2, 2), lr=0.1))


class Digits(dg.Tokenizer):
    """A tokenizer without the library of the others."""

    vocab_size = 30

    def __init__(self):
        pass

    def encode_batch(self, texts):
        return [[4 + int(letter) for letter in text] for text in texts]

    def decode(self, ids):
        return "".join(chr(97 + i) for i in ids)


@each_copy
def test_translators(copied):
    translator = dg.Translator(dg.Transformer(CONFIG), Digits())
    expected = translator(["123", "4"], beam=2, max_length=5)
    other = copied(translator)
    assert other(["123", "4"], beam=2, max_length=5) == expected
    assert other.submit("123", beam=2, max_length=5).result() == expected[0]


def test_a_model_goes_to_another_process(tmp_path):
    model = dg.Transformer(CONFIG)
    path = tmp_path / "model.pickle"
    path.write_bytes(pickle.dumps(model))
    code = f"""if True:
        import pickle, sys
        model = pickle.load(open({str(path)!r}, "rb"))
        assert model.output.weight is model.src_embedding.weight
        sys.stdout.buffer.write(model.logits({SOURCES}, {TARGETS}).tobytes())
    """
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert there == model.logits(SOURCES, TARGETS).tobytes()
