"""A body from a trained folder, frozen parameters, learning rates by layer."""

import dragoman as dg
import numpy as np
import pytest
from dragoman.models import load_body
from dragoman.train import Classification, Trainer, layer_groups
from family import OPTIONS, encoder_for, encoder_of, reviews_of, tokenizer_of
from toy_runs import model_of

pytestmark = pytest.mark.usefixtures("one_thread")


def classifier(seed=1, **fields):
    return encoder_of(seed, **{"vocab_size": 300, "head": "classify", "labels": ["neg", "pos"], **fields})


def test_a_classifier_takes_the_body_of_a_masked_lm(tmp_path):
    body = encoder_of(0, vocab_size=300, head="mlm", mask_id=299)
    body.save(tmp_path)
    model = classifier()
    head = model.state_dict()["head.output.weight"]
    report = load_body(model, tmp_path)
    state = model.state_dict()
    assert report.new == ("head.output.weight",)
    assert report.other_shape == ("head.output.bias",)
    assert set(report.taken) == {name for name in state if not name.startswith("head")}
    for name in report.taken:
        np.testing.assert_array_equal(state[name], body.state_dict()[name])
    np.testing.assert_array_equal(state["head.output.weight"], head)
    assert "head.transform.weight" in report.unused


def test_what_has_another_shape_keeps_its_values(tmp_path):
    classifier(0, positions="learned", max_length=20).save(tmp_path)
    model = classifier(1, positions="learned", max_length=30)
    before = model.state_dict()
    report = load_body(model, tmp_path)
    assert report.other_shape == ("positions.weight",)
    assert report.new == report.unused == ()
    np.testing.assert_array_equal(model.state_dict()["positions.weight"], before["positions.weight"])
    assert str(report).splitlines()[1] == "1 of another shape, so new: positions.weight"


def test_a_folder_that_has_nothing_in_common_is_refused(tmp_path):
    classifier().save(tmp_path)
    with pytest.raises(ValueError, match=r"model\.safetensors: must hold a parameter that the model has"):
        load_body(dg.nn.Linear(3, 3), tmp_path)
    with pytest.raises(TypeError, match="load_body: model must be a Module, got str"):
        load_body("model", tmp_path)
    with pytest.raises(FileNotFoundError):
        load_body(classifier(), tmp_path / "none")


@pytest.mark.cpu
def test_a_frozen_folder_is_refused(tmp_path):
    classifier().freeze("int8").save(tmp_path)
    with pytest.raises(
        ValueError, match=r"must be float32, .* got int8, as in a frozen model; give the one that it was"
    ):
        load_body(classifier(), tmp_path)


def test_learning_rates_fall_with_depth():
    model = classifier(num_layers=3)
    scales = {group.pattern: group.lr_scale for group in layer_groups(model, 0.5)}
    assert scales["embedding.weight"] == 0.125
    assert scales["encoder.layers.0.norm1.bias"] == 0.25
    assert scales["encoder.layers.1.feed_forward.linear2.weight"] == 0.5
    assert not any("layers.2" in name or name.startswith("head") for name in scales)
    assert len(scales) == 1 + 2 * sum(1 for name, _ in model.named_parameters() if "layers.0" in name)
    pairs = {group.pattern: group.lr_scale for group in layer_groups(model_of(), 0.5)}
    assert pairs["src_embedding.weight"] == 0.25
    assert pairs["encoder.layers.0.norm1.bias"] == 0.5
    assert "decoder.layers.0.norm1.bias" not in pairs
    with pytest.raises(ValueError, match="model must have TransformerLayers, got Linear without one"):
        layer_groups(dg.nn.Linear(2, 2), 0.5)


@pytest.mark.parametrize("decay", [0.0, 1.5])
def test_another_decay_is_refused(decay):
    with pytest.raises(ValueError, match="layer_groups: decay must be"):
        layer_groups(classifier(), decay)
    with pytest.raises(ValueError, match="Trainer: layer_decay must be"):
        Trainer(classifier(), task=Classification(labels=["neg", "pos"]), layer_decay=decay)


def change(**options):
    """How far one step moves each parameter of a model."""
    pytest.importorskip("tokenizers")
    task = Classification(tokenizer_of(), ["neg", "pos"])
    model = encoder_for(task, num_layers=2, dropout=0.0, embedding_dropout=0.0)
    before = model.state_dict()
    examples = reviews_of(np.random.default_rng(0), 20)
    Trainer(model, task=task, max_steps=1, **{**OPTIONS, "warmup": 1}, **options).fit(examples)
    assert all(parameter.requires_grad for parameter in model.parameters())
    return {name: np.abs(array - before[name]).max() for name, array in model.state_dict().items()}


def test_a_step_follows_the_layers_rates():
    plain, decayed = change(), change(layer_decay=0.1)
    for name, factor in (
        ("head.output.weight", 1.0), ("encoder.layers.1.norm1.weight", 1.0), ("encoder.layers.0.norm1.weight", 0.1),
        ("embedding.weight", 0.01),
    ):  # fmt: skip
        assert decayed[name] == pytest.approx(factor * plain[name], rel=1e-3), name


def test_frozen_parameters_stay():
    moved = change(freeze=["embedding.*", "encoder.layers.0.*"], layer_decay=0.5)
    for name, distance in moved.items():
        assert (distance == 0) == name.startswith(("embedding", "encoder.layers.0")), name
    with pytest.raises(ValueError, match=r"freeze must match the name of a parameter, got 'body\.\*'"):
        change(freeze=["body.*"])
    with pytest.raises(TypeError, match="freeze must be a list of patterns, got str"):
        change(freeze="embedding.*")
