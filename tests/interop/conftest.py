"""A Translator and a Generator with CTranslate2's signatures, of untrained models."""

import dragoman as dg
import pytest
from dragoman.interop import ctranslate2
from dragoman.models import DecoderConfig, TextDecoder
from family import SIZES
from tiny_translator import write_translator


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_translator(tmp_path_factory.mktemp("model"))


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
