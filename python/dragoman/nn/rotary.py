"""Rotary positions: the frequencies by which queries and keys turn, and how longer texts than those of training slow
them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman import arguments, functional
from dragoman._core import Sequences
from dragoman.arguments import shown
from dragoman.creation import tensor
from dragoman.nn import init
from dragoman.nn.attention_positions import AttentionPositions
from dragoman.tensor import Tensor

Scaling = Mapping[str, Any]

_FIELDS: dict[str, dict[str, float | None]] = {  # of each type, with defaults; None must be given
    "linear": {"factor": None},
    "ntk": {"factor": None},
    "llama3": {"factor": None, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_length": 8192},
    "yarn": {"factor": None, "original_max_length": None, "beta_fast": 32.0, "beta_slow": 1.0, "attention_factor": 0.0},
}


def check_scaling(op: str, argument: str, scaling: Any) -> dict[str, Any]:
    """A scaling with all its fields. TypeError, ValueError, in the names of `op` and `argument`, for another one."""
    if not isinstance(scaling, Mapping):
        raise TypeError(f"{op}: {argument} must be None or a dict, got {type(scaling).__name__}")
    values = dict(scaling)
    kind = values.pop("type", None)
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise ValueError(f"{op}: {argument} must have a type of {', '.join(_FIELDS)}, got {shown(kind)}")
    fields = _FIELDS[kind]
    for name in values:
        if name not in fields:
            raise ValueError(f"{op}: {argument} of type {kind} must have only {', '.join(fields)}, got {shown(name)}")
    for name, default in fields.items():
        value = values.get(name, default)
        value = value.item() if isinstance(value, np.generic) else value
        least = 0 if name == "attention_factor" else 1 if name in ("factor", "original_max_length") else 1e-6
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= 2**31:
            raise ValueError(f"{op}: {argument} must have a number {name} of at least {least:g}, got {shown(value)}")
        values[name] = value
    for low, high in (("low_freq_factor", "high_freq_factor"), ("beta_slow", "beta_fast")):
        if low in values and values[low] >= values[high]:
            raise ValueError(f"{op}: {argument} must have a {low} below {high}, got {values[low]} and {values[high]}")
    return {"type": kind, **values}


def rotary_frequencies(
    features: int, base: float = 10000.0, scaling: Scaling | None = None
) -> tuple[npt.NDArray[np.float64], float]:
    """The angle that each of features / 2 pairs turns by from one position to the next, base^(-2i / features), slowed
    by a scaling; and what the turned values are multiplied by."""
    exponents = -2.0 * np.arange(features // 2) / max(features, 1)
    plain = base**exponents
    if scaling is None:
        return plain, 1.0
    factor = scaling["factor"]
    if scaling["type"] == "linear":
        return plain / factor, 1.0
    if scaling["type"] == "ntk":
        return (base * factor ** (features / max(features - 2, 1))) ** exponents, 1.0
    if scaling["type"] == "llama3":
        turns = scaling["original_max_length"] * plain / (2 * math.pi)  # in the texts of training
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        kept = np.clip((turns - low) / (high - low), 0, 1)
        return plain * kept + plain / factor * (1 - kept), 1.0

    def pair(turns: float) -> float:
        """The pair that turns so often in the texts of training."""
        return features * math.log(scaling["original_max_length"] / (turns * 2 * math.pi)) / (2 * math.log(base))

    first = max(math.floor(pair(scaling["beta_fast"])), 0)
    last = min(math.ceil(pair(scaling["beta_slow"])), features - 1)
    slowed = np.clip((np.arange(features // 2) - first) / max(last - first, 0.001), 0, 1)
    magnitude = scaling["attention_factor"] or 0.1 * math.log(factor) + 1
    return plain * (1 - slowed) + plain / factor * slowed, magnitude


def rotary_table(length: int, features: int, base: float = 10000.0, scaling: Scaling | None = None) -> npt.NDArray[Any]:
    """float32 (length, features), computed in float64: row p holds the cosines of p times every frequency, then the
    sines."""
    frequencies, magnitude = rotary_frequencies(features, base, scaling)
    angles = np.arange(length)[:, None] * frequencies
    return (magnitude * np.concatenate([np.cos(angles), np.sin(angles)], axis=1)).astype(np.float32)


class RotaryPositions(AttentionPositions):
    """Turns queries and keys by angles that grow with the position (Su et al. 2021, RoFormer, arXiv:2104.09864).
    It has no parameters and no longest sequence.

    A scaling slows the turns, so that a model reads texts that are `factor` times as long as those of its training:

    - {"type": "linear", "factor": 4.0}: all frequencies divided by the factor (Chen et al. 2023, arXiv:2306.15595).
    - {"type": "ntk", "factor": 4.0}: a larger base, base * factor^(features / (features - 2)), which divides the lowest
      frequency by the factor and keeps the highest ("NTK-aware"; Peng et al. 2023, arXiv:2309.00071, section 3.1).
    - {"type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_length": 8192}:
      divides those that turn less than low_freq_factor times in a text of the original length, keeps those that turn
      more than high_freq_factor times, and goes from one to the other between them (Llama Team 2024, arXiv:2407.21783).
    - {"type": "yarn", "factor": 4.0, "original_max_length": 4096, "beta_fast": 32, "beta_slow": 1}: the same from
      beta_slow to beta_fast, evenly over the pairs; queries and keys are multiplied by attention_factor, 0.1 ln(factor)
      + 1 by default (YaRN, Peng et al. 2023).

    Args:
        features: of a head that are turned, an even number; the others stay as they are.
        base: feature pair i turns by position * base^(-2i / features).
        scaling: how the turns are slowed, or None.

    Raises:
        TypeError, ValueError: naming the argument.
    """

    turns = True

    def __init__(self, features: int, *, base: float = 10000.0, scaling: Scaling | None = None) -> None:
        features = arguments.size("RotaryPositions", "features", features)
        init.check_room(64, features)
        if features % 2:
            raise ValueError(f"RotaryPositions: features must be even, got {features}")
        self.features = features
        self.base = arguments.positive("RotaryPositions", "base", base)
        self.scaling = None if scaling is None else check_scaling("RotaryPositions", "scaling", scaling)
        if scaling is not None and self.base <= 1:
            raise ValueError(f"RotaryPositions: base must be above 1 with scaling, got {self.base:g}")
        self.table = tensor(rotary_table(64, features, self.base, self.scaling))

    def __call__(self, length: int) -> Tensor:
        """The table of `functional.rotary` for positions [0, length): (at least length, features)."""
        table = self.table
        if length > table.shape[0]:
            rows = max(length, 2 * table.shape[0])
            grown = rotary_table(rows, self.features, self.base, self.scaling)
            self.table = table = tensor(grown, self.table.device)
        return table

    def turn(self, x: Tensor, sequences: Sequences, head_dim: int, length: int, starts: Tensor | None) -> Tensor:
        return functional.rotary(x, self(length), sequences, head_dim=head_dim, starts=starts)
