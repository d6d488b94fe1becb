"""A run with a limit of time: the warm-up fits into it, by a clock of the test's own."""

import types

import pytest
from dragoman.train import Callback, Trainer, limits
from dragoman.train.schedule import InverseSqrt, fitted_warmup
from toy_runs import model_of, pairs_of

OPTIONS = {"batch_tokens": 64, "lr": 1e-2, "log_interval": 1, "max_minutes": 1}


class Clock(Callback):
    """Each step and each validation take so many seconds."""

    def __init__(self, step, validation=0.0):
        self.now, self._step, self._validation = 0.0, step, validation

    def on_step(self, step, loss):
        self.now += self._step

    def on_validation(self, record):
        self.now += self._validation


@pytest.fixture
def pairs(rng):
    return pairs_of(rng, 40)


@pytest.fixture
def run(monkeypatch, pairs):
    def begin(step, validation=None, resume=False, **options):
        clock = Clock(step, validation or 0.0)
        own = types.SimpleNamespace(monotonic=lambda: clock.now)
        monkeypatch.setattr(limits, "time", own)
        trainer = Trainer(model_of(), callbacks=[clock], **{**OPTIONS, **options})
        records = trainer.fit(pairs, pairs[:5] if validation else None, resume=resume)
        monkeypatch.undo()
        return [record["lr"] for record in records if "lr" in record and not record.get("partial")]

    return begin


def test_a_short_run_reaches_its_peak(run, capsys):
    rates = run(2.0)  # 30 steps
    assert len(rates) == 30
    assert rates[:2] == [InverseSqrt(1e-2, 2000)(step) for step in (1, 2)]  # until 5 % of the minute
    assert rates[2:] == [InverseSqrt(1e-2, 15)(step) for step in range(3, 31)]
    assert max(rates) == 1e-2
    said = "warm-up in 15 steps, half of what the time limit allows, instead of 2,000"
    assert capsys.readouterr().err.count(said) == 1


def test_a_warm_up_that_fits_is_left_alone(run, capsys):
    rates = run(2.0, warmup=12)
    assert rates == [InverseSqrt(1e-2, 12)(step) for step in range(1, 31)]
    assert "warm-up" not in capsys.readouterr().err


def test_validations_that_take_most_of_the_time_do_not_keep_it_from_the_peak(run):
    rates = run(0.5, validation=9.0, checkpoint_every=12)
    assert len(rates) < 60 and max(rates) == 1e-2


def test_the_limit_of_time_counts_beside_one_of_epochs(run):
    rates = run(2.0, epochs=1000)
    assert len(rates) == 30 and max(rates) == 1e-2
    assert max(run(2.0, epochs=1000, schedule="cosine")) == 1e-2


def test_a_resumed_run_goes_on_with_the_same_warm_up(run, tmp_path):
    output = tmp_path / "run"
    first = run(2.0, output=output, max_steps=20)
    assert max(first[:11]) == 1e-2  # of 20 steps
    rates = run(2.0, output=output, resume=True, max_steps=40)
    assert rates[0] == InverseSqrt(1e-2, 20)(21)
    output = tmp_path / "timed"
    run(6.0, output=output)  # 10 steps, a warm-up of 5
    rates = run(6.0, output=output, resume=True)
    assert rates == [InverseSqrt(1e-2, 5)(step) for step in range(11, 21)]


def test_a_warm_up_is_at_most_half_of_what_is_to_come_and_never_in_the_past():
    assert fitted_warmup(2000, 0, 10, 0.05) == 100
    assert fitted_warmup(50, 0, 10, 0.05) == 50
    assert fitted_warmup(2000, 0, 1, 3.0) == 2
    assert fitted_warmup(2000, 1000, 1010, 0.1) == 1011
