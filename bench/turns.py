"""Systems timed in turns, so that what disturbs the machine disturbs each of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

Figures = dict[str, float]  # "ms", and "extra_mib" where an op tells its memory


def take_turns(functions: dict[str, Callable[[], Any]], turns: int, seconds: float = 0.0) -> dict[str, Figures]:
    """The median milliseconds of each system, in at least `turns` turns and until each had `seconds`."""
    times: dict[str, list[float]] = {system: [] for system in functions}
    while any(len(of_system) < turns or sum(of_system) < seconds for of_system in times.values()):
        for system, function in functions.items():
            function()  # while the other system's threads stop to look for work
            start = time.perf_counter()
            function()
            times[system].append(time.perf_counter() - start)
    return {system: {"ms": 1e3 * statistics.median(of_system)} for system, of_system in times.items()}
