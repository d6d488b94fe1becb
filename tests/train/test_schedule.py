import dataclasses
from math import cos, pi

import pytest
from dragoman.train.schedule import Cosine, InverseSqrt, Linear, make_schedule


def test_is_the_formula_of_the_paper():
    # Vaswani et al. 2017, equation 3: d_model^-0.5 * min(step^-0.5, step * warmup^-1.5).
    d_model, warmup = 512, 4000
    schedule = InverseSqrt((d_model * warmup) ** -0.5, warmup)
    for step in (1, 2, 3999, 4000, 4001, 100_000):
        assert schedule(step) == pytest.approx(d_model**-0.5 * min(step**-0.5, step * warmup**-1.5), rel=1e-12)


def test_peaks_at_warmup():
    schedule = InverseSqrt(5e-3, 7)
    assert schedule(7) == 5e-3
    assert max(range(1, 100), key=schedule) == 7
    assert InverseSqrt(1.0, 1)(4) == 0.5


def test_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        InverseSqrt(1.0, 1).lr = 2.0


@pytest.mark.parametrize("lr, warmup", [(0.0, 1), (-1.0, 1), (float("nan"), 1), (1.0, 0)])
def test_refuses_bad_arguments(lr, warmup):
    with pytest.raises(ValueError, match=r"schedule: (lr|warmup) must be"):
        InverseSqrt(lr, warmup)


@pytest.mark.parametrize("kind, shape", [(Linear, lambda x: 1 - x), (Cosine, lambda x: (1 + cos(pi * x)) / 2)])
def test_falls_to_the_end_of_the_run(kind, shape):
    schedule = kind(2.0, 10, 100)
    assert [schedule(step) for step in (1, 5)] == [0.2, 1.0]
    for step in range(10, 101):
        assert schedule(step) == pytest.approx(2.0 * shape((step - 10) / 91), abs=1e-15)
    assert schedule(10) == 2.0
    assert 0 < schedule(100) == schedule(101) == schedule(1000)  # a run may be longer than foretold
    rates = [schedule(step) for step in range(10, 101)]
    assert rates == sorted(rates, reverse=True)


def test_the_last_step_of_a_short_run_still_moves():
    assert Linear(1.0, 1, 2)(2) == 0.5
    assert Cosine(1.0, 1, 1)(1) == 1.0
    with pytest.raises(ValueError, match="schedule: warmup must be at most the 5 steps of the run, got 6"):
        Cosine(1.0, 6, 5)


def test_names():
    assert make_schedule("inverse_sqrt", 1.0, 4, None) == InverseSqrt(1.0, 4)
    assert make_schedule("linear", 1.0, 4, 9) == Linear(1.0, 4, 9)
    assert make_schedule("cosine", 1.0, 4, 9) == Cosine(1.0, 4, 9)
    with pytest.raises(ValueError, match="name must be one of inverse_sqrt, cosine, linear, got 'x'"):
        make_schedule("x", 1.0, 4, 9)
    with pytest.raises(ValueError, match="linear needs the number of steps"):
        make_schedule("linear", 1.0, 4, None)
