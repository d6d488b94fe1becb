"""The log of a training run: JSON lines in a file, and a progress bar or plain lines on standard error."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from dragoman.arguments import check_regular
from dragoman.distributed import is_first
from dragoman.files import atomic_write
from dragoman.train.callbacks import Record

QUIET_SECONDS = 10.0  # between plain lines
SMOOTHING = 0.1  # share of the last step in what the bar shows


class Progress:
    """Keeps the records of a run, writes them to `path` and shows them.

    Args:
        path: file for the JSON lines, or None. A resumed run deletes the lines that it will write again: those of
            steps after `step`, and the lines about the end of the run.
        step: number of steps before this run; 0 for a new one.
        total: number of steps of the run, for the bar; None where it is not known.
    """

    def __init__(self, path: Path | None, step: int, total: int | None) -> None:
        self.records: list[Record] = []
        self._path = path
        self._total = total
        self._shown = -QUIET_SECONDS
        self._bar = _bar(step, total) if is_first() else None
        self._loss, self._tokens, self._seconds = math.nan, 0.0, 0.0  # of a step, smoothed
        if path is not None:
            kept = _lines_until(path, step) if step and path.exists() else []
            atomic_write(path, "".join(kept).encode())

    def advance(self, loss: float, tokens: int, seconds: float, left: float | None) -> None:
        """Counts one step; the bar shows its loss and speed, both smoothed over some steps, and the time left."""
        if self._bar is None:
            return
        share = SMOOTHING if self._seconds else 1.0
        if math.isfinite(loss):
            self._loss = loss if math.isnan(self._loss) else self._loss + share * (loss - self._loss)
        self._tokens += share * (tokens - self._tokens)
        self._seconds += share * (seconds - self._seconds)
        text = f"loss {self._loss:.3f}, {self._tokens / max(self._seconds, 1e-9):,.0f} tokens/s"
        self._bar.set_postfix_str(text if left is None else f"{text}, {duration(left)} left", refresh=False)
        with suppress(OSError):  # a terminal that is gone ends nothing
            self._bar.update()

    def record(self, record: Record, text: str) -> None:
        """Stores a record of a step. Without a bar, shows `text` as a line at most every QUIET_SECONDS."""
        self._store(record)
        if self._bar is None and time.monotonic() - self._shown >= QUIET_SECONDS:
            self._shown = time.monotonic()
            of = "" if self._total is None else f"/{self._total}"
            self.say(f"step {record['step']}{of}: {text}")

    def event(self, record: Record, text: str) -> None:
        """Stores a record and always shows its line."""
        self._store(record)
        self.say(text)

    def say(self, text: str) -> None:
        """Shows a line."""
        if self._bar is not None:
            with suppress(OSError):
                self._bar.write(text, file=sys.stderr)
        else:
            tell(text)

    def sync(self) -> None:
        """Flushes the log to the disk, because a checkpoint needs the lines up to its step."""
        if self._path is not None:
            with self._path.open("rb") as file:
                os.fsync(file.fileno())

    def close(self) -> None:
        if self._bar is not None:
            with suppress(OSError):
                self._bar.close()

    def _store(self, record: Record) -> None:
        self.records.append(record)
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps(record) + "\n")


def tell(text: str) -> None:
    """Shows a line on standard error, if there is one and somebody reads it: nothing depends on that. Only the first of
    several ranks shows it."""
    if sys.stderr is None or not is_first():
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        with suppress(OSError):  # what is left in its buffer would fail again when Python exits
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, sys.stderr.fileno())
            os.close(null)


def counted(number: int, one: str, many: str = "") -> str:
    """A number and its word: `1 pair`, `1,000 pairs`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds: 1:02:03, 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _bar(step: int, total: int | None) -> Any:
    """A tqdm bar on a terminal and in a notebook, if tqdm is installed."""
    if not _in_notebook() and (sys.stderr is None or not sys.stderr.isatty()):
        return None
    try:
        from tqdm.auto import tqdm
    except ModuleNotFoundError:
        return None
    shape = "{desc}{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}" if total else None
    try:
        return tqdm(initial=step, total=total, unit="step", file=sys.stderr, dynamic_ncols=True, bar_format=shape)
    except ImportError:  # a notebook without its widgets
        return None


def _in_notebook() -> bool:
    """Whether this runs in a Jupyter kernel; tqdm asks in the same way."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell is not None and "IPKernelApp" in shell.config


def _lines_until(path: Path, step: int) -> list[str]:
    check_regular(path)
    kept = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            record = json.loads(line)
            if record["step"] <= step and not {"final", "partial"} & record.keys():
                kept.append(f"{line}\n")
        except (ValueError, KeyError, TypeError):
            continue  # a crash left half a line
    return kept
