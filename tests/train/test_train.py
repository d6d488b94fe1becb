import io
import json
import os
import re
import signal
import sys
import threading

import dragoman as dg
import numpy as np
import pytest
from dragoman import Trainer, Transformer, TransformerConfig
from dragoman.generate import generate
from dragoman.train.checkpoint import CheckpointFile, CheckpointFolder, load_checkpoint, read_state, save_checkpoint
from dragoman.train.schedule import InverseSqrt
from dragoman.train.signals import StopSignals
from dragoman.train.validation import Validation
from toy_runs import model_of, pairs_of

OPTIONS = {"batch_tokens": 64, "accumulate": 2, "warmup": 3, "lr": 1e-2, "log_interval": 3, "average": 3}
pytestmark = pytest.mark.usefixtures("one_thread")


def bits(model):
    return {name: array.tobytes() for name, array in model.state_dict().items()}


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def untimed(records):
    """The records without times."""
    return [{k: v for k, v in record.items() if k not in ("seconds", "tokens_per_s")} for record in records]


def arrays_of(path):
    file = CheckpointFile(path)
    return {(part, name): file.array(part, name).tobytes() for part in ("model", "optimizer", "ema")
            for name in file.names(part)}  # fmt: skip


@pytest.mark.parametrize("reverse", [False, True])
def test_learns_to_copy_and_to_reverse(reverse, rng, tmp_path):
    # The model must learn content and position: an error in masks, positions or tied weights spoils many strings.
    config = TransformerConfig(
        vocab_size=20, d_model=64, num_heads=4, d_ff=128, num_encoder_layers=2, num_decoder_layers=2,
        dropout=0.0, embedding_dropout=0.0,
    )  # fmt: skip
    model = model_of(config=config)
    data = pairs_of(rng, 20_000, reverse=reverse)
    seen = {tuple(target) for _, target in data}
    unseen = [pair for pair in pairs_of(rng, 400, reverse=reverse) if tuple(pair[1]) not in seen]
    options = {"batch_tokens": 1024, "lr": 3e-3, "warmup": 100, "label_smoothing": 0.0}
    Trainer(model, output=tmp_path, max_steps=1200, checkpoint_every=50, **options).fit(data)
    found = generate(model, [source for source, _ in unseen], beam=1)
    exact = [hypotheses[0].ids == target for hypotheses, (_, target) in zip(found, unseen, strict=True)]
    assert len(exact) > 100
    assert sum(exact) >= 0.98 * len(exact), f"{sum(exact)} of {len(exact)}"


def test_training_twice_gives_the_same_bits(pairs):
    models = [model_of(), model_of()]
    for model, threads in zip(models, (1, 2), strict=True):
        dg.set_num_threads(threads)
        Trainer(model, **OPTIONS, max_steps=7).fit(pairs)
    assert bits(models[0]) == bits(models[1])
    other = model_of()
    Trainer(other, **OPTIONS, max_steps=7, seed=1).fit(pairs)
    assert bits(other) != bits(models[0])


@pytest.mark.parametrize("broken_at", [7, 11, 15])  # in an epoch, between checkpoints too; at a checkpoint
@pytest.mark.parametrize("every", [None, 5])
def test_resuming_gives_the_bits_of_an_undisturbed_run(every, broken_at, pairs, tmp_path):
    options = {**OPTIONS, "checkpoint_every": every, "ema": 0.9, "patience": 9}
    whole, other = model_of(), model_of(seed=5)  # everything must come from the checkpoint
    Trainer(whole, output=tmp_path / "whole", max_steps=23, **options).fit(pairs, pairs[:9])
    Trainer(model_of(), output=tmp_path / "parts", max_steps=broken_at, **options).fit(pairs, pairs[:9])
    dg.manual_seed(99)
    Trainer(other, output=tmp_path / "parts", max_steps=23, **options).fit(pairs, pairs[:9], resume=True)
    assert bits(other) == bits(whole)
    checkpoints = [CheckpointFolder(tmp_path / name / "checkpoints", 3) for name in ("whole", "parts")]
    assert [p.name for p in checkpoints[0].files()] == [p.name for p in checkpoints[1].files()]
    for paths in zip(*(folder.files() for folder in checkpoints), strict=True):
        assert arrays_of(paths[0]) == arrays_of(paths[1])
    states = [read_state(folder.newest()) for folder in checkpoints]
    for state in states:
        assert state["position"].pop("seconds") > 0
        state["sums"].pop("seconds")
    assert states[0] == states[1]
    assert bits(dg.load(tmp_path / "parts")) == bits(whole)
    assert untimed(log_of(tmp_path / "parts")) == untimed(log_of(tmp_path / "whole"))


def test_resuming_after_a_crash_goes_back_to_the_last_checkpoint(pairs, tmp_path, monkeypatch):
    steps, real = iter(range(10)), Transformer.loss

    def loss(*arguments):
        if next(steps, None) is None:
            raise RuntimeError("power cut")
        return real(*arguments)

    options = {**OPTIONS, "accumulate": 1, "log_interval": 1}
    whole = model_of()
    Trainer(whole, output=tmp_path / "other", max_steps=12, checkpoint_every=4, **options).fit(pairs)
    with monkeypatch.context() as patch:
        patch.setattr(Transformer, "loss", loss)
        with pytest.raises(RuntimeError, match="power cut"):
            Trainer(model_of(), output=tmp_path / "x", max_steps=12, checkpoint_every=4, **options).fit(pairs)
    assert [record["step"] for record in log_of(tmp_path / "x")][-1] == 10
    with (tmp_path / "x" / "log.jsonl").open("a") as file:
        file.write('{"step": 1')  # half a line
    again = model_of(3)
    Trainer(again, output=tmp_path / "x", max_steps=12, checkpoint_every=4, **options).fit(pairs, resume=True)
    assert bits(again) == bits(whole)
    assert untimed(log_of(tmp_path / "x")) == untimed(log_of(tmp_path / "other"))


def test_resume_refuses_other_data_and_another_model(pairs, tmp_path):
    Trainer(model_of(), output=tmp_path, max_steps=2, **OPTIONS).fit(pairs)
    with pytest.raises(ValueError, match=r"stop-00000002.*: pairs must be the same to resume, was 60, got 59"):
        Trainer(model_of(), output=tmp_path, max_steps=4, **OPTIONS).fit(pairs[1:], resume=True)
    with pytest.raises(ValueError, match="batch_tokens must be the same to resume, was 64, got 65"):
        Trainer(model_of(), output=tmp_path, **{**OPTIONS, "batch_tokens": 65}).fit(pairs, resume=True)
    wide = TransformerConfig(
        vocab_size=20, d_model=64, num_heads=2, d_ff=64, num_encoder_layers=1, num_decoder_layers=1
    )
    with pytest.raises(
        ValueError, match=r"stop-00000002.safetensors: d_model must be the same to resume, was 32, got 64"
    ):
        Trainer(model_of(config=wide), output=tmp_path, **OPTIONS).fit(pairs, resume=True)
    with pytest.raises(ValueError, match="holds a training run"):
        Trainer(model_of(), output=tmp_path, **OPTIONS).fit(pairs)
    with pytest.raises(ValueError, match="no checkpoint to resume from"):
        Trainer(model_of(), output=tmp_path / "new", **OPTIONS).fit(pairs, resume=True)
    with pytest.raises(ValueError, match="resume needs an output folder"):
        Trainer(model_of(), **OPTIONS).fit(pairs, resume=True)


def test_resume_refuses_other_content_of_the_same_lengths(rng, tmp_path):
    sources, targets = rng.integers(4, 20, (2, 30, 5)).tolist()
    pairs = [([*source[1:], 2], target[1:]) for source, target in zip(sources, targets, strict=True)]
    swapped = [([*target, 2], source[:-1]) for source, target in pairs]
    Trainer(model_of(), output=tmp_path, max_steps=2, **OPTIONS).fit(pairs)
    trainer = Trainer(model_of(), output=tmp_path, max_steps=3, **OPTIONS)
    for other, column in (
        (swapped, "source"),
        (pairs[::-1], "source"),
        ([*pairs[:-1], (pairs[-1][0], [4] * 4)], "target"),
    ):
        with pytest.raises(ValueError, match=f"the data must be the same to resume, got other ids in {column}$"):
            trainer.fit(other, resume=True)
    assert bits(trainer.model) == bits(model_of())  # a refused run leaves the model as it was
    trainer.fit(pairs, resume=True)
    assert bits(trainer.model) != bits(model_of())


@pytest.mark.parametrize(
    "field, value",
    [("position", 3), ("position", {"step": "7"}), ("sums", {"loss": None}), ("sums", {"x": 1}), ("data", [])],
)
def test_a_checkpoint_whose_state_is_of_other_types_is_named(field, value, pairs, tmp_path):
    Trainer(model_of(), output=tmp_path, max_steps=2, **OPTIONS).fit(pairs)
    path, model = CheckpointFolder(tmp_path / "checkpoints", 3).newest(), model_of()
    parts = {"model": model, "optimizer": dg.optim.AdamW(model, 1e-3)}
    save_checkpoint(path, parts, load_checkpoint(path, parts) | {field: value})
    with pytest.raises(ValueError, match=f"{path.name}: metadata field state "):
        Trainer(model_of(), output=tmp_path, max_steps=4, **OPTIONS).fit(pairs, resume=True)


def test_a_checkpoint_that_does_not_name_its_columns_resumes(pairs, tmp_path):
    # As written before content was looked at.
    options = {"output": tmp_path, **OPTIONS}
    Trainer(model_of(), max_steps=2, **options).fit(pairs)
    path, model = CheckpointFolder(tmp_path / "checkpoints", 3).newest(), model_of()
    parts = {"model": model, "optimizer": dg.optim.AdamW(model, 1e-3)}
    state = load_checkpoint(path, parts)
    for name in ("task", "columns"):
        del state["data"][name]
    save_checkpoint(path, parts, state)
    Trainer(model_of(), max_steps=4, **options).fit(pairs, resume=True)
    assert {"task", "columns"} <= set(read_state(CheckpointFolder(tmp_path / "checkpoints", 3).newest())["data"])


def test_numpy_numbers_are_taken(pairs, tmp_path):
    options = {
        "lr": np.float32(1e-3), "seed": np.int64(1), "batch_tokens": np.int32(64), "betas": (np.float32(0.9), 0.98),
        "max_steps": np.uint8(2), "max_ratio": np.float16(3), "max_length": np.int16(50), "ema": np.float64(0.9),
        "tensorboard": np.bool_(False), "log_interval": np.int64(1),
    }  # fmt: skip
    trainer = Trainer(model_of(), output=tmp_path, **options)
    assert {name: type(getattr(trainer, name)) for name in options} == {
        **dict.fromkeys(options, int), **dict.fromkeys(("lr", "max_ratio", "ema"), float),
        "betas": tuple, "tensorboard": bool,
    }  # fmt: skip
    assert trainer.fit(pairs, pairs[:9]) == log_of(tmp_path)


def test_the_loss_is_read_once_and_after_the_step(pairs, monkeypatch):
    # A read before it would make the host wait for a device in the middle of every step.
    calls, item, step = [], dg.Tensor.item, dg.optim.AdamW.step
    monkeypatch.setattr(dg.Tensor, "item", lambda tensor: (calls.append("read"), item(tensor))[1])
    monkeypatch.setattr(dg.optim.AdamW, "step", lambda *a: (calls.append("step"), step(*a))[1])
    Trainer(model_of(), **OPTIONS, max_steps=3).fit(pairs)
    assert calls == [*["step", "read"] * 3, "read"]  # the last one is of the final model


def test_the_gradient_of_accumulated_batches_is_that_of_one_large_batch(pairs):
    # Batches have different numbers of target tokens: a mean of means would weight their tokens differently.
    config = TransformerConfig.tiny(vocab_size=20, dropout=0.0, embedding_dropout=0.0, num_encoder_layers=1)
    once, parts = model_of(config=config), model_of(config=config)
    common = {"max_steps": 1, "max_grad_norm": None, "log_interval": 1}
    large = Trainer(once, batch_tokens=10_000, **common).fit(pairs)
    small = Trainer(parts, batch_tokens=100, accumulate=1000, **common).fit(pairs)
    assert small[0]["loss"] == pytest.approx(large[0]["loss"], rel=1e-5)
    assert small[0]["gradient_norm"] == pytest.approx(large[0]["gradient_norm"], rel=1e-4)


def test_the_log_holds_what_was_done(pairs, tmp_path):
    trainer = Trainer(model_of(), output=tmp_path, epochs=3, **OPTIONS)
    records = trainer.fit(pairs, pairs[:10])
    assert records == log_of(tmp_path)
    steps = [record for record in records if "loss" in record]
    for record in steps:
        assert record["lr"] == InverseSqrt(trainer.lr, trainer.warmup)(record["step"])
        assert record["tokens_per_s"] > 0
        assert record["gradient_norm"] > 0
    assert [r["seconds"] for r in steps] == sorted(r["seconds"] for r in steps)
    epochs = [record for record in records if "valid_perplexity" in record and "final" not in record]
    assert [record["epoch"] for record in epochs] == [1, 2, 3]
    for record in epochs:
        assert record["valid_perplexity"] == pytest.approx(np.exp(record["valid_loss"]))
    assert steps[-1]["epoch"] == 3


def test_the_validation_loss_is_the_mean_over_tokens(pairs):
    model = model_of()
    record = [r for r in Trainer(model, max_steps=1, batch_tokens=10_000).fit(pairs, pairs) if "valid_loss" in r]
    logits = model.logits([src for src, _ in pairs], [[1, *tgt] for _, tgt in pairs]).astype(np.float64)
    labels = np.concatenate([[*tgt, 2] for _, tgt in pairs])
    log_p = (
        logits
        - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True))
        - logits.max(1, keepdims=True)
    )
    expected = -log_p[np.arange(len(labels)), labels].mean()
    assert record[0]["valid_loss"] == pytest.approx(expected, rel=1e-5)


def test_the_final_model_is_the_mean_of_the_last_checkpoints(pairs, tmp_path):
    model = model_of()
    Trainer(model, output=tmp_path, max_steps=20, checkpoint_every=2, **OPTIONS).fit(pairs)
    files = CheckpointFolder(tmp_path / "checkpoints", 3).files()
    assert [path.stem for path in files] == ["step-00000016", "step-00000018", "step-00000020"]
    from safetensors.numpy import load_file

    for name, array in model.state_dict().items():
        parts = [load_file(path)[f"model.{name}"].astype(np.float64) for path in files]
        np.testing.assert_array_equal(array, (sum(parts) / 3).astype(np.float32))


def test_a_worse_mean_is_not_kept(pairs, tmp_path, monkeypatch):
    model = model_of()
    zeros = {name: np.zeros_like(array) for name, array in model.state_dict().items()}
    monkeypatch.setattr("dragoman.train.final_weights.average_checkpoints", lambda paths: zeros)
    Trainer(model, output=tmp_path, max_steps=20, checkpoint_every=2, **OPTIONS).fit(pairs, pairs)
    newest = CheckpointFolder(tmp_path / "checkpoints", 3).files()[-1]
    from safetensors.numpy import load_file

    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, load_file(newest)[f"model.{name}"])


@pytest.mark.parametrize(
    "number, error",
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit), (signal.SIGHUP, SystemExit)],
)
def test_a_signal_ends_the_run_with_a_checkpoint(number, error, pairs, tmp_path, monkeypatch, capsys):
    whole = model_of()
    Trainer(whole, output=tmp_path / "whole", max_steps=9, **OPTIONS).fit(pairs)
    before = signal.getsignal(number)
    model, calls = model_of(), []
    real = Transformer.loss

    def loss(*arguments):
        calls.append(None)
        if len(calls) == 9:  # in the fifth step
            os.kill(os.getpid(), number)
        return real(*arguments)

    monkeypatch.setattr(Transformer, "loss", loss)
    with pytest.raises(error) as raised:
        Trainer(model, output=tmp_path / "x", max_steps=9, **OPTIONS).fit(pairs)
    if error is SystemExit:
        assert raised.value.code == 128 + number
    assert signal.getsignal(number) is before
    assert (tmp_path / "x" / "checkpoints" / "stop-00000005.safetensors").exists()
    assert "resumed" in capsys.readouterr().err
    again = model_of(1)
    Trainer(again, output=tmp_path / "x", max_steps=9, **OPTIONS).fit(pairs, resume=True)
    assert bits(again) == bits(whole)


@pytest.mark.parametrize("validation", [1, 2, 3, 4], ids=["first", "second", "of the last weights", "of the average"])
def test_a_signal_ends_a_validation_and_the_resumed_run_makes_up_for_it(validation, pairs, tmp_path, monkeypatch):
    options = {"max_steps": 4, "checkpoint_every": 2, **OPTIONS, "batch_tokens": 128}
    whole, model, again, measured = model_of(), model_of(), model_of(1), []
    Trainer(whole, output=tmp_path / "whole", **options).fit(pairs, pairs[:20])
    real, real_call = Transformer.loss, Validation.__call__

    def call(self):
        measured.append(0)
        return real_call(self)

    def loss(model, *arguments):
        if not model.training:
            measured[-1] += 1
            if len(measured) == validation and measured[-1] == 1:
                os.kill(os.getpid(), signal.SIGINT)
        return real(model, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Transformer, "loss", loss)
        patch.setattr(Validation, "__call__", call)
        with pytest.raises(KeyboardInterrupt):
            Trainer(model, output=tmp_path / "x", **options).fit(pairs, pairs[:20])
    assert measured[validation - 1 :] == [1]
    assert not model.training
    Trainer(again, output=tmp_path / "x", **options).fit(pairs, pairs[:20], resume=True)
    assert bits(again) == bits(whole)
    assert untimed(log_of(tmp_path / "x")) == untimed(log_of(tmp_path / "whole"))
    names = [sorted(path.name for path in (tmp_path / run / "checkpoints").iterdir()) for run in ("x", "whole")]
    assert names[0] == names[1]


def test_a_second_signal_stops_at_once():
    with StopSignals() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    "numbers, status", [("HUP HUP", 129), ("TERM HUP", 143), ("HUP TERM", 143), ("INT HUP HUP", None)]
)
def test_a_closing_terminal_sends_more_than_one_signal(numbers, status):
    """None of them must end the step that is under way; they come from the kernel, a shell and systemd."""
    with StopSignals() as stop:
        for number in numbers.split():
            os.kill(os.getpid(), getattr(signal, f"SIG{number}"))
    with pytest.raises(KeyboardInterrupt if status is None else SystemExit) as raised:
        stop.raise_received()
    assert status in (None, getattr(raised.value, "code", None))


def test_trains_off_the_main_thread(pairs):
    records = []
    thread = threading.Thread(target=lambda: records.extend(Trainer(model_of(), max_steps=3, **OPTIONS).fit(pairs)))
    thread.start()
    thread.join()
    assert records[-1]["step"] == 3


def test_a_terminal_gets_a_bar_and_a_file_gets_lines(pairs, monkeypatch):
    pytest.importorskip("tqdm")

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for stream, bar in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        Trainer(model_of(), max_steps=3, **OPTIONS).fit(pairs)
        assert ("100%|" in stream.getvalue()) == bar
        assert ("step 3/3: epoch" in stream.getvalue()) != bar
        assert re.search(r"loss \d\.\d+, (lr 0\.00577, )?[\d,]+ tokens/s, 0:00 left", stream.getvalue())


def test_limits(pairs):
    assert Trainer(model_of()).epochs == 30
    assert Trainer(model_of(), max_steps=3).epochs is None
    trainer = Trainer(model_of(), epochs=2, batch_tokens=64, log_interval=1)
    assert trainer.fit(pairs)[-1]["epoch"] == 2
    trainer = Trainer(model_of(), max_minutes=1e-9, batch_tokens=64, log_interval=1)
    assert len(trainer.fit(pairs)) <= 1


@pytest.mark.parametrize(
    "option",
    [
        {"batch_tokens": 0}, {"accumulate": 0}, {"average": 0}, {"epochs": 0}, {"max_steps": -1}, {"seed": -1},
        {"max_minutes": 0}, {"label_smoothing": 1.0}, {"lr": 0.0}, {"warmup": 0}, {"log_interval": 0},
        {"checkpoint_every": 0}, {"max_length": 0}, {"patience": 0}, {"max_bad_steps": 0}, {"beam": 0},
        {"schedule": "flat"}, {"best_by": "ter"}, {"final": "first"}, {"ema": 1.0},
    ],
)  # fmt: skip
def test_refuses_bad_options(option):
    with pytest.raises(ValueError, match=f"Trainer: {next(iter(option))} must "):
        Trainer(model_of(), **option)


def test_refuses_options_that_lack_another(pairs):
    for option, message in (
        ({"final": "ema"}, "final='ema' needs ema"),
        ({"final": "best"}, "final='best' needs an output folder"),
        ({"tensorboard": True}, "tensorboard needs an output folder"),
    ):
        with pytest.raises(ValueError, match=message):
            Trainer(model_of(), **option)
    with pytest.raises(ValueError, match="need validation data"):
        Trainer(model_of(), patience=3).fit(pairs)
    with pytest.raises(ValueError, match="schedule='cosine' needs epochs or max_steps"):
        Trainer(model_of(), max_minutes=1, schedule="cosine").fit(pairs)
    with pytest.raises(ValueError, match="BLEU and chrF need a tokenizer"):
        Trainer(model_of(), best_by="bleu").fit(pairs, pairs)


def test_refuses_bad_data(pairs):
    with pytest.raises(ValueError, match="at least one pair"):
        Trainer(model_of()).fit([])
    with pytest.raises(ValueError, match="at least one pair"):
        Trainer(model_of()).fit(pairs, [])
    with pytest.raises(ValueError, match="validation: no pairs are left of 60"):
        Trainer(model_of(), max_length=8).fit([([5, 2], [5])], [([5] * 9, [5])] * 60)
    with pytest.raises(ValueError, match="train of text needs a tokenizer"):
        Trainer(model_of()).fit([("a", "b")])
