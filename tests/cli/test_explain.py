"""dragoman explain and predict for each kind of model: what it reads is framed as in training."""

import json
import re
from pathlib import Path

import dragoman as dg
import numpy as np
import pytest
from dragoman.cli import main
from dragoman.models import DecoderConfig, EncoderConfig, TextDecoder, TextEncoder, VisionConfig, VisionTransformer

pytest.importorskip("tokenizers")

SIZES = {"d_model": 16, "num_heads": 2, "d_ff": 24, "num_layers": 2}


@pytest.fixture
def explain(tmp_path, monkeypatch, capsys):
    """Saves a model with a tokenizer and returns the view of the page that explain writes for a text."""
    monkeypatch.chdir(tmp_path)
    tokenizer = dg.Tokenizer.train(["a child sees a boat"] * 3, 64, "char")

    def run(model_class, config_class, text, *more, **fields):
        vocab = {} if config_class is VisionConfig else {"vocab_size": tokenizer.vocab_size}
        dg.manual_seed(0)
        model = model_class(config_class(**SIZES, **vocab, **fields))
        model.save("model")
        tokenizer.save("model/tokenizer.json")
        if (status := main(["explain", "model", text, "--threads", "1", *more])) != 0:
            return status, capsys.readouterr().err
        assert capsys.readouterr().out == "attention.html\n"
        html = Path("attention.html").read_text()
        (view,) = json.loads(re.search(r'id="page">(.*?)</script>', html, re.DOTALL)[1])["views"]
        assert view["layers"] == view["heads"] == 2 and view["queries"] == view["keys"]
        return view["name"], view["queries"]

    return run


@pytest.mark.parametrize("head", ["none", "classify", "tag", "mlm"])
def test_an_encoder_reads_a_framed_text(head, explain):
    labels = ["x", "y"] if head in ("classify", "tag") else []
    name, tokens = explain(TextEncoder, EncoderConfig, " a boat ", head=head, labels=labels)
    assert (name, tokens[0], tokens[-1]) == ("encoder", "<s>", "</s>")
    spaces = "" if head == "tag" else "▁"  # words are spelt one by one
    assert "".join(tokens[1:-1]).replace("▁", spaces).strip("▁ ") in (f"a{spaces}boat", "a boat", "aboat")
    _, cut = explain(TextEncoder, EncoderConfig, "a boat", head=head, labels=labels, max_length=4)
    assert len(cut) == 4 and cut[0] == "<s>" and cut[-1] == "</s>"
    status, error = explain(TextEncoder, EncoderConfig, "a", "--target", "b", head=head, labels=labels)
    assert status == 2 and "--target needs a model that translates, got a TextEncoder" in error


def test_a_tagger_reads_what_predict_reads(explain):
    _, tokens = explain(TextEncoder, EncoderConfig, "a boat", head="tag", labels=["x"])
    parts, _ = dg.Tagger.load("model")._parts_of([["a", "boat"]])
    assert tokens == dg.Tokenizer.load("model/tokenizer.json").tokens(parts[0].value[0])


def test_a_decoder_reads_a_prompt(explain):
    name, tokens = explain(TextDecoder, DecoderConfig, "a boat")
    assert (name, tokens[0], tokens[-1]) == ("decoder", "<s>", "t")
    assert len(explain(TextDecoder, DecoderConfig, "a boat", max_length=3)[1]) == 3
    assert explain(TextDecoder, DecoderConfig, "")[1] == ["<s>"]


def test_an_image_has_patches(explain, tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    pillow.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "image.png")
    fields = {"image_size": 8, "patch_size": 4, "channels": 1, "labels": ["x", "y"]}
    assert explain(VisionTransformer, VisionConfig, "image.png", **fields)[1] == ["class", "1,1", "1,2", "2,1", "2,2"]
    assert len(explain(VisionTransformer, VisionConfig, "image.png", pooling="mean", **fields)[1]) == 4


@pytest.mark.parametrize(
    ("model_class", "config_class", "fields", "option", "message"),
    [
        (TextEncoder, EncoderConfig, {"head": "tag", "labels": ["x"]}, "--top=2", "a Classifier or an ImageClassifier"),
        (TextEncoder, EncoderConfig, {}, "--temperature=1", "for a LanguageModel, got one for a SentenceEncoder"),
        (TextDecoder, DecoderConfig, {}, "--top=2", "got one for a LanguageModel"),
        (
            TextDecoder,
            DecoderConfig,
            {},
            "--vectors",
            "needs an encoder of text, got a model for a LanguageModel",
        ),
    ],
    ids=str,
)
def test_an_option_of_another_model_is_refused(model_class, config_class, fields, option, message, explain, capsys):
    explain(model_class, config_class, "a", **fields)
    assert main(["predict", "model", option]) == 2
    assert message in capsys.readouterr().err


def test_info_of_each_model(explain, capsys):
    for model_class, config_class in ((TextEncoder, EncoderConfig), (TextDecoder, DecoderConfig)):
        explain(model_class, config_class, "a", norm="rms", positions="relative")
        assert main(["info", "model"]) == 0
        out = capsys.readouterr().out
        assert '"norm": "rms"' in out and '"positions": "relative"' in out and model_class.__name__ in out


def test_a_text_that_no_page_can_show_is_named(explain):
    status, error = explain(TextEncoder, EncoderConfig, "a" * 600, head="none", max_length=1000)
    assert status == 2 and "dragoman explain: TEXT must have at most 500 tokens, got 60" in error
    layers = {"num_encoder_layers": 1, "num_decoder_layers": 1}
    tokenizer = dg.Tokenizer.load("model/tokenizer.json")
    sizes = {name: size for name, size in SIZES.items() if name != "num_layers"}
    dg.Transformer(dg.TransformerConfig(vocab_size=tokenizer.vocab_size, **sizes, **layers)).save("model")
    assert main(["explain", "model", "a" * 600]) == 2
    assert main(["explain", "model", "a", "--target", "a" * 600]) == 2
