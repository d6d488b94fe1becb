"""Where a figure was measured, and what that machine does at most."""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PEAK = ROOT / "build/dev/bench/native/bench_peak"  # measures the machine


@functools.cache
def machine() -> dict[str, Any]:
    """Processor, usable cores and the commit of the checkout, marked `+` where files differ from it."""
    from dragoman.cli.bench import cpu_name  # here, as PyTorch's processes are not to hold dragoman

    return {"cpu": cpu_name(), "cores": len(os.sched_getaffinity(0)), "commit": _commit()}


def rates_of_machine(executable: Path, threads: int, sizes: Iterable[int] = ()) -> dict[str, Any]:
    """GFLOP/s of "float32", "float32_tile" and so on, GB/s of "memory", 10^9 elements/s, the "isa" they are of, and in
    "read" GB/s by the bytes of the buffer that is read.

    The script ends where there is no such executable, or dragoman in this process uses another instruction set.
    """
    import dragoman as dg

    if not executable.exists():
        sys.exit(f"{executable} is missing: CONTRIBUTING.md says how it is built")
    command = [str(executable), *map(str, sorted(set(sizes)))]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    rates: dict[str, Any] = json.loads(printed)
    if rates["isa"] != dg.cpu_isa():
        sys.exit(f"{executable} measures {rates['isa']}, while this dragoman uses {dg.cpu_isa()}")
    rates["read"] = {int(size): rate for size, rate in rates["read"].items()}
    return rates


def memory(field: str) -> int:
    """Bytes of this process: VmRSS, those in memory, or VmHWM, the most there were; getrusage would count those of its
    parent, too."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def _commit() -> str | None:
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
