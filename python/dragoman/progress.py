"""What a training run tells: JSON lines in a file, and a bar or plain lines on standard error."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from dragoman.checkpoint import atomic_write

Record = dict[str, float]

QUIET_SECONDS = 10.0  # between plain lines


class Progress:
    """Keeps the records of a run, writes them to `path` and shows them.

    Args:
        path: of the JSON lines, or None. Lines there that lie behind `step` (of a run that crashed later than
            the checkpoint it resumes from) are dropped, the others kept.
        step: where the run begins; 0 for a new one.
        total: steps of the run where known, for the bar.
    """

    def __init__(self, path: Path | None, step: int, total: int | None) -> None:
        self.records: list[Record] = []
        self._path = path
        self._shown = -QUIET_SECONDS
        self._bar = _bar(step, total)
        if path is not None:
            kept = _lines_until(path, step) if step and path.exists() else []
            atomic_write(path, "".join(kept).encode())

    def advance(self) -> None:
        """Counts one step."""
        if self._bar is not None:
            self._bar.update()

    def record(self, record: Record, text: str) -> None:
        """Stores a record of a step and shows `text`, as a line only if the last one is seconds ago."""
        self._store(record)
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
        elif time.monotonic() - self._shown >= QUIET_SECONDS:
            self._shown = time.monotonic()
            self.say(f"step {record['step']}: {text}")

    def event(self, record: Record, text: str) -> None:
        """Stores a record and shows its line in any case."""
        self._store(record)
        self.say(text)

    def say(self, text: str) -> None:
        """Shows a line."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _store(self, record: Record) -> None:
        self.records.append(record)
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps(record) + "\n")


def _bar(step: int, total: int | None) -> Any:
    """A tqdm bar when standard error is a terminal and tqdm is installed."""
    if not sys.stderr.isatty():
        return None
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        return None
    return tqdm(initial=step, total=total, unit="step", file=sys.stderr, dynamic_ncols=True)


def _lines_until(path: Path, step: int) -> list[str]:
    kept = []
    for line in path.read_text().splitlines(keepends=True):
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue  # the half line of a crash
    return kept
