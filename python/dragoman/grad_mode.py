"""Whether ops are put on the tape: per thread, on by default."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Mode(threading.local):
    enabled = True


mode = _Mode()


def is_grad_enabled() -> bool:
    """Whether ops of this thread are put on the tape."""
    return mode.enabled


@contextmanager
def no_grad() -> Iterator[None]:
    """Ops inside are not put on the tape: no memory is kept, no gradient can be asked for."""
    before = mode.enabled
    mode.enabled = False
    try:
        yield
    finally:
        mode.enabled = before
