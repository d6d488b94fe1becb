"""Numbers as options: their kind, and the range in which they are of use."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

LARGEST = 10**38  # of a number; arithmetic runs in float32


@dataclass(frozen=True)
class Number:
    """The `type` of an option: reads an int or a float in [minimum, maximum], both included.

    The range keeps out what no machine can do. What a value means is checked where it is used.
    """

    kind: type[int] | type[float]
    minimum: float
    maximum: float

    def __call__(self, text: str) -> int | float:
        value: int | float
        try:
            value = self.kind(text)
        except ValueError:
            value = math.nan
        if not self.minimum <= value <= self.maximum:  # NaN, too
            words = "an integer" if self.kind is int else "a number"
            style = "," if self.kind is int else "g"
            what = f"{words} in [{self.minimum:{style}}, {self.maximum:{style}}]"
            if self.maximum == LARGEST:
                what = "a finite number"
            raise argparse.ArgumentTypeError(f"must be {what}, got {text!r}")
        return value


COUNT = Number(int, 1, 10**9)
SEED = Number(int, 0, 2**63 - 1)
THREADS = Number(int, 1, 1024)
REAL = Number(float, -LARGEST, LARGEST)
