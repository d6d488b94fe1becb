"""What benches of whole trainings share: `dragoman` commands, and the figures that they print."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any


def run(arguments: list[str], text: str | None = None) -> str:
    """Runs a dragoman command on a text, its progress on standard error; returns its standard output."""
    command = [sys.executable, "-m", "dragoman", *arguments]
    return subprocess.run(command, check=True, input=text, stdout=subprocess.PIPE, text=True).stdout


def score(arguments: list[str]) -> dict[str, Any]:
    """What a command prints in its last line."""
    figures: dict[str, Any] = json.loads(run(arguments).splitlines()[-1])
    return figures


def records(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's log."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def finished(folder: Path) -> bool:
    """Whether a run in the folder has come to its end."""
    return (folder / "log.jsonl").exists() and "final" in records(folder)[-1]


def shown(arguments: list[str], places: dict[Path, str]) -> str:
    """A command as a user would type it, with names in the place of folders."""
    command = shlex.join(["dragoman", *arguments])
    for path, name in places.items():
        command = command.replace(str(path), name)
    return command
