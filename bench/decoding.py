"""The systems that decode, side by side: each in a process of its own that waits between its turns."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import decoders
import export
from decoding_bound import Bound, bounds_of
from machine import machine
from works import MODELS, Model

Record = dict[str, Any]
Cell = tuple[int, int]  # batch and beam

CHECKED = 8  # sentences
SAME = 0.99  # of the tokens of a float32 greedy search are to be dragoman's: a rounding may decide between two
NEEDS = {  # packages beside the system's own; nncf for int8
    "onnxruntime": ("torch", "onnx"),
    "openvino": ("torch",),
    "transformers": ("torch",),
}
# CTranslate2 is fastest so where there is AMX.
AMX = {"CT2_FORCE_CPU_ISA": "AVX512", "MKL_ENABLE_INSTRUCTIONS": "AVX512_E4"}


def reason_against(system: str, model: Model, dtype: str) -> str | None:
    """Why a system cannot take part, or None."""
    for package in (system, *NEEDS.get(system, ()), *(["nncf"] if (system, dtype) == ("openvino", "int8") else [])):
        if not find_spec(package):
            return f"{package} is not installed"
    if model.decoder_only and system in ("onnxruntime", "openvino"):
        return "its graphs are of encoder-decoders"
    if (system, dtype) in (("onnxruntime", "bfloat16"), ("transformers", "int8")):
        return f"it has no {dtype} on the CPU"
    if system == "ctranslate2":
        import ctranslate2

        if dtype not in ctranslate2.get_supported_compute_types("cpu"):
            return f"it has no {dtype} on this CPU"
    return None


def settings_of(system: str, threads: int) -> list[str]:
    """The names of the records: of CTranslate2, workers x threads of each."""
    if system != "ctranslate2":
        return [system]
    return [f"{system} {setting}" for setting in dict.fromkeys((f"{threads}x1", f"1x{threads}"))]


def write_model(system: str, model: Model, dtype: str, beams: list[int], saved: Path) -> Path:
    """The folder of the model for a system; that of dragoman is there."""
    if system == "dragoman":
        return saved
    folder = saved.with_name(system)
    folder.mkdir()
    state = export.state_of(saved, model)
    if system == "transformers":
        export.write_transformers(state, folder)
    elif system == "ctranslate2":
        export.write_ctranslate2(state, model, folder, dtype)
    else:
        with warnings.catch_warnings(action="ignore"), contextlib.redirect_stdout(io.StringIO()):
            import graphs  # imports PyTorch

            logging.disable(logging.WARNING)
            write = graphs.write_onnx if system == "onnxruntime" else graphs.write_openvino
            write(state, model, beams, folder, dtype)
    return folder


class Worker:
    """A system in its process."""

    def __init__(self, name: str, folder: Path, arguments: argparse.Namespace, python: str = sys.executable) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
        if name.startswith("ctranslate2") and "amx_tile" in Path("/proc/cpuinfo").read_text():
            environment |= AMX
        if python != sys.executable:
            environment.pop("PYTHONPATH", None)
        command = [python, decoders.__file__, name, str(folder), arguments.model, arguments.dtype]
        self.name = name
        self._process = subprocess.Popen(
            [*command, str(arguments.threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.times: dict[Cell, list[float]] = {}
        self.same: dict[Cell, float] = {}
        self.version, self.peak_mib = "", 0

    def ask(self, cell: Cell, seed: int, seconds: float) -> Record | None:
        """None where the process has ended."""
        request = {"batch": cell[0], "beam": cell[1], "seed": seed, "seconds": seconds}
        assert self._process.stdin and self._process.stdout
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            return None
        line = self._process.stdout.readline()
        return json.loads(line) if line else None

    def check(self, cells: list[Cell], expected: dict[Cell, list[list[int]]]) -> bool:
        """Compares the tokens of a batch with dragoman's in float32. False where the process has ended."""
        for cell in cells:
            answer = self.ask(cell, seed=0, seconds=0)
            if answer is None:
                return False
            decoders.check_outputs(answer["ids"], cell[0])
            pairs = zip(chain.from_iterable(answer["ids"]), chain.from_iterable(expected[cell]), strict=True)
            self.same[cell] = statistics.fmean(got == ours for got, ours in pairs)
            self.version = answer["version"]
        return True

    def end(self) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


@contextlib.contextmanager
def workers_of(arguments: argparse.Namespace) -> Iterator[list[Worker]]:
    """A checked worker of each system; says which ones are left out, and why."""
    model, beams = MODELS[arguments.model], sorted(set(arguments.beam))
    cells = [(CHECKED, beam) for beam in beams]
    workers: list[Worker] = []
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder, "dragoman")
        export.dragoman_model(model).save(saved)
        ours = decoders.make_decoder("dragoman", saved, model, "float32", arguments.threads)
        ids = next(decoders.make_sources(model, CHECKED, 0))
        expected = {cell: ours.ids(ours.run(ours.inputs(ids), cell[1])) for cell in cells}
        try:
            for system in arguments.systems or decoders.DECODERS:
                reason = reason_against(system, model, arguments.dtype)
                if reason:
                    print(f"{system} is left out: {reason}")
                    continue
                path = write_model(system, model, arguments.dtype, beams, saved)
                pythons = {name: sys.executable for name in settings_of(system, arguments.threads)}
                if system == "dragoman" and arguments.before:
                    pythons["dragoman before"] = arguments.before
                for name, python in pythons.items():
                    worker = Worker(name, path, arguments, python)
                    workers.append(worker)
                    if not worker.check(cells, expected):
                        print(f"{name} is left out: its process has ended")
                        workers.remove(worker)
                        worker.end()
                    elif arguments.dtype == "float32" and worker.same.get((CHECKED, 1), 1) < SAME:
                        sys.exit(f"{name}: {worker.same[CHECKED, 1]:.1%} of the tokens are dragoman's")
            yield workers
        finally:
            for worker in workers:
                worker.end()


def compare_decoding(arguments: argparse.Namespace) -> list[Record]:
    """Measures the systems in turns and prints a table; one record for each system, batch and beam."""
    cells = [(batch, beam) for beam in arguments.beam for batch in arguments.batch]
    with workers_of(arguments) as workers:
        for cell in cells:
            for seed in range(1, arguments.rounds + 1):
                for worker in workers:
                    answer = worker.ask(cell, seed, arguments.seconds)
                    if answer is None:
                        sys.exit(f"{worker.name}: its process has ended")
                    worker.times.setdefault(cell, []).extend(answer["times"])
                    worker.peak_mib = answer["peak_mib"]
    records = [_record(arguments, worker, cell) for worker in workers for cell in cells]
    if not arguments.peak.exists():
        print(f"there is no bound without {arguments.peak}: CONTRIBUTING.md says how it is built")
    print_table(arguments, records, bounds_of(arguments, arguments.peak) if arguments.peak.exists() else {})
    return records


def _record(arguments: argparse.Namespace, worker: Worker, cell: Cell) -> Record:
    batch, beam = cell
    typical, best = statistics.median(worker.times[cell]), min(worker.times[cell])
    return {
        "bench": "decode",
        "work": f"decode {arguments.model}",
        "system": worker.name,
        "dtype": arguments.dtype,
        "threads": arguments.threads,
        "batch": batch,
        "beam": beam,
        "tokens_per_s": round(batch * decoders.LENGTH / typical, 1),
        "best_tokens_per_s": round(batch * decoders.LENGTH / best, 1),
        "calls": len(worker.times[cell]),
        "same_tokens": round(worker.same[CHECKED, beam], 4),
        "peak_mib": worker.peak_mib,
        "version": worker.version,
        **machine(),
    }


def print_table(arguments: argparse.Namespace, records: list[Record], bounds: dict[Cell, Bound]) -> None:
    """Output tokens a second by system, and dragoman's beside the fastest others and the bound."""
    speeds: dict[str, dict[Cell, float]] = {}
    for record in records:
        speeds.setdefault(record["system"], {})[record["batch"], record["beam"]] = record["tokens_per_s"]
    cells = list(dict.fromkeys((record["batch"], record["beam"]) for record in records))
    threads = f"{arguments.threads} thread{'s' if arguments.threads > 1 else ''}"
    print(f"\ndecode {arguments.model}, {arguments.dtype}, {threads}, {machine()['cpu']}: output tokens a second")

    def row(title: str, values: list[str]) -> None:
        print(f"{title:32}" + "".join(f"{value:>10}" for value in values), flush=True)

    row("batch x beam", [f"{batch}x{beam}" for batch, beam in cells])
    for system, of_system in speeds.items():
        row(system, [f"{of_system[cell]:,.0f}" for cell in cells])
    ours = speeds.get("dragoman")
    if ours is None:
        return
    if bounds:
        row("bound", [f"{bounds[cell].tokens_per_s:,.0f}" for cell in cells])
        row("dragoman / bound", [f"{ours[cell] / bounds[cell].tokens_per_s:.1%}" for cell in cells])
    groups = dict.fromkeys(system.split()[0] for system in speeds if not system.startswith("dragoman"))
    for group in ["dragoman before", *groups, ""]:  # the last is the best of all
        others = [speeds[name] for name in speeds if name != "dragoman" and name.startswith(group)]
        others = [of_other for of_other in others if group or of_other is not speeds.get("dragoman before")]
        if others:
            best = [max(of_other[cell] for of_other in others) for cell in cells]
            values = [f"{ours[cell] / speed:.2f}" for cell, speed in zip(cells, best, strict=True)]
            row(f"dragoman / {group or 'the fastest other'}", values)
