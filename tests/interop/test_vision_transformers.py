"""ViT and DeiT from folders of the Hugging Face layout."""

import dataclasses
import json

import dragoman as dg
import numpy as np
import pytest
from dragoman import lora
from dragoman.models import VisionConfig, VisionTransformer
from huggingface_folders import assert_close, change_json, checkpoint, expected, losses
from safetensors.numpy import load_file, save_file

SIZES = {"d_model": 8, "num_layers": 2, "num_heads": 2, "d_ff": 11, "image_size": 6, "patch_size": 2, "channels": 3}
KINDS = {
    "vit": {"labels": ("a", "b", "c"), "activation": "gelu", "norm_eps": 1e-12},
    "vit without biases": {"attention_bias": "o", "activation": "gelu_tanh", "label_kind": "several", "labels": ("a",)},
    "vit without a head": {"activation": "silu", "norm_eps": 1e-6},
    "deit": {"labels": ("a", "b", "c"), "distillation": "token"},
    "deit with teacher": {"labels": ("a", "b", "c"), "distillation": "head"},
    "deit without a head": {"distillation": "token"},
}
IMAGES = {"mean": (0.4, 0.5, 0.6), "std": (0.1, 0.2, 0.3), "resize": 9, "resample": "bicubic"}


def model_of(kind, **fields):
    rates = {"dropout": 0.1, "embedding_dropout": 0.1, "attention_dropout": 0.2}
    model = VisionTransformer(VisionConfig(**SIZES | KINDS[kind] | rates | fields)).eval()
    rng = np.random.default_rng(3)
    for parameter in model.parameters():
        parameter.copy_((parameter.numpy() + rng.normal(0, 0.2, parameter.shape)).astype(np.float32))
    return model


def written(folder, kind, **fields):
    model = model_of(kind, **fields)
    model.save_pretrained(folder, model_type=kind.split()[0])
    return model


@pytest.mark.parametrize("name", ["vit", "deit"])
def test_outputs_of_transformers(name, tmp_path):
    folder = checkpoint("tiny", name)
    wanted, model = expected(folder), dg.load(folder)
    images = wanted["x"].transpose(0, 2, 3, 1) * 0.5 + 0.5  # theirs have the mean 0.5 and the deviation 0.5
    assert_close(model.logits(images), wanted["out"])
    model.save(tmp_path / "ours")
    model.save_pretrained(tmp_path / "theirs")
    for again in (dg.load(tmp_path / "ours"), dg.load(tmp_path / "theirs")):
        np.testing.assert_array_equal(again.logits(images), model.logits(images))
    found = dg.ImageClassifier.load(folder)(images)
    assert [each.label for each in found] == [f"LABEL_{i}" for i in wanted["out"].argmax(1)]


@pytest.mark.parametrize("images", [{}, IMAGES], ids=["", "preprocessor"])
@pytest.mark.parametrize("kind", KINDS)
def test_written_and_read_again(kind, images, tmp_path, rng):
    model = written(tmp_path, kind, **images)
    again = dg.load(tmp_path)
    every = {name: values * (3 // len(values)) for name in ("mean", "std") if (values := getattr(model.config, name))}
    assert again.config == dataclasses.replace(model.config, **every)  # a number for each channel
    pixels = rng.integers(0, 256, (2, 6, 6, 3), np.uint8)
    np.testing.assert_array_equal(again.logits(pixels), model.logits(pixels))


@pytest.mark.parity
@pytest.mark.parametrize("kind", KINDS)
def test_transformers_reads_what_was_written_and_the_reverse(kind, tmp_path, rng):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    model = written(tmp_path, kind)
    name = json.loads((tmp_path / "config.json").read_text())["architectures"][0]
    theirs, report = getattr(transformers, name).from_pretrained(tmp_path, output_loading_info=True)
    assert not {key for key in report["missing_keys"] if "pooler" not in key} and not report["unexpected_keys"]
    pixels = rng.random((2, 6, 6, 3)).astype(np.float32)

    def compare(own, other):
        with torch.no_grad():
            found = other(pixel_values=torch.tensor((pixels * 2 - 1).transpose(0, 3, 1, 2)))
        rows = found.last_hidden_state if "without a head" in kind else found.logits
        assert_close(own.logits(pixels), rows.numpy().reshape(-1, rows.shape[-1]))

    compare(model, theirs.eval())
    theirs.save_pretrained(tmp_path / "back")
    compare(dg.load(tmp_path / "back"), theirs)


@pytest.mark.parity
@pytest.mark.parametrize("kind", ["vit", "deit"])
def test_images_are_scaled_as_transformers_does_it(kind, tmp_path, rng):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    pytest.importorskip("PIL")
    crop = {} if kind == "deit" else {"resize": 6, "resample": "bilinear"}
    written(tmp_path, kind, **IMAGES | crop)
    image = rng.integers(0, 256, (17, 11, 3), np.uint8)
    prepare = getattr(transformers, {"vit": "ViTImageProcessorPil", "deit": "DeiTImageProcessorPil"}[kind])
    pixels = prepare.from_pretrained(tmp_path)(image, return_tensors="pt")["pixel_values"]
    name = json.loads((tmp_path / "config.json").read_text())["architectures"][0]
    with torch.no_grad():
        scores = getattr(transformers, name).from_pretrained(tmp_path).eval()(pixel_values=pixels).logits[0]
    found = dg.ImageClassifier.load(tmp_path)(image)
    expected = torch.softmax(scores, -1).numpy()
    np.testing.assert_allclose([found[label] for label in ("a", "b", "c")], expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["vit", "deit with teacher"])
def test_it_learns_with_and_without_lora(kind, tmp_path, rng):
    written(tmp_path, kind, dropout=0.0, embedding_dropout=0.0)
    pixels = rng.integers(0, 256, (4, 6, 6, 3), np.uint8)
    for adapted in (False, True):
        model = dg.load(tmp_path)
        if adapted:
            lora.add(model, rank=2)
        found = losses(model, 2e-2 if adapted else 5e-3, pixels, [0, 2, 1, 1])
        assert np.mean(found[-3:]) < np.mean(found[:3])


def test_names_of_newer_files(tmp_path, rng):
    model = written(tmp_path, "vit")
    state = load_file(tmp_path / "model.safetensors")
    changes = {"encoder.layer": "layers", "attention.attention.query": "attention.q_proj"}
    changes |= {"attention.attention.key": "attention.k_proj", "attention.attention.value": "attention.v_proj"}
    changes |= {"attention.output.dense": "attention.o_proj", "intermediate.dense": "mlp.fc1"}
    changes |= {"output.dense": "mlp.fc2"}
    renamed = {}
    for name, array in state.items():
        for old, new in changes.items():
            name = name.replace(old, new)
        renamed[name] = array
    assert sum("mlp.fc2" in name for name in renamed) == 4
    save_file(renamed, tmp_path / "model.safetensors")
    pixels = rng.integers(0, 256, (2, 6, 6, 3), np.uint8)
    np.testing.assert_array_equal(dg.load(tmp_path).logits(pixels), model.logits(pixels))


def test_sizes_and_images_of_older_files(tmp_path):
    written(tmp_path, "vit")
    change_json(tmp_path / "config.json", image_size=[6, 6], patch_size=[2, 2])
    old = {
        "do_resize": True,
        "size": 6,
        "resample": 2,
        "do_normalize": True,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(old))
    config = dg.load(tmp_path).config
    assert (config.image_size, config.patch_size, config.resize, config.resample) == (6, 2, 6, "bilinear")
    change_json(tmp_path / "preprocessor_config.json", do_normalize=False, do_resize=False)
    config = dg.load(tmp_path).config
    assert (config.mean, config.std, config.resize) == ((0.0,), (1.0,), None)


@pytest.mark.parametrize(
    ("file", "fields", "message"),
    [
        ("config.json", {"architectures": ["ViTForMaskedImageModeling"]}, "architectures must be a list of one name"),
        ("config.json", {"image_size": [6, 8]}, "image_size must be an int of at least 1, or a list of two"),
        ("config.json", {"patch_size": 4}, "patch_size must be a divisor of image_size = 6, got 4"),
        ("config.json", {"hidden_act": "quick"}, "hidden_act must be one of"),
        ("preprocessor_config.json", {"size": {"shortest_edge": 9}}, 'size must be an int, or an object with "height"'),
        (
            "preprocessor_config.json",
            {"size": {"height": 9, "width": 8}},
            'size must be an int, or an object with "height"',
        ),
        ("preprocessor_config.json", {"do_rescale": False}, "do_rescale must be true"),
        ("preprocessor_config.json", {"rescale_factor": 1 / 127.5}, "rescale_factor must be 1 / 255"),
        ("preprocessor_config.json", {"resample": 4}, "resample must be one of 0, 1, 2, 3, got 4"),
        ("preprocessor_config.json", {"crop_size": 7}, "crop_size must be 6, the image_size of the model"),
        ("preprocessor_config.json", {"do_center_crop": False}, "size must be 6, the image_size of the model"),
        ("preprocessor_config.json", {"image_std": [0, 1, 1]}, "std must be a list of one number or 3, all above 0"),
    ],
    ids=str,
)
def test_what_is_not_understood_is_refused(file, fields, message, tmp_path):
    written(tmp_path, "vit", **IMAGES)
    change_json(tmp_path / file, **fields)
    with pytest.raises(ValueError, match=message) as found:
        dg.load(tmp_path)
    assert str(tmp_path) in str(found.value)
