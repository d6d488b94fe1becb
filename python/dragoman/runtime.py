"""The number of CPU threads."""

from __future__ import annotations

from dragoman import _core, arguments


def set_num_threads(n: int) -> None:
    """Sets how many threads an op uses at most, in the whole process; ops at work keep theirs.

    Raises:
        TypeError, ValueError: `n` is no int in [1, 1024].
    """
    _core.set_num_threads(min(arguments.integer("set_num_threads", "n", n), 2**31 - 1))
