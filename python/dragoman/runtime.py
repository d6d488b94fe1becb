"""The number of CPU threads."""

from __future__ import annotations

from dragoman import _core, arguments


def set_num_threads(n: int) -> None:
    """Sets the maximum number of threads of an op, for the whole process. Ops that are running keep their number.

    Args:
        n: in [1, 1024].

    Raises:
        TypeError: `n` is not an int.
        ValueError: `n` is out of range.
    """
    _core.set_num_threads(min(arguments.integer("set_num_threads", "n", n), 2**31 - 1))
