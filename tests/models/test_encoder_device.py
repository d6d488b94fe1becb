"""Encoders on the device "test": the bits of the CPU, and no host read in a step."""

import dragoman as dg
import numpy as np
import pytest
from dragoman import _core, random
from dragoman.models import EncoderConfig, TextEncoder, VisionConfig, VisionTransformer
from dragoman.optim import AdamW

pytestmark = pytest.mark.cpu

SIZES = {"d_model": 16, "num_heads": 2, "d_ff": 32, "num_layers": 1}
TEXTS = [[1, 5, 6, 2], [1, 7, 8, 9, 2]]

CASES = {
    "classify": ({"head": "classify", "labels": ["a", "b"], "pooling": "max"}, ([0, 1],)),
    "tag": ({"head": "tag", "labels": ["a", "b"]}, ([[1, 0], [0, -1]], 0.1, None, [[1, 1], [2, 1]])),
    "mlm": ({"head": "mlm", "mask_id": 9}, ([[-1, 5, -1, -1], [-1, -1, 4, 3, -1]],)),
}


def build(case, device, compute_dtype):
    dg.manual_seed(3)
    if case == "vision":
        config = VisionConfig(**SIZES, image_size=4, patch_size=2, channels=1, labels=["a", "b"])
        return VisionTransformer(config, compute_dtype).to(device)
    return TextEncoder(EncoderConfig(**SIZES, vocab_size=10, **CASES[case][0]), compute_dtype).to(device)


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", [*CASES, "vision"])
def test_steps_and_logits_have_the_bits_of_the_cpu(case, compute_dtype, rng):
    images = rng.integers(0, 256, (2, 4, 4), np.uint8)
    batch = (images, [0, 1]) if case == "vision" else (TEXTS, *CASES[case][1])
    results = []
    for device in ("cpu", "test"):
        model = build(case, device, compute_dtype)
        optimizer = AdamW(model, 0.01, max_grad_norm=1.0)
        random.manual_seed(4)
        for _ in range(2):
            downloads = _core.test_device_counts()["downloads"]
            loss = model.loss(*batch)
            loss.backward()
            assert _core.test_device_counts()["downloads"] == downloads
            results.append((device, optimizer.step(), loss.item()))
        results.append((device, model.logits(batch[0]).tobytes(), model.state_dict()))
    here, there = results[:3], results[3:]
    assert [each[1:] for each in here[:2]] == [each[1:] for each in there[:2]]
    assert here[2][1] == there[2][1]
    for (name, a), b in zip(here[2][2].items(), there[2][2].values(), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)
