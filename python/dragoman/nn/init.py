"""First values of parameters, drawn from the library's generator (`dragoman.manual_seed`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman import random

_skipped: ContextVar[bool] = ContextVar("skipped", default=False)


@contextmanager
def skip_init() -> Iterator[None]:
    """Parameters made inside are zeros and draw nothing: for a model whose weights come from a file."""
    token = _skipped.set(True)
    try:
        yield
    finally:
        _skipped.reset(token)


def xavier_uniform(out_features: int, in_features: int, gain: float = 1.0) -> npt.NDArray[Any]:
    """U(-a, a) with a = gain * sqrt(6 / (in_features + out_features)), shape (out_features, in_features)
    (Glorot & Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks")."""
    if _skipped.get():
        return np.zeros((out_features, in_features), np.float32)
    bound = np.float32(gain * (6.0 / (in_features + out_features)) ** 0.5)
    return (random.generator().random((out_features, in_features), np.float32) * 2 - 1) * bound


def normal(rows: int, features: int) -> npt.NDArray[Any]:
    """N(0, 1 / features), shape (rows, features): rows of unit length on average."""
    if _skipped.get():
        return np.zeros((rows, features), np.float32)
    return random.generator().standard_normal((rows, features), np.float32) * np.float32(features**-0.5)
