"""Language modelling: pieces of long texts, bits per character against a sum by hand, training, going on from texts."""

import json
import math
import os
import pickle
from itertools import pairwise

import dragoman as dg
import numpy as np
import pytest
from dragoman.cli import main
from dragoman.models import DecoderConfig, TextDecoder
from dragoman.train import LanguageModelling
from dragoman.train.language_modelling import pieces_of
from dragoman.train.options import TrainingOptions
from dragoman.train.validation import Validation

pytest.importorskip("tokenizers")

LINES = ["abcabcabc", "ababab", "cab cab", "ü"] * 6


@pytest.fixture(scope="module")
def tokenizer():
    return dg.Tokenizer.train(LINES, 64, "char")


def model_of(tokenizer, **fields):
    dg.manual_seed(0)
    sizes = {"d_model": 16, "num_heads": 2, "d_ff": 32, "num_layers": 1, "max_length": 64}
    return TextDecoder(DecoderConfig(vocab_size=tokenizer.vocab_size, **(sizes | fields)))


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 100])
@pytest.mark.parametrize("count", [1, 2, 3, 8, 9, 15])
def test_pieces_predict_each_token_once(count, length):
    ids = list(range(count))
    pieces = pieces_of(ids, length)
    assert [token for piece in pieces for token in piece[1:]] == ids[1:]
    assert all(len(piece) <= length + 1 for piece in pieces)
    assert all(before[-1] == after[0] for before, after in pairwise(pieces))


def test_bits_per_character_are_a_sum_over_all_tokens(tokenizer):
    model, task = model_of(tokenizer, max_length=5), LanguageModelling(tokenizer)
    texts = ["abcabcabc", "", "  ab ü "]
    record = Validation(model, task, texts, TrainingOptions())()
    bits = characters = 0
    for text in texts:
        ids = [1, *tokenizer.encode(text.strip()), 2]
        for piece in pieces_of(ids, 5):
            rows = model.logits([piece[:-1]]).astype(np.float64)
            log_probs = rows - np.log(np.exp(rows).sum(1, keepdims=True))
            bits -= log_probs[np.arange(len(piece) - 1), piece[1:]].sum() / math.log(2)
        characters += len(text.strip()) + 1
    assert record["valid_bits_per_character"] == pytest.approx(bits / characters, rel=1e-5)
    assert record["valid_perplexity"] == pytest.approx(math.exp(record["valid_loss"]))


def test_a_model_learns_to_go_on(tokenizer, tmp_path):
    model, task = model_of(tokenizer, dropout=0.0, embedding_dropout=0.0), LanguageModelling(tokenizer)
    trainer = dg.Trainer(
        model, task=task, output=tmp_path / "lm", max_steps=120, lr=5e-3, warmup=10, batch_tokens=200,
        label_smoothing=0.0, best_by="bits_per_character",
    )  # fmt: skip
    trainer.fit(["abcabcabc"] * 8, ["abcabcabc"])
    served = dg.LanguageModel.load(tmp_path / "lm")
    assert served("abca") == "bcabc"
    assert served(["abcab", ""]) == ["cabc", "abcabcabc"]
    assert served("abc", max_length=2) == "ab"
    assert served.submit("abca").result() == "bcabc"
    assert pickle.loads(pickle.dumps(served))("abca") == "bcabc"
    drawn = served("a", temperature=1.5, seed=3)
    assert drawn == served("a", temperature=1.5, seed=3) and isinstance(drawn, str)
    with pytest.raises(TypeError, match=r"LanguageModel: text\[1\] must be a str, got int"):
        served(["a", 3])
    with pytest.raises(ValueError, match="temperature must be at least 0"):
        served("a", temperature=-1)


def test_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("".join(f"{line}\n" for line in LINES))
    options = ["--task", "lm", "--data", "text", "--valid", "text", "--tokenizer", "char", "--output", "lm"]
    assert main(["train", *options, "--steps", "4", "--warmup", "2", "--threads", "1"]) == 0
    assert json.loads((tmp_path / "lm/config.json").read_text())["model"] == "decoder"
    capsys.readouterr()
    assert main(["evaluate", "lm", "--data", "text", "--threads", "1"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["task"] == "lm" and result["bits_per_character"] > 0 and result["examples"] == len(LINES)
    assert main(["info", "lm"]) == 0
    assert "lm" in capsys.readouterr().out
    read, written = os.pipe()
    os.write(written, b"ab\n\n")
    os.close(written)
    with open(read) as lines:
        monkeypatch.setattr("sys.stdin", lines)
        draws = ["--max-length", "3", "--temperature", "0.8", "--top-k", "5", "--seed", "1"]
        assert main(["predict", "lm", *draws]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_errors_name_the_argument(tokenizer):
    with pytest.raises(TypeError, match="Trainer: model must be a TextDecoder, got Transformer"):
        dg.Trainer(dg.Transformer(dg.TransformerConfig.tiny(vocab_size=20)), task=LanguageModelling(tokenizer))
    served = dg.LanguageModel(model_of(tokenizer), tokenizer)
    longest = served.model.config.max_length
    with pytest.raises(
        ValueError, match=rf"^LanguageModel: text\[1\] must have at most {longest - 1} tokens, got {longest}"
    ):
        served(["", "a" * (longest - 1)])  # a mark stands before the word
    with pytest.raises(ValueError, match=r"^LanguageModel: text\[0\] must have at most 9,999 tokens, got 10,001"):
        served("a" * 10_000, max_length=2)
    with pytest.raises(ValueError, match="train of text needs a tokenizer, got none"):
        dg.Trainer(model_of(tokenizer), task=LanguageModelling(), max_steps=1).fit(["abc"])


def test_a_folder_with_another_kind_of_model_is_named(tokenizer, tmp_path, capsys):
    folder = tmp_path / "lm"
    model_of(tokenizer).save(folder)
    tokenizer.save(folder / "tokenizer.json")
    (tmp_path / "text").write_text("a\n")
    files = ["--source", str(tmp_path / "text"), "--target", str(tmp_path / "text")]
    for command, more in (("translate", []), ("evaluate", files)):
        assert main([command, str(folder), *more]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"dragoman {command}: {folder}: model must be a") and "got TextDecoder" in error
    model = dg.LanguageModel.load(folder)
    count, tokens = model.model.num_parameters(), tokenizer.vocab_size
    assert repr(model) == f"LanguageModel(TextDecoder, {count:,} parameters, vocab_size={tokens})"
