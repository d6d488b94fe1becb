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
    with _set(False):
        yield


@contextmanager
def enable_grad() -> Iterator[None]:
    """Ops inside are put on the tape, within `no_grad` too."""
    with _set(True):
        yield


@contextmanager
def _set(enabled: bool) -> Iterator[None]:
    before = mode.enabled
    mode.enabled = enabled
    try:
        yield
    finally:
        mode.enabled = before
