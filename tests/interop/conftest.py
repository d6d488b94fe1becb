"""A Translator and a Generator with CTranslate2's signatures, of untrained models."""

import dragoman as dg
import pytest
from dragoman.interop import ctranslate2
from dragoman.models import DecoderConfig, TextDecoder
from family import SIZES

LINES = ["a man sees two dogs", "two dogs see a man", "a dog"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    dg.manual_seed(3)
    tokenizer = dg.Tokenizer.train(LINES * 3, 64)
    config = dg.TransformerConfig(
        vocab_size=tokenizer.vocab_size, d_model=16, num_heads=2, d_ff=24, num_encoder_layers=1, num_decoder_layers=1
    )
    dg.Transformer(config).save(folder)
    tokenizer.save(folder / "tokenizer.json")
    return folder


@pytest.fixture(scope="module")
def translator(folder):
    return ctranslate2.Translator(str(folder), device="cpu", inter_threads=1, intra_threads=1)


@pytest.fixture(scope="module")
def generator(folder, tmp_path_factory):
    tokenizer = dg.Tokenizer.load(folder / "tokenizer.json")
    folder = tmp_path_factory.mktemp("decoder")
    dg.manual_seed(0)
    TextDecoder(DecoderConfig(vocab_size=tokenizer.vocab_size, max_length=40, **SIZES)).save(folder)
    tokenizer.save(folder / "tokenizer.json")
    return ctranslate2.Generator(str(folder))
