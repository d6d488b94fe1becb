"""VisionTransformer against float64 NumPy, and its gradients against finite differences."""

import dragoman as dg
import numpy as np
import pytest
import reference
from dragoman.models import VisionConfig, VisionTransformer
from encoder_reference import EncoderReference
from gradcheck import numerical_gradient


def model_of(**fields):
    sizes = {"d_model": 6, "num_heads": 2, "d_ff": 8, "num_layers": 1, "image_size": 4, "patch_size": 2, "channels": 2}
    rates = {"dropout": 0.0, "embedding_dropout": 0.0, "labels": ["a", "b", "c"]}
    dg.manual_seed(0)
    return VisionTransformer(VisionConfig(**(sizes | rates | fields)))


def images_of(rng, count=3, channels=2):
    return rng.integers(0, 256, (count, 4, 4, channels), np.uint8)


CASES = [
    {},
    {"pooling": "mean"},
    {"norm_first": False, "activation": "relu"},
    {"mean": [0.4, 0.6], "std": [0.2, 0.3], "distillation": "token"},
    {"distillation": "head"},
]


@pytest.mark.parametrize("fields", CASES, ids=str)
def test_logits_loss_and_gradients_are_those_of_the_formulas(rng, fields):
    model, images, labels = model_of(**fields), images_of(rng), np.array([2, 0, 1])
    truth = EncoderReference(model)

    def heads():
        rows = [truth.image(image) for image in images]
        first = truth.labels(np.array([r[0] if model.config.pooling == "class" else r.mean(0) for r in rows]))
        if model.distillation_head is None:
            return [first]
        return [first, truth.linear(np.array([r[1] for r in rows]), "distillation_head.output")]

    def loss():
        return np.mean([reference.cross_entropy(logits, labels, 0.1) for logits in heads()])

    np.testing.assert_allclose(model.logits(images), np.mean(heads(), 0), atol=2e-5)
    result = model.loss(images, labels, 0.1)
    assert result.item() == pytest.approx(loss(), abs=1e-5)
    result.backward()
    for name, parameter in model.named_parameters():
        expected = numerical_gradient(loss, truth.state[name])
        np.testing.assert_allclose(parameter.grad.numpy(), expected, atol=2e-5, err_msg=name)


def test_without_labels_the_output_is_rows(rng):
    model, images = model_of(labels=(), distillation="token"), images_of(rng)
    expected = np.concatenate([EncoderReference(model).image(image) for image in images])
    np.testing.assert_allclose(model.logits(images), expected, atol=2e-5)
    with pytest.raises(ValueError, match="loss: the config must have labels, got none"):
        model.loss(images, [0, 1, 2])


def test_floats_are_the_same_images(rng):
    model, images = model_of(channels=1), images_of(rng, channels=1)
    expected = model.logits(images)
    np.testing.assert_allclose(model.logits(images[..., 0] / 255.0), expected, atol=1e-5)
    np.testing.assert_array_equal(model.logits(images[..., 0]), expected)
    for i in range(3):
        np.testing.assert_array_equal(model.logits(images[i : i + 1])[0], expected[i])
    assert model.logits(images[:0]).shape == (0, 3)


def test_bfloat16_attention_memory_and_folder(rng, tmp_path, device):
    model, images = model_of(), images_of(rng)
    low = VisionTransformer(model.config, compute_dtype="bfloat16")
    low.load_state_dict(model.state_dict())
    assert low(images).dtype == "bfloat16"
    np.testing.assert_allclose(low(images).numpy().astype(np.float32), model.logits(images), atol=0.1)
    low.loss(images, [0, 1, 2]).backward()
    assert [w.shape for w in model.attention_weights(images[0])["encoder"]] == [(2, 5, 5)]
    assert model.memory_plan(64)["activations"] > 0
    model.save(tmp_path)
    again = dg.load(tmp_path).to(device)
    assert isinstance(again, VisionTransformer)
    np.testing.assert_array_equal(again.logits(images), model.logits(images))


def test_what_does_not_fit_is_refused(rng):
    with pytest.raises(ValueError, match="VisionConfig: patch_size must be a divisor of image_size = 4, got 3"):
        model_of(patch_size=3)
    with pytest.raises(ValueError, match="VisionConfig: labels must be a list of at least one text"):
        model_of(labels="ab")
    with pytest.raises(ValueError, match='distillation must be "none" without pooling "class"'):
        model_of(pooling="mean", distillation="token")
    with pytest.raises(ValueError, match='distillation must be "none" or "token" without labels'):
        model_of(labels=(), distillation="head")
    with pytest.raises(ValueError, match="resize must be None or at least 4, got 3"):
        model_of(resize=3)
    with pytest.raises(ValueError, match=r"std must be a list of one number or 2, all above 0, got \[0.0\]"):
        model_of(std=[0.0])
    with pytest.raises(ValueError, match=r"mean must be a list of one number or 2, got \(0.1, 0.2, 0.3\)"):
        model_of(mean=(0.1, 0.2, 0.3))
    with pytest.raises(ValueError, match=r"std must be a list of one number or 2, all above 0, got \[1000"):
        model_of(std=[10**400])  # no float is as large
    with pytest.raises(TypeError, match="logits: images must be uint8 or floats, got dtype int64"):
        model_of().logits(np.zeros((1, 4, 4, 2), int))
    with pytest.raises(ValueError, match=r"loss: images must have shape \(images, 4, 4, 2\), got \(1, 4, 4, 3\)"):
        model_of().loss(np.zeros((1, 4, 4, 3)), [0])
