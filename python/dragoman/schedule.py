"""Learning-rate schedules: callables from a step, 1 for the first, to a learning rate."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt


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
        ValueError: for an lr that is not positive or a warmup below 1.
    """

    lr: float
    warmup: int

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise ValueError(f"schedule: lr must be positive, got {self.lr}")
        if self.warmup < 1:
            raise ValueError(f"schedule: warmup must be at least 1, got {self.warmup}")

    def __call__(self, step: int) -> float:
        return self.lr * min(step / self.warmup, sqrt(self.warmup / step))
