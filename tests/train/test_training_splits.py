"""bpe_dropout: the words of training text are split at random, those of validation are not."""

from dataclasses import replace

import dragoman as dg
import pytest
from dragoman.cli import main
from dragoman.train import MaskedLM, Trainer, Translation
from family import bits, encoder_for
from toy_runs import CONFIG

pytest.importorskip("tokenizers")
pytestmark = pytest.mark.usefixtures("one_thread")

PAIRS = [("the singer is singing", "der Sänger singt"), ("the singers sing", "die Sänger singen")] * 8
TOKENIZER = {kind: dg.Tokenizer.train([text for pair in PAIRS for text in pair], 100, kind) for kind in ("bpe", "char")}
OPTIONS = {"batch_tokens": 40, "warmup": 1, "lr": 1e-3, "log_interval": 1, "seed": 3}


def train(**options):
    dg.manual_seed(0)
    model = dg.Transformer(replace(CONFIG, vocab_size=TOKENIZER["bpe"].vocab_size))
    records = Trainer(model, tokenizer=TOKENIZER["bpe"], **OPTIONS, **options)
    return model, records


def test_a_resumed_run_sees_the_same_splits(tmp_path):
    options = {"bpe_dropout": 0.5, "checkpoint_every": 2}
    whole, trainer = train(output=tmp_path / "whole", max_steps=6, **options)
    trainer.fit(PAIRS)
    train(output=tmp_path / "parts", max_steps=3, **options)[1].fit(PAIRS)
    again, trainer = train(output=tmp_path / "parts", max_steps=6, **options)
    trainer.fit(PAIRS, resume=True)
    assert bits(again) == bits(whole)
    plain, trainer = train(max_steps=6)
    trainer.fit(PAIRS)
    assert bits(plain) != bits(whole)


def test_validation_text_stays_whole():
    # With a rate of learning near zero the model stays as it is, and so does its loss on validation data.
    losses = []
    for rate in (0.0, 0.9):
        _, trainer = train(bpe_dropout=rate, max_steps=1, checkpoint_every=1)
        trainer.lr = 1e-12
        losses.append(next(r["valid_loss"] for r in trainer.fit(PAIRS, PAIRS[:2]) if "valid_loss" in r))
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_what_cannot_be_split_at_random_is_refused():
    model, task = train()[0], MaskedLM(TOKENIZER["bpe"])
    with pytest.raises(ValueError, match=r"^Trainer: bpe_dropout must be 0 for the task mlm, got 0\.1$"):
        Trainer(encoder_for(task), task=task, bpe_dropout=0.1)
    with pytest.raises(ValueError, match=r"^Tokenizer: bpe_dropout needs the kind bpe$"):
        Trainer(model, task=Translation(TOKENIZER["char"]), bpe_dropout=0.1)
    with pytest.raises(ValueError, match=r"^Trainer: bpe_dropout needs a tokenizer, got none$"):
        Trainer(model, bpe_dropout=0.1)
    with pytest.raises(ValueError, match=r"bpe_dropout must lie in"):
        train(bpe_dropout=1.0)


def test_the_command_line(tmp_path, capsys):
    for side, texts in zip(("en", "de"), zip(*PAIRS, strict=True), strict=True):
        (tmp_path / side).write_text("\n".join(texts) + "\n")
    sides = [f"--source={tmp_path / 'en'}", f"--target={tmp_path / 'de'}", f"--output={tmp_path / 'out'}"]
    small = ["--threads=1", "--vocab-size=80", "--steps=2", "--batch-tokens=40"]
    assert main(["train", *sides, *small, "--lowercase", "--bpe-dropout=0.1"]) == 0
    options = (tmp_path / "out" / "train.toml").read_text()
    assert "lowercase = true\n" in options
    assert "bpe_dropout = 0.1\n" in options
    translator = dg.Translator.load(tmp_path / "out")
    assert translator("THE SINGERS") == translator("the singers")
    assert main(["train", *sides, "--lowercase", "--task=image", "--overwrite"]) == 2
    assert "--lowercase does not belong to --task image" in capsys.readouterr().err
