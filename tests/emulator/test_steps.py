"""Whole training steps, runs and searches on a device beside the CPU's: the same masks, nearly the same numbers."""

import dragoman as dg
import numpy as np
import pytest
from dragoman import random
from dragoman.cli import main
from dragoman.generate import generate
from dragoman.models import DecoderConfig, EncoderConfig, TextDecoder, TextEncoder, VisionConfig, VisionTransformer
from dragoman.optim import AdamW
from toy_runs import model_of, pairs_of

pytestmark = pytest.mark.cuda

SIZES = {"d_model": 16, "num_heads": 2, "d_ff": 32, "dropout": 0.1}
PAIRS = {"vocab_size": 50, "num_encoder_layers": 1, "num_decoder_layers": 1}
SOURCES, TARGETS = [[4, 5, 6, 7], [8, 9], [10, 11, 12]], [[14, 15], [16], [17, 18, 19, 20]]
TEXTS = [[1, 5, 6, 2], [1, 7, 8, 9, 2]]
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 4, 4), np.uint8)

TRANSLATION = (dg.Transformer, dg.TransformerConfig, PAIRS, (SOURCES, TARGETS))
ENCODER, LABELS = (TextEncoder, EncoderConfig), {"num_layers": 1, "vocab_size": 10, "labels": ["a", "b"]}
CASES = {
    "translation": TRANSLATION,
    "gelu learned norm_first": (
        *TRANSLATION[:2],
        PAIRS | {"activation": "gelu", "positions": "learned", "norm_first": True},
        TRANSLATION[3],
    ),
    "relative": (*TRANSLATION[:2], PAIRS | {"positions": "relative", "position_offset": 1}, TRANSLATION[3]),
    "alibi window": (*TRANSLATION[:2], PAIRS | {"positions": "alibi", "window": 3}, TRANSLATION[3]),
    "shaw kv_heads": (*TRANSLATION[:2], PAIRS | {"positions": "shaw", "kv_heads": 1}, TRANSLATION[3]),
    "rotary qk_norm": (*TRANSLATION[:2], PAIRS | {"positions": "rotary", "qk_norm": "rms"}, TRANSLATION[3]),
    "classify": (*ENCODER, LABELS | {"head": "classify", "pooling": "max"}, (TEXTS, [0, 1])),
    "tag": (*ENCODER, LABELS | {"head": "tag"}, (TEXTS, [[1, 0], [0, -1]], 0.1, None, [[1, 1], [2, 1]])),
    "mlm": (
        *ENCODER,
        {"num_layers": 1, "vocab_size": 10, "head": "mlm", "mask_id": 9},
        (TEXTS, [[-1, 5, -1, -1], [-1, -1, 4, 3, -1]]),
    ),
    "decoder": (TextDecoder, DecoderConfig, {"num_layers": 2, "vocab_size": 11, "max_length": 16}, (TEXTS,)),
    "capped decoder": (
        TextDecoder,
        DecoderConfig,
        {"num_layers": 1, "vocab_size": 11, "max_length": 16, "score_cap": 0.5, "logit_cap": 1.5},
        (TEXTS,),
    ),
    "vision": (
        VisionTransformer,
        VisionConfig,
        {"num_layers": 1, "image_size": 4, "patch_size": 2, "channels": 1, "labels": ["a", "b"]},
        (IMAGES, [0, 1]),
    ),
}


def build(case, device, compute_dtype="float32"):
    model, config, fields, _ = CASES[case]
    dg.manual_seed(3)
    return model(config(**(SIZES | fields)), compute_dtype).to(device)


def steps(model, batch):
    """Loss, norm and gradients of two steps."""
    random.manual_seed(4)
    optimizer = AdamW(model, 1e-3, max_grad_norm=1.0, weight_decay=0.1)
    results = []
    for _ in range(2):
        loss = model.loss(*batch)
        loss.backward()
        gradients = {name: p.grad.numpy().astype(np.float64) for name, p in model.named_parameters()}
        results.append((optimizer.step(), loss.item(), gradients))
    return results


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", CASES)
def test_two_steps_have_the_loss_and_gradients_of_the_cpu(case, compute_dtype):
    """In bfloat16 the roundings of the first step change the sign of a few values before a ReLU in the second."""
    here, there = (steps(build(case, device, compute_dtype), CASES[case][3]) for device in ("cpu", "cuda"))
    bars = [5e-6, 5e-6] if compute_dtype == "float32" else [1e-2, 0.1]
    for (norm, loss, gradients), (norm_there, loss_there, same), bar in zip(here, there, bars, strict=True):
        assert (norm_there, loss_there) == pytest.approx((norm, loss), rel=bar)
        for name, gradient in gradients.items():
            assert np.linalg.norm(same[name] - gradient) <= bar * norm, name


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_two_runs_have_the_same_bits(compute_dtype):
    states = []
    for _ in range(2):
        model = build("relative", "cuda", compute_dtype)
        steps(model, CASES["relative"][3])
        states.append(model.state_dict())
    for name, array in states[0].items():
        np.testing.assert_array_equal(array, states[1][name], err_msg=name)


@pytest.mark.parametrize("case", ["translation", "rotary qk_norm", "shaw kv_heads"])
@pytest.mark.parametrize("beam", [1, 3])
def test_a_search_finds_the_texts_of_the_cpu(case, beam):
    here, there = (generate(build(case, device), SOURCES, beam=beam) for device in ("cpu", "cuda"))
    for few, same in zip(here, there, strict=True):
        assert [h.ids for h in same] == [h.ids for h in few]
        assert [h.score for h in same] == pytest.approx([h.score for h in few], abs=1e-4)


OPTIONS = {
    "coverage": {"coverage_penalty": 0.4},
    "shortlist": {"allowed": [2, 5, 9, 14, 20, 33], "renormalize": True},
    "hf": {"like": "hf", "prefix": [6], "forced_last": 2, "bad_words": [[7], [5, 5]], "early_stopping": True},
    "fairseq": {"like": "fairseq", "prefix": [6], "begin_suppress": [5], "renormalize": True},
    "draws": {"temperature": 1.0, "prefix": [6], "like": "hf", "suppress": [7], "top_k": 9, "beam": 1},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_options_of_a_search_are_those_of_the_cpu(options):
    options = {"beam": 3, "max_length": 6} | options
    here, there = (generate(build("translation", device), SOURCES, **options) for device in ("cpu", "cuda"))
    for few, same in zip(here, there, strict=True):
        assert [h.ids for h in same] == [h.ids for h in few]
        assert [h.score for h in same] == pytest.approx([h.score for h in few], abs=1e-4)


def test_a_trainer_takes_the_device_and_goes_on_there(rng, tmp_path):
    """Runs with an average of the weights; the second half starts from a checkpoint."""
    pairs, losses = pairs_of(rng, 20), {}
    for device in ("cpu", "cuda"):
        options = {"batch_tokens": 60, "log_interval": 1, "warmup": 2, "ema": 0.9, "final": "ema", "device": device}
        for max_steps in (2, 4):
            trainer = dg.Trainer(model_of(), output=tmp_path / device, max_steps=max_steps, **options)
            records = trainer.fit(pairs, pairs[:3], resume=max_steps == 4)
            losses.setdefault(device, []).extend(r.get("loss", r.get("valid_loss")) for r in records)
        assert {parameter.device for parameter in trainer.model.parameters()} == {device}
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=1e-5)


def test_a_translator_and_the_command_take_the_device(tmp_path, monkeypatch):
    tokenizer = dg.Tokenizer.train(["A man is standing on a ladder.", "Ein Mann steht auf einer Leiter."] * 20, 80)
    dg.manual_seed(3)
    config = dg.TransformerConfig(**(SIZES | PAIRS | {"vocab_size": tokenizer.vocab_size}))
    dg.Transformer(config).save(tmp_path)
    tokenizer.save(tmp_path / "tokenizer.json")
    here, there = (dg.Translator.load(tmp_path, device=device) for device in ("cpu", "cuda"))
    texts = ["A man", "is"]
    assert there(texts, max_length=6) == here(texts, max_length=6)
    assert {parameter.device for parameter in there.model.parameters()} == {"cuda"}
    lines, written = tmp_path / "lines.txt", []
    lines.write_text("".join(text + "\n" for text in texts))
    for device in ("cpu", "cuda", "auto"):
        out = tmp_path / device
        with lines.open() as stdin:
            monkeypatch.setattr("sys.stdin", stdin)
            options = ["--max-length", "6", "--device", device, "--output", str(out)]
            assert main(["translate", str(tmp_path), *options]) == 0
        written.append(out.read_text())
    assert written == [written[0]] * 3
