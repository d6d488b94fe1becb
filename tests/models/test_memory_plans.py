"""memory_plan of every kind of model, with and without checkpoint_layers, against the allocator's peak."""

import gc

import dragoman as dg
import pytest
from dragoman import _core
from dragoman.models import DecoderConfig, EncoderConfig, TextDecoder, TextEncoder, VisionConfig, VisionTransformer

SIZES = {"d_model": 64, "num_heads": 4, "d_ff": 256}
TOKENS = 2000

MODELS = {
    "classify": (TextEncoder, EncoderConfig, {"num_layers": 4, "head": "classify", "labels": ["a", "b"]}),
    "tag": (TextEncoder, EncoderConfig, {"num_layers": 4, "head": "tag", "labels": ["a", "b"], "norm": "rms"}),
    "mlm": (TextEncoder, EncoderConfig, {"num_layers": 4, "head": "mlm", "residual": "concat"}),
    "lm": (TextDecoder, DecoderConfig, {"num_layers": 4, "gated": True, "positions": "relative"}),
    "image": (VisionTransformer, VisionConfig, {"num_layers": 4, "labels": ["a"], "image_size": 8, "patch_size": 2}),
    "translate": (dg.Transformer, dg.TransformerConfig, {"num_encoder_layers": 3, "num_decoder_layers": 3}),
}  # fmt: skip


@pytest.mark.cpu
@pytest.mark.parametrize("checkpointed", [False, True], ids=["plain", "checkpointed"])
@pytest.mark.parametrize("name", MODELS)
def test_the_plan_is_near_the_allocators_peak(name, checkpointed, one_thread):
    model_class, config_class, fields = MODELS[name]
    vocab = {} if name == "image" else {"vocab_size": 300}
    gc.collect()
    before = dg.memory_stats()["allocated"]
    model = model_class(config_class(**SIZES, **vocab, **fields))
    model.checkpoint_layers = checkpointed
    optimizer = dg.optim.AdamW(model, lr=1e-4)
    for _ in range(2):
        _core.reset_peak_memory_stats()
        model.loss(*model.example_batch(TOKENS)).backward()
        optimizer.step()
    measured = dg.memory_stats()["peak_allocated"] - before
    assert model.memory_plan(TOKENS)["peak"] == pytest.approx(measured, rel=0.02)


@pytest.mark.cuda
def test_the_plan_takes_the_losss_chunks_of_the_models_device():
    sizes = {"d_model": 16, "num_heads": 2, "d_ff": 32, "num_layers": 1}
    model = TextDecoder(DecoderConfig(vocab_size=3000, **sizes), "bfloat16").to("cuda")
    gc.collect()
    before = dg.memory_stats("cuda")["allocated"]
    optimizer = dg.optim.AdamW(model, lr=1e-4)
    held = dg.memory_stats("cuda")["allocated"] - before
    _core.reset_peak_memory_stats("cuda")
    model.loss(*model.example_batch(600)).backward()
    measured = dg.memory_stats("cuda")["peak_allocated"] - before - held
    del optimizer
    plan = model.memory_plan(600)["activations"]
    assert any(plan == pytest.approx(measured - workspace, rel=0.05) for workspace in (0, 32 << 20))  # cuBLASLt's
