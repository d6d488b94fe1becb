import dataclasses
import json
import math
import re
import tracemalloc
from pathlib import Path

import dragoman as dg
import pytest
from dragoman import Trainer, TransformerConfig
from dragoman.data.columns import Table, columns_of
from dragoman.data.held_out import hold_out
from dragoman.data.tokenizer import Tokenizer
from dragoman.train.averaging import ExponentialAverage
from dragoman.train.callbacks import Callback
from dragoman.train.checkpoint import CheckpointFile, CheckpointFolder
from dragoman.train.options import TrainingOptions
from dragoman.train.translation import Translation
from dragoman.train.validation import Validation
from toy_runs import CONFIG, model_of

OPTIONS = {"batch_tokens": 64, "warmup": 10, "lr": 1e-2, "checkpoint_every": 2, "average": 2}
pytestmark = pytest.mark.usefixtures("one_thread")


def bits(state):
    return {name: array.tobytes() for name, array in state.items()}


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def score(monkeypatch, *losses):
    """Replaces validation: returns the losses in order, then the last one again and again."""
    left = list(losses)

    def measure(self):
        loss = left.pop(0) if len(left) > 1 else left[0]
        return {"valid_loss": loss, "valid_perplexity": 1.0}

    monkeypatch.setattr(Validation, "__call__", measure)


class Letters(Tokenizer):
    """A tokenizer that knows the letters a to p."""

    vocab_size = 20

    def __init__(self):
        pass

    def encode_batch(self, texts):
        return [["abcdefghijklmnop".index(letter) + 4 for letter in text.replace(" ", "")] for text in texts]

    def decode(self, ids):
        return " ".join("abcdefghijklmnop"[i - 4] for i in ids)

    def save(self, path):
        path.write_text("{}")


def test_bleu_and_chrf_are_those_of_sacrebleu_on_the_whole_corpus(rng):
    sacrebleu = pytest.importorskip("sacrebleu")
    from dragoman.generate import generate

    tokenizer, model = Letters(), model_of()
    texts = [tokenizer.decode(rng.integers(4, 20, rng.integers(1, 7)).tolist()) for _ in range(50)]
    pairs = [(text, text) for text in texts]
    options, task = TrainingOptions(batch_tokens=40, best_by="bleu", beam=2), Translation(tokenizer)
    record = Validation(model, task, pairs, options)()
    sources = [[*ids, 2] for ids in tokenizer.encode_batch(texts)]
    outputs = [tokenizer.decode(found[0].ids) for found in generate(model, sources, beam=2)]
    assert record["valid_bleu"] == pytest.approx(sacrebleu.corpus_bleu(outputs, [texts]).score, abs=1e-9)
    assert record["valid_chrf"] == pytest.approx(sacrebleu.corpus_chrf(outputs, [texts]).score, abs=1e-9)
    assert record["valid_chrf"] > 0
    assert "tok:13a" in record["valid_bleu_signature"]
    assert "nrefs:1" in record["valid_chrf_signature"]
    ids = list(zip(sources, tokenizer.encode_batch(texts), strict=True))
    assert Validation(model, task, ids, options)() == record


def test_one_file_alone_imports_sacrebleu():
    files = Path(dg.__file__).parent.rglob("*.py")
    assert [path.name for path in files if re.search(r"^\s*(import|from) sacrebleu", path.read_text(), re.M)] == [
        "scores.py"
    ]


def test_the_best_by_bleu_is_chosen_and_logged(tmp_path, rng):
    pytest.importorskip("sacrebleu")
    tokenizer = Letters()
    texts = [tokenizer.decode(rng.integers(4, 20, rng.integers(1, 7)).tolist()) for _ in range(60)]
    trainer = Trainer(
        model_of(), tokenizer=tokenizer, output=tmp_path, max_steps=6, best_by="chrf", final="best", **OPTIONS
    )
    trainer.fit([(text, text) for text in texts], [(text, text) for text in texts[:9]])
    scored = [record for record in log_of(tmp_path) if "valid_chrf" in record]
    assert [record["step"] for record in scored if "final" not in record] == [2, 4, 6]
    best = max(record["valid_chrf"] for record in scored)
    assert scored[-1]["final"] == "best"
    assert scored[-1]["valid_chrf"] == best


def test_long_sources_are_cut_and_long_targets_left_out():
    model = model_of(config=dataclasses.replace(CONFIG, max_source_length=5))
    cut, whole = [([7] * 4 + [2], [6])], [([7] * 9 + [2], [6]), ([8, 2], [5] * 9)]
    options = TrainingOptions(batch_tokens=64, max_length=8)
    assert Validation(model, Translation(), whole, options)() == Validation(model, Translation(), cut, options)()


def test_memory_does_not_grow_with_the_corpus(monkeypatch):
    monkeypatch.setattr("dragoman.train.validation.CHUNK", 100)

    class Many:
        """A corpus that is not in memory."""

        def __init__(self, count):
            self.count = count

        def __len__(self):
            return self.count

        def __getitem__(self, place):
            if isinstance(place, slice):
                return [self[i] for i in range(*place.indices(self.count))]
            return ([4 + place % 16] * 30, [4 + place % 16] * 30)

    model = model_of(config=TransformerConfig.tiny(vocab_size=20, d_model=16, num_encoder_layers=1,
                                                   num_decoder_layers=1, d_ff=16, num_heads=1))  # fmt: skip
    peaks = []
    for count in (200, 800):
        validation = Validation(model, Translation(), Many(count), TrainingOptions(batch_tokens=512))
        tracemalloc.start()
        validation()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]


def test_the_best_checkpoint_stays_and_can_be_the_final_model(pairs, tmp_path, monkeypatch):
    score(monkeypatch, 5.0, 3.0, 4.0, float("nan"), 3.0, 3.5)
    model = model_of()
    Trainer(model, output=tmp_path, max_steps=12, final="best", **OPTIONS).fit(pairs, pairs)
    folder = CheckpointFolder(tmp_path / "checkpoints", 2)
    assert [path.stem[-2:] for path in folder.files()] == ["04", "10", "12"]
    assert bits(model.state_dict()) == bits(CheckpointFile(folder.path(4)).part("model"))
    assert bits(dg.load(tmp_path).state_dict()) == bits(model.state_dict())
    last = CheckpointFile(folder.path(12))
    assert last.state["position"]["best_step"] == 4
    assert bits(last.part("model")) != bits(model.state_dict())


@pytest.mark.parametrize("broken_at", [None, 5, 8])
def test_patience(broken_at, pairs, tmp_path, monkeypatch):
    losses = [5.0, 4.0, 4.5, 4.0, 4.1, 9.0]
    options = {"output": tmp_path, "patience": 3, "final": "last", **OPTIONS}
    score(monkeypatch, *losses)
    if broken_at:  # the count goes through a break
        Trainer(model_of(), max_steps=broken_at, **options).fit(pairs, pairs)
        score(monkeypatch, *losses[broken_at // 2 :])
    records = Trainer(model_of(), max_steps=50, **options).fit(pairs, pairs, resume=broken_at is not None)
    assert records[-1]["step"] == 10
    again = Trainer(model_of(), max_steps=50, **options).fit(pairs, pairs, resume=True)
    assert [record["partial"] for record in again] == [True]  # nothing but the line about its end


def test_the_moving_average(pairs, tmp_path):
    model, seen = model_of(), []
    initial = model.state_dict()

    class Watch(Callback):
        def on_step(self, step, loss):
            seen.append(model.state_dict())

    Trainer(model, output=tmp_path, max_steps=30, ema=0.7, final="ema", callbacks=[Watch()], **OPTIONS).fit(pairs)
    expected = {name: array.astype("float64") for name, array in initial.items()}
    for count, state in enumerate(seen, 1):
        decay = min(0.7, (1 + count) / (10 + count))
        expected = {name: decay * array + (1 - decay) * state[name] for name, array in expected.items()}
    for name, array in model.state_dict().items():
        assert abs(array - expected[name]).max() < 1e-6
    saved = CheckpointFile(CheckpointFolder(tmp_path / "checkpoints", 2).newest())
    assert bits(saved.part("ema")) == bits(model.state_dict())
    assert bits(saved.part("model")) == bits(seen[-1])


def test_the_moving_average_refuses_what_does_not_fit():
    average = ExponentialAverage(model_of(), 0.9)
    state = dict(average.state_dict())
    name, array = state.popitem()
    with pytest.raises(ValueError, match=rf"ema: {name} must have shape .*, got none"):
        average.load_state_dict(state)
    with pytest.raises(ValueError, match=rf"ema: {name} must have shape .*, got \(0,\)"):
        average.load_state_dict({**state, name: array.reshape(-1)[:0]})


def test_a_damaged_newest_checkpoint_is_passed_over(pairs, tmp_path, capsys):
    options = {"max_steps": 8, **OPTIONS}
    whole, model = model_of(), model_of()
    Trainer(whole, output=tmp_path / "whole", **options).fit(pairs)
    Trainer(model, output=tmp_path / "x", **options).fit(pairs)
    newest = CheckpointFolder(tmp_path / "x" / "checkpoints", 2).newest()
    data = bytearray(newest.read_bytes())
    data[-5] ^= 1
    newest.write_bytes(data)
    again = model_of(3)
    Trainer(again, output=tmp_path / "x", **options).fit(pairs, resume=True)
    assert f"{newest}: damaged; going on from step 6" in capsys.readouterr().err
    assert bits(again.state_dict()) == bits(whole.state_dict())


def test_a_share_of_the_data_is_held_out(pairs):
    model = model_of()
    trainer = Trainer(model, max_steps=2, **OPTIONS)
    records = trainer.fit(pairs, 0.2)
    _, rest = hold_out(Table(columns_of(("source", "target"), pairs)), 0.2)
    assert len(rest) == 12
    expected = Validation(model, trainer.task, rest, trainer.options)()["valid_loss"]
    *_, found = [record["valid_loss"] for record in records if "valid_loss" in record]
    assert found == pytest.approx(expected, rel=1e-6)
    for share in (0, 1.5, math.nan):
        with pytest.raises(ValueError, match="Trainer: validation must"):
            trainer.fit(pairs, share)
