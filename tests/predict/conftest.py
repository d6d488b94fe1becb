"""A Translator and a LanguageModel of untrained models, for tests of many callers."""

import dragoman as dg
import pytest
from dragoman.models import DecoderConfig, TextDecoder
from family import SIZES, tokenizer_of


@pytest.fixture(scope="module")
def translator():
    dg.manual_seed(3)
    tokenizer = tokenizer_of()
    layers = {"num_encoder_layers": 1, "num_decoder_layers": 1, "d_model": 16, "num_heads": 2, "d_ff": 32}
    config = dg.TransformerConfig(vocab_size=tokenizer.vocab_size, max_length=60, **layers)
    return dg.Translator(dg.Transformer(config), tokenizer, batch_tokens=64)


@pytest.fixture(scope="module")
def language_model():
    dg.manual_seed(0)
    tokenizer = tokenizer_of()
    config = DecoderConfig(vocab_size=tokenizer.vocab_size, max_length=60, **SIZES)
    return dg.LanguageModel(TextDecoder(config), tokenizer, batch_tokens=64)
