"""What the package costs: time to import it, time to build its wheel, sizes, and the start of a translator.

    python bench/package.py [import] [build] [start] [--repeats 11]

Prints one JSON line per figure. `import` is the median over fresh interpreters, the systems taking turns, PyTorch among
them where it is installed; `build` is an isolated build of a copy of the checkout, without a compiler cache, on all
cores. `start` is from the start of a process to its first translation, 32 tokens in and out, and its largest memory:
the medians of processes, beside CTranslate2 and onnxruntime where they are installed.
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

import decoders
import decoding
import decoding_bound
import dragoman
import export
from machine import ROOT, machine
from worker import Worker
from works import MODELS

STARTED = ("dragoman", "ctranslate2", "onnxruntime")
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


def start(repeats: int, name: str, dtype: str, threads: int) -> None:
    model = MODELS[name]
    found: dict[str, list[tuple[float, int]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder, "dragoman")
        export.dragoman_model(model).save(saved)
        systems = [system for system in STARTED if not decoding.reason_against(system, model, dtype)]
        folders = {system: decoding.write_model(system, model, dtype, [1], saved) for system in systems}
        if dtype != "float32":
            folders["dragoman"] = Path(folder, "frozen")
            dragoman.load(saved, compute_type=dtype).save(folders["dragoman"])
        for _ in range(repeats + 1):
            for system in systems:
                setting = f"{system} 1x{threads}" if system == "ctranslate2" else system
                begin = time.perf_counter()
                worker = Worker(decoders.__file__, setting, folders[system], name, dtype, threads)
                answer = worker.ask(batch=1, beam=1, seed=0, seconds=0)
                elapsed = time.perf_counter() - begin
                worker.end()
                if answer is None:
                    sys.exit(f"{system}: its process has ended")
                found.setdefault(system, []).append((elapsed, answer["peak_mib"]))
    for system, of_system in found.items():
        seconds, peaks = zip(*of_system[1:], strict=True)  # the first one fills the page cache
        report(
            figure="start",
            system=system,
            model=name,
            dtype=dtype,
            threads=threads,
            median_s=round(statistics.median(seconds), 3),
            min_s=round(min(seconds), 3),
            peak_mib=statistics.median(peaks),
            repeats=repeats,
            **machine(),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figures", nargs="*", metavar="import|build|start", help="what to measure; all by default")
    parser.add_argument("--repeats", type=int, default=11, help="fresh processes for each import and start")
    parser.add_argument("--model", choices=MODELS, default="base", help="that starts")
    parser.add_argument("--dtype", choices=decoding_bound.WEIGHT_SIZE, default="int8", help="of the model that starts")
    parser.add_argument("--threads", type=int, default=1, help="of the model that starts")
    arguments = parser.parse_args()
    figures = arguments.figures or ["import", "build", "start"]
    if unknown := set(figures) - {"import", "build", "start"}:
        parser.error(f"unknown figure {min(unknown)}")
    if "import" in figures:
        import_times(arguments.repeats)
    if "build" in figures:
        build()
    if "start" in figures:
        start(arguments.repeats, arguments.model, arguments.dtype, arguments.threads)


if __name__ == "__main__":
    main()
