import dragoman as dg
import numpy as np
import pytest
from dragoman import Trainer, Transformer
from dragoman.train.callbacks import Callback
from dragoman.train.checkpoint import CheckpointFolder, read_state
from toy_runs import CONFIG, model_of

OPTIONS = {"batch_tokens": 64, "warmup": 10, "lr": 1e-2, "log_interval": 1, "final": "last"}
pytestmark = pytest.mark.usefixtures("one_thread")
BAD = "encoder.layers.0.feed_forward.linear1.weight"


def poison(monkeypatch, steps):
    """Puts NaN into the gradient of one parameter in some steps, counted from 1; returns the optimizers used."""
    real, numbers, used = dg.optim.AdamW.step, iter(range(1, 10_000)), []

    def step(optimizer, loss=None):
        used.append(optimizer)
        if next(numbers) in steps:
            parameter = next(segment.parameter for segment in optimizer._segments if segment.name == BAD)
            values = parameter.grad.numpy().copy()
            values.flat[3] = np.nan
            parameter.grad.data.copy_(values)
        return real(optimizer, loss)

    monkeypatch.setattr(dg.optim.AdamW, "step", step)
    return used


class Watch(Callback):
    """The bits of weights and moments after each step, and the steps' records."""

    def __init__(self, model, used):
        self.model, self.used, self.bits, self.records = model, used, [], []

    def on_step(self, step, loss):
        state = self.model.state_dict() | self.used[-1].state_dict()
        self.bits.append({name: array.tobytes() for name, array in state.items()})

    def on_record(self, record):
        self.records.append(record)


def test_a_bad_step_changes_nothing_is_counted_and_named(pairs, monkeypatch, tmp_path):
    model = model_of()
    watch = Watch(model, poison(monkeypatch, {3, 5}))
    Trainer(model, output=tmp_path, max_steps=6, ema=0.5, callbacks=[watch], **OPTIONS).fit(pairs)
    same = [before == after for before, after in zip(watch.bits, watch.bits[1:], strict=False)]
    assert same == [False, True, False, True, False]
    skipped = [record for record in watch.records if "skipped" in record]
    assert [(record["step"], record["skipped"]) for record in skipped] == [(3, 1), (5, 2)]
    assert all(f"the first bad one is of {BAD}" in record["reason"] for record in skipped)
    assert [record["step"] for record in watch.records if "loss" in record] == [1, 2, 4, 6]
    state = read_state(CheckpointFolder(tmp_path / "checkpoints", 8).newest())
    assert state["position"]["skipped"] == 2
    assert state["random"]["step"] == 6  # masks move on: a step tried again with them would go bad again


def test_after_a_bad_step_training_goes_on_as_if_its_batch_had_not_been(pairs, monkeypatch):
    # Without dropout and with a constant rate, only the gradients decide the weights.
    runs = []
    for bad in (set(), {2}):
        with monkeypatch.context() as patch:
            dg.manual_seed(0)
            model = Transformer(CONFIG.with_dropout(0.0))
            watch = Watch(model, poison(patch, bad))
            patch.setattr("dragoman.train.learning_rate.make_schedule", lambda *arguments: lambda step: 1e-3)
            order = [[0], [1], [2]] if bad else [[0], [2]]
            patch.setattr("dragoman.data.batches.Batches.epoch", lambda self, epoch, order=order: order)
            Trainer(model, epochs=1, callbacks=[watch], **OPTIONS).fit(pairs)
            runs.append(watch.bits[-1])
    assert runs[0] == runs[1]


def test_several_bad_steps_in_a_row_stop_the_run(pairs, monkeypatch, tmp_path):
    model = model_of()
    watch = Watch(model, poison(monkeypatch, {2, 4, 5, 6, 7}))
    trainer = Trainer(model, output=tmp_path, max_steps=20, max_bad_steps=3, callbacks=[watch], **OPTIONS)
    with pytest.raises(FloatingPointError, match=rf"3 steps in a row, up to step 6, .*{BAD}"):
        trainer.fit(pairs)
    assert watch.records[-1]["skipped"] == 4
    before = watch.bits[2]
    assert {name: array.tobytes() for name, array in model.state_dict().items()}.items() <= before.items()


def test_a_loss_that_is_not_finite_is_a_bad_step(pairs):
    model = model_of()
    weights = model.state_dict()
    weights[BAD][:] = np.nan
    model.load_state_dict(weights)
    with pytest.raises(FloatingPointError, match=r"10 steps in a row.*the loss became nan; .*the first bad"):
        Trainer(model, **OPTIONS).fit(pairs)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_bad_loss_with_a_finite_gradient_changes_nothing(bad, pairs, monkeypatch):
    # A target of probability 0 has the loss inf, and the finite gradient p - 1.
    numbers, real = iter(range(1, 10)), Transformer.loss

    def loss(*arguments):
        value = real(*arguments)
        return value + dg.tensor(np.array(bad, np.float32)) if next(numbers) == 2 else value

    monkeypatch.setattr(Transformer, "loss", loss)
    model = model_of()
    watch = Watch(model, poison(monkeypatch, set()))
    records = Trainer(model, max_steps=3, callbacks=[watch], **OPTIONS).fit(pairs)
    assert [record["step"] for record in records if "loss" in record] == [1, 3]
    assert records[1]["reason"] == f"the loss became {bad}; AdamW: the loss must be finite; its gradient is finite"
    assert watch.bits[0] == watch.bits[1] != watch.bits[2]


def test_resumes_amid_bad_steps(pairs, monkeypatch, tmp_path):
    # A break does not reset the count of bad steps in a row: two before it and one after it are three.
    with monkeypatch.context() as patch:
        poison(patch, {2, 3})
        Trainer(model_of(), output=tmp_path, max_steps=3, **OPTIONS).fit(pairs)
    poison(monkeypatch, {1})
    with pytest.raises(FloatingPointError, match="3 steps in a row, up to step 4"):
        Trainer(model_of(), output=tmp_path, max_steps=9, max_bad_steps=3, **OPTIONS).fit(pairs, resume=True)
