"""First values of parameters, drawn from the library's generator (`dragoman.manual_seed`)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman import random


@dataclass
class _Limit:
    """How many parameters, and how many values in all of them, may still be made."""

    parameters: float
    values: float


_skipped: ContextVar[_Limit | None] = ContextVar("skipped", default=None)


@contextmanager
def skip_init(*, max_parameters: float = math.inf, max_values: float = math.inf) -> Iterator[None]:
    """Parameters made inside are not initialised and draw nothing: for a model whose weights are stored somewhere.

    Args:
        max_parameters: the number of parameters that may be made inside; ValueError for one more.
        max_values: the number of values in all of them; ValueError, before memory is taken, for more.
    """
    token = _skipped.set(_Limit(max_parameters, max_values))
    try:
        yield
    finally:
        _skipped.reset(token)


def is_skipped(shape: tuple[int, ...]) -> bool:
    """Whether a parameter of this shape, made now, is left as it is. ValueError beyond a limit of `skip_init`."""
    limit = _skipped.get()
    if limit is None:
        return False
    limit.parameters -= 1
    limit.values -= math.prod(shape)
    if limit.parameters < 0 or limit.values < 0:
        raise ValueError(f"a parameter of shape {shape} is more than the stored weights hold")
    return True


def check_room(*shape: int) -> None:
    """ValueError inside `skip_init` with a limit, for a table that is no parameter and is larger than what may still be
    made. Tables of up to 2^20 values always fit."""
    limit = _skipped.get()
    if limit is not None and math.prod(shape) > max(limit.values, 1 << 20):
        raise ValueError(f"a table of shape {shape} is more than the stored weights hold")


def xavier_uniform(out_features: int, in_features: int, gain: float = 1.0) -> npt.NDArray[Any]:
    """U(-a, a) with a = gain * sqrt(6 / (in_features + out_features)), shape (out_features, in_features)
    (Glorot & Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks")."""
    return uniform(out_features, in_features, gain * (6.0 / (in_features + out_features)) ** 0.5)


def uniform(rows: int, features: int, bound: float) -> npt.NDArray[Any]:
    """U(-bound, bound), shape (rows, features)."""
    if _skipped.get() is not None:
        return _no_values(rows, features)
    return (random.generator().random((rows, features), np.float32) * 2 - 1) * np.float32(bound)


def normal(rows: int, features: int) -> npt.NDArray[Any]:
    """N(0, 1 / features), shape (rows, features): rows of unit length on average."""
    if _skipped.get() is not None:
        return _no_values(rows, features)
    return random.generator().standard_normal((rows, features), np.float32) * np.float32(features**-0.5)


def _no_values(*shape: int) -> npt.NDArray[Any]:
    """An array of the shape that takes no memory."""
    return np.broadcast_to(np.float32(0), shape)
