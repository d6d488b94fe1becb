"""What serves a model loads it frozen, whatever its kind."""

import dragoman as dg
import numpy as np
import pytest
from dragoman.models import DecoderConfig, EncoderConfig, TextDecoder, TextEncoder, VisionConfig, VisionTransformer
from family import tokenizer_of

pytestmark = [pytest.mark.cpu, pytest.mark.usefixtures("one_thread")]

SIZES = {"d_model": 32, "num_heads": 2, "d_ff": 48, "num_layers": 1}


def folder_of(model, folder):
    tokenizer = tokenizer_of()
    folder.mkdir(exist_ok=True)
    tokenizer.save(folder / "tokenizer.json")
    model.eval().save(folder)
    return folder


def vocabulary():
    return tokenizer_of().vocab_size


@pytest.mark.parametrize("compute_type", ["int8", "bfloat16", "float32"])
def test_every_kind(tmp_path, compute_type, rng):
    dg.manual_seed(1)
    texts = ["the dog is good", "a cat"]
    labels = {"labels": ("a", "b")}
    encoder = folder_of(TextEncoder(EncoderConfig(**SIZES, vocab_size=vocabulary())), tmp_path / "vectors")
    classes = TextEncoder(EncoderConfig(**SIZES, **labels, vocab_size=vocabulary(), head="classify"))
    tags = TextEncoder(EncoderConfig(**SIZES, **labels, vocab_size=vocabulary(), head="tag"))
    vectors = dg.SentenceEncoder.load(encoder, compute_type=compute_type)
    assert vectors.model.frozen == compute_type
    np.testing.assert_allclose(vectors(texts), dg.SentenceEncoder.load(encoder)(texts), atol=0.1)
    for kind, model in ((dg.Classifier, classes), (dg.Tagger, tags)):
        folder = folder_of(model, tmp_path / kind.__name__)
        served = kind.load(folder, compute_type=compute_type)
        assert served.model.frozen == compute_type
        served(texts)
    image = tmp_path / "image"
    VisionTransformer(VisionConfig(**SIZES, **labels, image_size=8, patch_size=4, channels=1)).eval().save(image)
    pixels = rng.integers(0, 256, (2, 8, 8), np.uint8)
    frozen, plain = (dg.ImageClassifier.load(image, compute_type=name)(pixels) for name in (compute_type, "default"))
    for ours, theirs in zip(frozen, plain, strict=True):
        assert ours == pytest.approx(theirs, abs=0.05)
    text = folder_of(TextDecoder(DecoderConfig(**SIZES, vocab_size=vocabulary())), tmp_path / "text")
    assert dg.LanguageModel.load(text, compute_type=compute_type).model.frozen == compute_type
    config = dg.TransformerConfig(
        vocab_size=vocabulary(), d_model=32, num_heads=2, d_ff=48, num_encoder_layers=1, num_decoder_layers=1
    )
    pairs = folder_of(dg.Transformer(config), tmp_path / "pairs")
    translator = dg.Translator.load(pairs, compute_type=compute_type)
    assert translator.model.frozen == compute_type
    assert len(translator(texts, beam=2, max_length=5)) == 2


def test_what_is_refused(tmp_path):
    config = dg.TransformerConfig(
        vocab_size=vocabulary(), d_model=32, num_heads=2, d_ff=48, num_encoder_layers=1, num_decoder_layers=1
    )
    folder = folder_of(dg.Transformer(config), tmp_path / "model")
    with pytest.raises(ValueError, match=r"Translator: compute_type must be one of default, int8, .*, got 'int4'"):
        dg.Translator.load(folder, compute_type="int4")
    with pytest.raises(ValueError, match=r'compute_type must be "bfloat16" or "float32" on test, got "int8"'):
        dg.Translator.load(folder, "test", compute_type="int8")
