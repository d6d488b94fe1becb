"""Ctrl-C, SIGTERM and SIGHUP during training: the step ends, or the validation is dropped; the run saves and stops."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Self


class Stopped(BaseException):
    """A signal came in a part of the program that may be dropped."""


class StopSignals:
    """While entered, the first SIGINT, SIGTERM or SIGHUP sets `received`; a second one stops at once.

    SIGHUP, of a terminal that closes, comes beside others: from the kernel and the shell, or after systemd's SIGTERM.
    So it is never a second one, nor is what follows it. A signal that is ignored, as under nohup, stays ignored.

    Python runs handlers on the main thread only. On other threads this does nothing.

    Args:
        more: other signals that count as SIGTERM does.
    """

    def __init__(self, more: Sequence[int] = ()) -> None:
        self._numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, *more)
        self.received: int | None = None
        self._learnt = False  # from another rank
        self._previous: dict[int, Any] = {}
        self._interrupts = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in self._numbers:
                if signal.getsignal(number) is not signal.SIG_IGN:
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

    def learn(self, number: int) -> None:
        """Another rank has received a signal. The same one may come here, too, and is no second one then."""
        if self.received is None:
            self.received, self._learnt = number, True

    def raise_received(self) -> None:
        """KeyboardInterrupt after a SIGINT, SystemExit after a SIGTERM (status 143), a SIGHUP (129) or another."""
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        if self.received is not None:
            raise SystemExit(128 + self.received)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        before, self.received = self.received, number
        if before is not None and number == signal.SIGHUP:
            self.received = before
            return
        if self._learnt:
            self._learnt = False
            return
        if before not in (None, signal.SIGHUP):
            self.raise_received()
        with suppress(OSError, ValueError, RuntimeError):  # no terminal any more; or it came in the middle of a print
            print("\nstopping after this step; again to stop at once", file=sys.stderr, flush=True)
        if self._interrupts:
            raise Stopped
