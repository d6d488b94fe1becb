"""Learning-rate schedules: functions from a step to a learning rate. The first step is 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi, sqrt

from dragoman import arguments

Schedule = Callable[[int], float]

SCHEDULES = ("inverse_sqrt", "cosine", "linear")


@dataclass(frozen=True)
class InverseSqrt:
    """Linear warm-up to a peak, then decay with the inverse square root of the step.

        rate(step) = lr * min(step / warmup, sqrt(warmup / step))

    Vaswani et al. 2017, "Attention is all you need", section 5.3: there the peak is (d_model * warmup) **
    -0.5.

    Args:
        lr: the peak, reached at step `warmup`.
        warmup: steps of linear growth, at least 1.

    Raises:
        TypeError, ValueError: lr is no number above 0, or warmup no int of at least 1.
    """

    lr: float
    warmup: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "lr", arguments.positive("schedule", "lr", self.lr))
        object.__setattr__(self, "warmup", arguments.integer("schedule", "warmup", self.warmup, 1))

    def __call__(self, step: int) -> float:
        step = arguments.integer("schedule", "step", step, 1)
        return self.lr * min(step / self.warmup, sqrt(self.warmup / step))


@dataclass(frozen=True)
class Linear(InverseSqrt):
    """Linear warm-up to a peak, then a straight line to 0. The step after the last would have rate 0.

        rate(step) = lr * min(step / warmup, 1 - done),  done = (step - warmup) / (steps + 1 - warmup)

    Args:
        lr, warmup: as in `InverseSqrt`.
        steps: number of steps of the run, at least `warmup`. Later steps have the rate of the last.

    Raises:
        ValueError: as in `InverseSqrt`, or warmup is above `steps`.
    """

    steps: int

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "steps", arguments.integer("schedule", "steps", self.steps, 1))
        if self.warmup > self.steps:
            raise ValueError(f"schedule: warmup must be at most the {self.steps} steps of the run, got {self.warmup}")

    def __call__(self, step: int) -> float:
        step = arguments.integer("schedule", "step", step, 1)
        if step < self.warmup:
            return self.lr * (step / self.warmup)
        done = (min(step, self.steps) - self.warmup) / (self.steps + 1 - self.warmup)
        return self.lr * self._left(done)

    def _left(self, done: float) -> float:
        """The rate as a share of the peak, after the share `done` of the steps that follow the peak."""
        return 1.0 - done


@dataclass(frozen=True)
class Cosine(Linear):
    """As `Linear`, with half a cosine wave instead of the line: (1 + cos(pi * done)) / 2.

    Loshchilov & Hutter 2017, "SGDR: Stochastic gradient descent with warm restarts", without restarts.
    """

    def _left(self, done: float) -> float:
        return (1.0 + cos(pi * done)) / 2.0


def capped_warmup(warmup: int, steps: int | None) -> int:
    """The warm-up in a run of so many steps: at most half of them, so that the rate always reaches its peak."""
    return warmup if steps is None else min(warmup, max(1, steps // 2))


def fitted_warmup(warmup: int, first: int, step: int, done: float) -> int:
    """The warm-up in a run that went from step `first` to `step`, at least, in the share `done` of its time limit: at
    most half of the steps that the limit allows at this speed, but not in the past."""
    expected = first + int((step - first) / done)
    return min(warmup, max(step + 1, expected // 2))


def make_schedule(name: str, lr: float, warmup: int, steps: int | None) -> Schedule:
    """The schedule called `name`, one of SCHEDULES.

    Raises:
        ValueError: an unknown name, "cosine" or "linear" without `steps`, or an error of the schedule's class.
    """
    if name == "inverse_sqrt":
        return InverseSqrt(lr, warmup)
    if name not in SCHEDULES:
        raise ValueError(f"schedule: name must be one of {', '.join(SCHEDULES)}, got {name!r}")
    if steps is None:
        raise ValueError(f"schedule: {name} needs the number of steps: give epochs or max_steps")
    return {"cosine": Cosine, "linear": Linear}[name](lr, warmup, steps)
