"""What this machine does at most, as the native bench_peak measures it."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from machine import ROOT


def add_peak(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--peak",
        type=Path,
        default=ROOT / "build/dev/bench/native/bench_peak",
        help="the executable that measures the machine (default: build/dev/bench/native/bench_peak)",
    )


def peak_of_machine(executable: Path) -> dict[str, Any]:
    """GFLOP/s of "float32", "float32_tile" and so on, GB/s of "memory", and the "isa" they are of.

    The script ends where there is no such executable, or dragoman in this process uses another instruction set.
    """
    import dragoman as dg

    if not executable.exists():
        sys.exit(f"{executable} is missing: CONTRIBUTING.md says how it is built")
    result = subprocess.run([executable], check=True, stdout=subprocess.PIPE, text=True)
    peak = dict(json.loads(result.stdout))
    if peak["isa"] != dg.cpu_isa():
        sys.exit(f"{executable} measures {peak['isa']}, while this dragoman uses {dg.cpu_isa()}")
    return peak


def faster(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """The better of two measurements, rate by rate: a machine that was disturbed once is not so both times."""
    return first | {name: max(rate, first[name]) for name, rate in second.items() if isinstance(rate, float)}
