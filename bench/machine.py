"""Where a figure was measured."""

import os
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def machine() -> dict[str, Any]:
    """Processor, usable cores and the commit of the checkout, marked `+` where files differ from it."""
    from dragoman.cli.bench import cpu_name  # here, as PyTorch's processes are not to hold dragoman

    return {"cpu": cpu_name(), "cores": len(os.sched_getaffinity(0)), "commit": _commit()}


def _commit() -> str | None:
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
