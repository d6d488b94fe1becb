"""Ctrl-C and SIGTERM during training: the step ends, or the validation is dropped; the run saves and stops."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self


class Stopped(BaseException):
    """A signal came in a part of the program that may be dropped."""


class StopSignals:
    """While entered, the first SIGINT or SIGTERM sets `received`; a second one stops at once.

    Python runs handlers on the main thread only. On other threads this does nothing.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}
        self._interrupts = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, a signal raises Stopped at once. A signal that came before raises it on entering."""
        self._interrupts = True
        try:
            if self.received is not None:
                raise Stopped
            yield
        finally:
            self._interrupts = False

    def raise_received(self) -> None:
        """Raises KeyboardInterrupt after a SIGINT, SystemExit with status 143 after a SIGTERM."""
        if self.received == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        if self.received is not None:
            raise KeyboardInterrupt

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            self.raise_received()
        self.received = number
        print("\nstopping after this step; again to stop at once", file=sys.stderr, flush=True)
        if self._interrupts:
            raise Stopped
