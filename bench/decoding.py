"""The systems that decode, side by side: each in a process of its own that waits between its turns."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import statistics
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any

import decoders
import export
from decoding_bound import Bound, bounds_of
from machine import machine
from worker import Worker
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


@dataclass
class Contestant:
    """A system in its process, and what it has reached."""

    worker: Worker
    times: dict[Cell, list[float]] = field(default_factory=dict)
    same: dict[int, float] = field(default_factory=dict)  # tokens that are dragoman's in float32, by the beam
    peak_mib: int = 0

    def check(self, expected: dict[int, list[list[int]]]) -> bool:
        """Compares the tokens of a batch with dragoman's, by the beam. False where the process has ended."""
        for beam, ours in expected.items():
            answer = self.worker.ask(batch=CHECKED, beam=beam, seed=0, seconds=0)
            if answer is None:
                return False
            decoders.check_outputs(answer["ids"], CHECKED)
            pairs = zip(chain.from_iterable(answer["ids"]), chain.from_iterable(ours), strict=True)
            self.same[beam] = statistics.fmean(got == own for got, own in pairs)
        return True


@contextlib.contextmanager
def contestants_of(arguments: argparse.Namespace) -> Iterator[list[Contestant]]:
    """Those that the check has let in; says which ones are left out, and why."""
    model, beams, dtype = MODELS[arguments.model], sorted(set(arguments.beam)), arguments.dtype
    contestants: list[Contestant] = []
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as ends:
        saved = Path(folder, "dragoman")
        export.dragoman_model(model).save(saved)
        ours = decoders.make_decoder("dragoman", saved, model, "float32", arguments.threads)
        ids = ours.inputs(next(decoders.make_sources(model, CHECKED, 0)))
        expected = {beam: ours.ids(ours.run(ids, beam)) for beam in beams}
        for system in arguments.systems:
            if reason := reason_against(system, model, dtype):
                print(f"{system} is left out: {reason}")
                continue
            path = write_model(system, model, dtype, beams, saved)
            pythons = {name: sys.executable for name in settings_of(system, arguments.threads)}
            if system == "dragoman" and arguments.before:
                pythons["dragoman before"] = arguments.before
            for name, python in pythons.items():
                worker = Worker(decoders.__file__, name, path, arguments.model, dtype, arguments.threads, python)
                ends.callback(worker.end)
                contestant = Contestant(worker)
                if not contestant.check(expected):
                    print(f"{name} is left out: its process has ended")
                    continue
                if dtype == "float32" and contestant.same.get(1, 1) < SAME:
                    sys.exit(f"{name}: {contestant.same[1]:.1%} of the tokens are dragoman's")
                contestants.append(contestant)
        yield contestants


def compare_decoding(arguments: argparse.Namespace) -> list[Record]:
    """Measures the systems in turns and prints a table; one record for each system, batch and beam."""
    cells = [(batch, beam) for beam in arguments.beam for batch in arguments.batch]
    if not arguments.peak.exists():
        print(f"there is no bound without {arguments.peak}: CONTRIBUTING.md says how it is built")
    bounds = _bounds(arguments)  # measured before and after; other work on the machine makes it only lower
    tokens_per_s = attrgetter("tokens_per_s")
    with contestants_of(arguments) as contestants:
        for batch, beam in cells:
            for seed in range(1, arguments.rounds + 1):
                for contestant in contestants:
                    turn = {"batch": batch, "beam": beam, "seed": seed, "seconds": arguments.seconds}
                    answer = contestant.worker.measure(**turn)
                    contestant.times.setdefault((batch, beam), []).extend(answer["times"])
                    contestant.peak_mib = answer["peak_mib"]
    alike = ", ".join(f"{each.worker.system} {statistics.fmean(each.same.values()):.0%}" for each in contestants)
    print(f"\ntokens that are those of dragoman in float32: {alike}")
    records = [_record(arguments, contestant, cell) for contestant in contestants for cell in cells]
    bounds |= {cell: max(bounds[cell], again, key=tokens_per_s) for cell, again in _bounds(arguments).items()}
    print_table(arguments, records, bounds)
    return records


def _bounds(arguments: argparse.Namespace) -> dict[Cell, Bound]:
    return bounds_of(arguments, arguments.peak) if arguments.peak.exists() else {}


def _record(arguments: argparse.Namespace, contestant: Contestant, cell: Cell) -> Record:
    batch, beam = cell
    typical, best = statistics.median(contestant.times[cell]), min(contestant.times[cell])
    return {
        "bench": "decode",
        "work": f"decode {arguments.model}",
        "system": contestant.worker.system,
        "dtype": arguments.dtype,
        "threads": arguments.threads,
        "batch": batch,
        "beam": beam,
        "tokens_per_s": round(batch * decoders.LENGTH / typical, 1),
        "best_tokens_per_s": round(batch * decoders.LENGTH / best, 1),
        "calls": len(contestant.times[cell]),
        "same_tokens": round(contestant.same[beam], 4),
        "peak_mib": contestant.peak_mib,
        "version": version(contestant.worker.system.split()[0]),
        **machine(),
    }


def print_table(arguments: argparse.Namespace, records: list[Record], bounds: dict[Cell, Bound]) -> None:
    """Output tokens a second by system, and dragoman's beside the fastest others and the bound."""
    speeds: dict[str, dict[Cell, float]] = {}
    for record in records:
        speeds.setdefault(record["system"], {})[record["batch"], record["beam"]] = record["tokens_per_s"]
    cells = list(dict.fromkeys((record["batch"], record["beam"]) for record in records))
    threads = f"{arguments.threads} thread{'s' if arguments.threads > 1 else ''}"
    print(f"decode {arguments.model}, {arguments.dtype}, {threads}, {machine()['cpu']}: output tokens a second")

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
