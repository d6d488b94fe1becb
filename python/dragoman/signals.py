"""Ctrl-C and SIGTERM during training: finish the step, save, then stop."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Any, Self


class StopSignals:
    """While entered, the first SIGINT or SIGTERM only sets `received`; a second one stops at once.

    Handlers are set on the main thread alone, where Python runs them; elsewhere this does nothing.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def raise_received(self) -> None:
        """Raises what the signal received stands for: KeyboardInterrupt, or SystemExit with status 143."""
        if self.received == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        if self.received is not None:
            raise KeyboardInterrupt

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            self.raise_received()
        self.received = number
        print("\nstopping after this step; again to stop at once", file=sys.stderr, flush=True)
