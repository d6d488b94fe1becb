"""When a run ends: at its limits, or after a signal."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext

from dragoman.distributed.ranks import Ranks
from dragoman.train.options import TrainingOptions
from dragoman.train.signals import StopSignals
from dragoman.train.store import Position


class Limits:
    """The limits of a run. All ranks decide alike when it ends.

    Args:
        options: of the run; its time starts now.
        ranks: the processes that train together.
        stop: the signals of this process.
        epoch_steps: steps in an epoch, if every epoch is as long as the first.

    Attributes:
        total_steps: steps until the limit of steps or epochs, None without one.
        stopped: whether a signal has reached a rank, when `agree` was called last.
    """

    def __init__(self, options: TrainingOptions, ranks: Ranks, stop: StopSignals, epoch_steps: int) -> None:
        self._options = options
        self._ranks = ranks
        self._stop = stop
        self._started = time.monotonic()
        self._out_of_time = False
        self.stopped = False
        limits = [options.max_steps, options.epochs and options.epochs * epoch_steps]
        self.total_steps = min((limit for limit in limits if limit is not None), default=None)

    def reached(self, position: Position) -> bool:
        """Whether the run ends at a position. All ranks call it together."""
        options = self._options
        self.agree()
        return (
            self.stopped
            or self._out_of_time
            or (options.epochs is not None and position.epoch >= options.epochs)
            or (options.max_steps is not None and position.step >= options.max_steps)
            or (options.patience is not None and position.since_best >= options.patience)
        )

    def agree(self) -> None:
        """Exchanges whether a signal has come, and whether the time is over. All ranks call it together."""
        late = self._time_used() >= 1
        by_rank = self._ranks.gather([self._stop.received, late])
        received = [number for number, _ in by_rank if number is not None]
        if received:
            self._stop.learn(received[0])
        self.stopped = bool(received)
        self._out_of_time = any(late for _, late in by_rank)

    def time_used(self) -> float:
        """The share of `max_minutes` that is over, by the first rank's clock. All ranks call it together."""
        used: float = self._ranks.gather(self._time_used())[0]
        return used

    def seconds_left(self, first_step: int, step: int) -> float | None:
        """Seconds until the first limit, at the speed from `first_step` to `step`; None without a limit."""
        spent = time.monotonic() - self._started
        left = []
        if self.total_steps is not None:
            left.append((self.total_steps - step) * spent / max(step - first_step, 1))
        if self._options.max_minutes is not None:
            left.append(60 * self._options.max_minutes - spent)
        return max(min(left), 0.0) if left else None

    def at_once(self) -> AbstractContextManager[None]:
        """Inside, a signal ends a single process at once. Several ranks end together, between two batches."""
        return self._stop.at_once() if self._ranks.size == 1 else nullcontext()

    def _time_used(self) -> float:
        minutes = self._options.max_minutes
        return 0.0 if minutes is None else (time.monotonic() - self._started) / (60 * minutes)
