"""What the package costs: time to import it, time to build its wheel, sizes. PyTorch beside it where it is installed.

    python bench/package.py [import] [build] [--repeats 11]

Prints one JSON line per figure. `import` is the median over fresh interpreters, the systems taking turns; `build` is an
isolated build of a copy of the checkout, without a compiler cache, on all cores.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

from machine import ROOT, machine

IMPORT = "import time; start = time.perf_counter(); import {0}; print(time.perf_counter() - start, {0}.__version__)"


def report(**figures: Any) -> None:
    print(json.dumps({"bench": "package", **figures}), flush=True)


def import_times(repeats: int) -> None:
    names = [name for name in ("numpy", "dragoman", "torch") if importlib.util.find_spec(name)]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    versions = {}
    with tempfile.TemporaryDirectory() as folder:  # no package of the current folder gets in the way
        for _ in range(repeats + 1):
            for name in names:
                command = [sys.executable, "-c", IMPORT.format(name)]
                run = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder)
                elapsed, versions[name] = run.stdout.split()
                seconds[name].append(float(elapsed))
    for name in names:
        times = sorted(seconds[name][1:])  # the first one fills the page cache
        report(
            figure="import",
            system=name,
            version=versions[name],
            median_ms=round(1e3 * statistics.median(times), 1),
            min_ms=round(1e3 * times[0], 1),
            repeats=repeats,
            **machine(),
        )


def build() -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source")
        ignored = shutil.ignore_patterns(".git", ".venv*", "build", "dist", "__pycache__", "*.so")
        shutil.copytree(ROOT, source, ignore=ignored)
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, str(source)]
        start = time.perf_counter()
        subprocess.run(command, check=True, env={**os.environ, "CCACHE_DISABLE": "1"})
        seconds = time.perf_counter() - start
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            installed = sum(entry.file_size for entry in archive.infolist())
        report(
            figure="wheel",
            system="dragoman",
            build_seconds=round(seconds, 1),
            wheel_bytes=wheel.stat().st_size,
            installed_bytes=installed,
            **machine(),
        )
    if importlib.util.find_spec("torch"):
        files = importlib.metadata.files("torch") or []
        paths = [Path(file.locate()) for file in files]
        report(
            figure="installed",
            system="torch",
            version=importlib.metadata.version("torch"),
            installed_bytes=sum(path.stat().st_size for path in paths if path.is_file()),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figures", nargs="*", metavar="import|build", help="what to measure; both by default")
    parser.add_argument("--repeats", type=int, default=11, help="fresh interpreters for each import")
    arguments = parser.parse_args()
    figures = arguments.figures or ["import", "build"]
    if unknown := set(figures) - {"import", "build"}:
        parser.error(f"unknown figure {min(unknown)}")
    if "import" in figures:
        import_times(arguments.repeats)
    if "build" in figures:
        build()


if __name__ == "__main__":
    main()
