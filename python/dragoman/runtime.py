"""The number of CPU threads, and the memory of tensors."""

from __future__ import annotations

from dragoman import _core, arguments
from dragoman.arrays import check_device


def set_num_threads(n: int) -> None:
    """Sets the maximum number of threads of an op, for the whole process. Ops that are running keep their number.

    Args:
        n: in [1, 1024].

    Raises:
        TypeError: `n` is not an int.
        ValueError: `n` is out of range.
    """
    _core.set_num_threads(min(arguments.integer("set_num_threads", "n", n), 2**31 - 1))


def memory_stats(device: str = "cpu") -> dict[str, int]:
    """Bytes of the tensors on a device.

    Returns:
        "allocated", "reserved" (in use, or kept for later) and "peak_allocated" (since `reset_peak_memory_stats`).

    Raises:
        TypeError, ValueError: no such device.
    """
    check_device("memory_stats", device)
    return _core.memory_stats(device)


def reset_peak_memory_stats(device: str = "cpu") -> None:
    """Sets "peak_allocated" of `memory_stats` to what is allocated now. TypeError, ValueError: no such device."""
    check_device("reset_peak_memory_stats", device)
    _core.reset_peak_memory_stats(device)


def empty_cache(device: str = "cpu") -> None:
    """Returns memory that is kept for later to the system. TypeError, ValueError: no such device."""
    check_device("empty_cache", device)
    _core.empty_cache(device)
