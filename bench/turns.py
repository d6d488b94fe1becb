"""Times systems in turns, so that a disturbance of the machine affects all of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

Figures = dict[str, float]  # "ms", and "extra_mib" for an op that measures its memory
TURNS = 3
SECONDS = 0.1  # of a turn, and before it: idle threads of the other system spin on the cores for some hundredths


def times_of(function: Callable[[], Any], seconds: float) -> list[float]:
    """`dragoman.cli.bench.times_of`, imported late: PyTorch's processes import this module without dragoman."""
    from dragoman.cli import bench

    return bench.times_of(function, seconds)


def take_turns(functions: dict[str, Callable[[], Any]]) -> dict[str, Figures]:
    """The median milliseconds of each system."""
    times: dict[str, list[float]] = {system: [] for system in functions}
    for _ in range(TURNS):
        for system, function in functions.items():
            times_of(function, SECONDS)
            times[system] += times_of(function, SECONDS)
    return {system: {"ms": 1e3 * statistics.median(of_system)} for system, of_system in times.items()}
