"""The learning rate of a run: a schedule whose warm-up fits the run."""

from __future__ import annotations

from dragoman.train.limits import Limits
from dragoman.train.options import TrainingOptions
from dragoman.train.schedule import capped_warmup, fitted_warmup, make_schedule

MEASURED = (0.05, 0.5)  # shares of the time limit after which the warm-up is fitted to it


class LearningRate:
    """The learning rate of each step. The warm-up takes at most half of the run.

    How many steps a run has is known from the beginning, or, with a limit in minutes, from the speed of its first
    steps.

    Args:
        options: of the run, with `lr`.
        limits: of the run.

    Attributes:
        warmup: steps of the warm-up, as it is now.
    """

    def __init__(self, options: TrainingOptions, limits: Limits) -> None:
        self._options = options
        self._limits = limits
        self._to_measure = list(MEASURED)
        self.set_warmup(capped_warmup(options.warmup, limits.total_steps))

    def __call__(self, step: int) -> float:
        return self._schedule(step)

    def set_warmup(self, steps: int) -> None:
        """Makes the schedule again, with another warm-up."""
        assert self._options.lr is not None
        self.warmup = steps
        self._schedule = make_schedule(self._options.schedule, self._options.lr, steps, self._limits.total_steps)

    def fit(self, first_step: int, step: int) -> bool:
        """Cuts a warm-up that would take more than half of the minutes, at the speed since `first_step`.

        All ranks call it together, after each step.

        Returns:
            Whether the warm-up is shorter now.
        """
        if self._options.max_minutes is None or step >= self.warmup or not self._to_measure:
            return False
        done = self._limits.time_used()
        if done < self._to_measure[0]:
            return False
        self._to_measure = [share for share in self._to_measure if done < share]
        warmup = fitted_warmup(self.warmup, first_step, step, done)
        if warmup >= self.warmup:
            return False
        self.set_warmup(warmup)
        return True
