"""A whole training step and a search on the device "test": the bits of the CPU, and no host read in between."""

import dragoman as dg
import numpy as np
import pytest
from dragoman import _core, random
from dragoman.generate import generate
from dragoman.optim import AdamW

pytestmark = pytest.mark.cpu

SOURCES, TARGETS = [[4, 5, 6, 7], [8, 9], [10, 11, 12]], [[14, 15], [16], [17, 18, 19, 20]]
SIZES = {"d_model": 16, "num_heads": 2, "d_ff": 32, "num_encoder_layers": 1, "num_decoder_layers": 1}


def build(device, compute_dtype="float32", **options):
    dg.manual_seed(3)
    config = dg.TransformerConfig(**{"vocab_size": 50, **SIZES, **options})
    return dg.Transformer(config, compute_dtype).to(device)


def train(model, steps=2):
    """Losses and norms of a few steps, which read nothing from the device before AdamW's kernel has run."""
    optimizer = AdamW(model, 0.01, max_grad_norm=1.0, weight_decay=0.1)
    results = []
    for _ in range(steps):
        downloads = _core.test_device_counts()["downloads"]
        loss = model.loss(SOURCES, TARGETS)
        loss.backward()
        assert _core.test_device_counts()["downloads"] == downloads
        results.append((optimizer.step(), loss.item()))
    return results


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"activation": "gelu", "positions": "learned", "norm_first": True},
        {"positions": "relative", "position_offset": 1},
        {"positions": "alibi", "window": 3},
        {"positions": "shaw", "kv_heads": 1},
        {"positions": "rotary", "qk_norm": "rms"},
    ],
    ids=str,
)
def test_steps_and_searches_have_the_bits_of_the_cpu(compute_dtype, options):
    here, there = (build(device, compute_dtype, **options) for device in ("cpu", "test"))
    for model in (here, there):
        random.manual_seed(4)
        model.results = train(model)
    assert here.results == there.results
    for (name, a), b in zip(here.state_dict().items(), there.state_dict().values(), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)
    for beam in (1, 3):
        assert generate(here, SOURCES, beam=beam) == generate(there, SOURCES, beam=beam)


def test_every_allocation_of_a_step_may_fail():
    expected = train(build("cpu"), steps=1)
    train(build("test"), steps=1)  # makes the constants that stay
    model = build("test")
    optimizer = AdamW(model, 0.01, max_grad_norm=1.0, weight_decay=0.1)
    state, allocated = random.get_state(), dg.memory_stats("test")["allocated"]

    def step_with_a_failure(k):
        random.set_state(state)
        _core.test_device_fail_allocation(k)
        try:
            loss = model.loss(SOURCES, TARGETS)
            loss.backward()
            return optimizer.step(), loss.item()
        except dg.OutOfMemoryError:
            return None
        finally:
            _core.test_device_fail_allocation(0)

    failures = 0
    while (result := step_with_a_failure(failures + 1)) is None:
        failures += 1
        optimizer.zero_grad()
        assert dg.memory_stats("test")["allocated"] == allocated
    assert failures > 50
    assert [result] == expected


def test_a_trainer_takes_a_device(tmp_path):
    pairs = [([4, 5, 6, 2], [7, 8]), ([9, 2], [10])] * 4
    records = {}
    for device in ("cpu", "test"):
        model = build("cpu", dropout=0.1)
        options = {"max_steps": 3, "batch_tokens": 16, "log_interval": 1, "warmup": 2, "ema": 0.9, "final": "ema"}
        records[device] = dg.Trainer(model, device=device, output=tmp_path / device, **options).fit(pairs, pairs[:2])
        assert {parameter.device for parameter in model.parameters()} == {device}
    losses = {
        device: [record.get("loss", record.get("valid_loss")) for record in records[device]] for device in records
    }
    assert losses["cpu"] == losses["test"]
    weights = [(tmp_path / device / "model.safetensors").read_bytes() for device in records]
    assert weights[0] == weights[1]


def test_a_translator_takes_a_device(tmp_path):
    tokenizer = dg.Tokenizer.train(["A man is standing on a ladder.", "Ein Mann steht auf einer Leiter."] * 20, 80)
    build("cpu", vocab_size=tokenizer.vocab_size).save(tmp_path)
    tokenizer.save(tmp_path / "tokenizer.json")
    here, there = (dg.Translator.load(tmp_path, device=device) for device in ("cpu", "test"))
    assert here("A man", max_length=6) == there("A man", max_length=6)
    assert {parameter.device for parameter in there.model.parameters()} == {"test"}
    with pytest.raises(ValueError, match=dg.cuda.status()):
        dg.Translator.load(tmp_path, device="cuda")
    with pytest.raises(TypeError, match=r"^Translator: device must be a str, got NoneType$"):
        dg.Translator.load(tmp_path, device=None)
