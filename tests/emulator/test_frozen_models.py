"""Frozen models on a device, whose products read the plain weights."""

from pathlib import Path

import dragoman as dg
import numpy as np
import pytest
from dragoman.generate import generate
from dragoman.models.folder import load_with

BATCH = [[5, 6, 7], [8]], [[1, 9], [1, 4]]


@pytest.fixture(autouse=True)
def _on_a_device(device):
    if device == "cpu":
        pytest.skip("about a device")


def model():
    dg.manual_seed(1)
    return dg.Transformer(
        dg.TransformerConfig(
            vocab_size=37, d_model=24, num_heads=3, d_ff=40, num_encoder_layers=1, num_decoder_layers=1
        )
    ).eval()


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.03), ("float32", 1e-5)])
def test_freeze_save_and_load(tmp_path, dtype, tolerance):
    frozen = model()
    expected = frozen.logits(*BATCH)
    frozen.freeze(dtype).save(tmp_path)
    np.testing.assert_allclose(frozen.logits(*BATCH), expected, atol=tolerance)
    (best, *_), _ = generate(frozen, BATCH[0], beam=2, max_length=4)
    assert np.isfinite(best.score)
    for device in ("cuda", "cuda:0"):
        loaded = load_with("load", Path(tmp_path), {}, device)
        assert loaded.output.weight.device == "cuda"
        np.testing.assert_array_equal(loaded.logits(*BATCH), frozen.logits(*BATCH))


def test_int8_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r'freeze: dtype must be "bfloat16" or "float32" on cuda, got "int8"'):
        model().freeze("int8")
    on_cpu = model().to("cpu")
    on_cpu.save(tmp_path / "plain")
    with pytest.raises(ValueError, match=r'load: compute_type must be "bfloat16" or "float32" on cuda, got "int8"'):
        load_with("load", tmp_path / "plain", {}, "cuda", "int8")
    on_cpu.freeze("int8").save(tmp_path / "int8")
    with pytest.raises(ValueError, match=r"to: the model is frozen in int8; freeze another one for cuda in bfloat16"):
        on_cpu.to("cuda")
    with pytest.raises(ValueError, match=r'load: device must be "cpu" for .*, which is frozen in int8, got "cuda"'):
        load_with("load", tmp_path / "int8", {}, "cuda")


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_shortlist_of_a_frozen_model(dtype):
    """Its products are smaller, and its keys and values stay in float32, whatever the weights are."""
    options = {"beam": 2, "max_length": 5, "allowed": [2, 5, 9, 14, 20, 33], "renormalize": True}
    here, there = (generate(model().to(device).freeze(dtype), BATCH[0], **options) for device in ("cpu", "cuda"))
    for few, same in zip(here, there, strict=True):
        assert [h.ids for h in same] == [h.ids for h in few]
        assert [h.score for h in same] == pytest.approx([h.score for h in few], abs=0.05)
