import dataclasses

import pytest
from dragoman.schedule import InverseSqrt


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
