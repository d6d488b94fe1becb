"""LoRA at the size of the presets: how much is trained, and batches that mix three adapters of each kind of model."""

from copy import deepcopy

import dragoman as dg
import numpy as np
import pytest
from dragoman.models import DecoderConfig, EncoderConfig, TextDecoder, TextEncoder
from dragoman.nn.init import skip_init

NAMES = ["law", "news", "talks"]
VOCABULARY = 300


@pytest.mark.parametrize("preset", ["tiny", "small", "base", "big"])
def test_under_two_percent_of_a_translator_is_trained(preset):
    with skip_init():
        model = dg.Transformer(getattr(dg.TransformerConfig, preset)(vocab_size=10_000))
    whole = model.num_parameters()
    dg.lora.add(model, rank=8)
    trained = sum(x.size for x in model.parameters() if x.requires_grad)
    attentions = model.config.num_encoder_layers + 2 * model.config.num_decoder_layers
    assert trained == 2 * attentions * 2 * 8 * model.config.d_model  # q and v, A and B
    assert trained < 0.02 * whole


def test_the_optimizer_holds_the_adapters_alone():
    model = dg.Transformer(dg.TransformerConfig.tiny(vocab_size=VOCABULARY))
    dg.lora.add(model, rank=8)
    trained = {name: x.size for name, x in model.named_parameters() if x.requires_grad}
    before = dg.memory_stats()["allocated"]
    optimizer = dg.optim.AdamW(model, lr=1e-3)
    held = dg.memory_stats()["allocated"] - before
    assert held < 4 * 4 * sum(trained.values()) + 1024 * len(trained)  # weights, gradients, two moments, in float32
    arrays = optimizer.state_dict()
    assert {name.split(".", 1)[1] for name, array in arrays.items() if array.ndim == 2} == set(trained)


def translator():
    model = dg.Transformer(dg.TransformerConfig.tiny(vocab_size=VOCABULARY))
    return model, [[[7, 8, 9, 2], [5, 2], [11, 4, 2]], [[1, 5, 6], [1], [1, 9, 9, 9]]]


def decoder():
    return TextDecoder(DecoderConfig.tiny(vocab_size=VOCABULARY)), [[[1, 7, 8, 9], [1, 5], [1, 11, 4]]]


def encoder():
    config = EncoderConfig.tiny(vocab_size=VOCABULARY, head="classify", labels=("a", "b", "c"))
    return TextEncoder(config), [[[1, 7, 8, 9, 2], [1, 5, 2], [1, 11, 4, 2]]]


def tagger():
    config = EncoderConfig.tiny(vocab_size=VOCABULARY, head="tag", labels=("a", "b", "c"))
    return TextEncoder(config), [[[1, 7, 8, 9, 2], [1, 5, 2], [1, 11, 4, 2]], [[1, 2], [1], [2]]]


@pytest.mark.parametrize("make", [translator, decoder, encoder, tagger])
def test_three_adapters_in_one_batch_equal_three_merged_models(make):
    dg.manual_seed(0)
    model, batch = make()
    plain = deepcopy(model)
    weights = {id(x): (x.data.data_ptr, x.numpy().tobytes()) for x in model.parameters()}
    rng = np.random.default_rng(0)
    for name in NAMES:
        dg.lora.add(model, rank=8, modules=["q_proj", "v_proj", "linear1"], name=name)
    for name, parameter in model.named_parameters():
        if name.endswith(".b"):
            parameter.copy_(rng.normal(0, 0.1, parameter.shape))
    with dg.lora.using(model, NAMES):
        together = model.logits(*batch)
    first = 0
    for i, name in enumerate(NAMES):
        merged = deepcopy(model)
        dg.lora.merge(merged, name)
        alone = merged.logits(*[part[i : i + 1] for part in batch])
        mixed = together[first : first + len(alone)]
        np.testing.assert_allclose(mixed, alone, atol=1e-5)
        untouched = plain.logits(*[part[i : i + 1] for part in batch])
        assert np.abs(mixed - untouched).max() > 1e-2  # the adapters do something
        first += len(alone)
    assert first == len(together)
    kept = {id(x): (x.data.data_ptr, x.numpy().tobytes()) for x in model.parameters() if id(x) in weights}
    assert kept == weights  # the same memory with the same bytes, once for all adapters
