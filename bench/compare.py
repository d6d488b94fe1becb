"""dragoman beside PyTorch: training steps, and single ops.

    python bench/compare.py train|ops [--model base] [--batches rectangle] [--dtype float32] [--json FILE]

A training step is forward, loss with label smoothing 0.1, backward and AdamW, with dropout 0.1 everywhere. PyTorch is
eager, with fused AdamW, bfloat16 by autocast, float32 at full precision; where Debian's libjemalloc2 is installed, it
runs with that preloaded too, and the faster counts. Without dropout and from the same weights, both must first reach
the same falling losses; every measurement runs in a process of its own, the systems taking turns. Ops are those of a
step by themselves; the two systems take turns within a process, after their results were compared. Writes a list of
medians over the processes.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from machine import machine
from ops import each_op
from training import dragoman_model, dragoman_step, load_torch_weights, torch_step
from works import MODELS, ORDERS, count_tokens, make_batches

Record = dict[str, Any]  # of a work and a system

DROPOUT = 0.1
JEMALLOC = Path("/usr/lib") / os.uname().machine.join(["", "-linux-gnu"]) / "libjemalloc.so.2"
# What PyTorch's tuning guide recommends: memory is kept for the next step.
JEMALLOC_OPTIONS = "oversize_threshold:1,background_thread:true,metadata_thp:auto,dirty_decay_ms:-1,muzzy_decay_ms:-1"
TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2}  # of a loss, relative: what rounding may do to it in three steps


def check_losses(arguments: argparse.Namespace) -> None:
    """Both systems, without dropout, from the same weights, on the same few sentences."""
    model = MODELS[arguments.model]
    batch = make_batches(model, arguments.batches, 1)[0][:4]
    theirs, torch_state = torch_step(model, arguments.dtype, 0.0)
    transformer = dragoman_model(model, arguments.dtype, 0.0)
    load_torch_weights(transformer, torch_state())
    ours = dragoman_step(transformer)
    losses = []
    for step in range(3):
        expected, got = theirs(batch), ours(batch)
        if not abs(got - expected) <= TOLERANCE[arguments.dtype] * expected:
            sys.exit(f"loss of step {step}: PyTorch has {expected}, dragoman {got}")
        losses.append(got)
    if not losses[2] < losses[0]:
        sys.exit(f"the losses of a batch must fall, got {losses}")


def measure_training(arguments: argparse.Namespace) -> Iterator[Record]:
    """Steps of `arguments.system`."""
    model = MODELS[arguments.model]
    if arguments.system == "dragoman":
        step = dragoman_step(dragoman_model(model, arguments.dtype, DROPOUT))
    else:
        step, _ = torch_step(model, arguments.dtype, DROPOUT)
    batches = make_batches(model, arguments.batches, arguments.steps)
    step(batches[-1])  # to warm up
    seconds = []
    for batch in batches:
        start = time.perf_counter()
        step(batch)
        seconds.append(time.perf_counter() - start)
    # Batches of one size have a median; ragged ones differ, so that only their sum means something.
    typical = statistics.median(seconds) if arguments.batches == "rectangle" else statistics.fmean(seconds)
    shape = f"{model.batch}x{model.length}" if arguments.batches == "rectangle" else f"ragged {arguments.batches}"
    yield {
        "work": f"train {arguments.model} {shape}",
        "system": arguments.system,
        "ms": 1e3 * typical,
        "tokens_per_s": sum(map(count_tokens, batches)) / len(batches) / typical,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def measure_ops(arguments: argparse.Namespace) -> Iterator[Record]:
    """Every op of both systems; where PyTorch has an allocator of its choice, of that alone."""
    for work, tokens, measure in each_op(MODELS[arguments.model], arguments.dtype):
        if arguments.only not in work:
            continue
        systems = measure()
        if arguments.system != "torch":
            systems = {arguments.system: systems["torch"]}
        for system, figures in systems.items():
            speed = 1e3 * tokens / figures["ms"]
            yield {"work": work, "system": system, **figures, "tokens_per_s": speed, "peak_mib": None}


def run(arguments: argparse.Namespace, *more: str, preload: Path | None = None) -> list[Record]:
    """What this script measures in a fresh process, started with the same arguments and `more`."""
    command = [sys.executable, __file__, arguments.mode, *more]
    for name in ("model", "batches", "dtype", "threads", "steps", "only"):
        command += [f"--{name}", str(getattr(arguments, name))]
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
    if preload:
        environment |= {"LD_PRELOAD": str(preload), "MALLOC_CONF": JEMALLOC_OPTIONS}
    records = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        for line in process.stdout or ():
            records.append(json.loads(line))
            print(line, end="", flush=True)
    if process.returncode:
        sys.exit(process.returncode)
    return records


def compare(arguments: argparse.Namespace) -> list[Record]:
    """Measures the systems in turns; one record a work and system."""
    systems: dict[str, Path | None] = {"torch": None}
    if arguments.mode == "train":
        run(arguments, "--check")
        systems = {"dragoman": None, "torch": None}
    if JEMALLOC.exists():
        systems["torch+jemalloc"] = JEMALLOC
    else:
        print(f"without {JEMALLOC} PyTorch runs with the C library's allocator only", file=sys.stderr)
    runs: dict[tuple[str, str], list[Record]] = {}
    for _ in range(arguments.rounds):
        for system, preload in systems.items():
            for record in run(arguments, "--system", system, preload=preload):
                runs.setdefault((record["work"], record["system"]), []).append(record)
    settings = {name: getattr(arguments, name) for name in ("dtype", "threads", "rounds")}
    settings |= {"torch": importlib.metadata.version("torch"), **machine()}
    return [{**_median(of_one), **settings} for of_one in runs.values()]


def _median(records: list[Record]) -> Record:
    """Their numbers' medians; of None there is none."""
    return {
        name: round(statistics.median(record[name] for record in records), 4)
        if isinstance(value, float | int)
        else value
        for name, value in records[0].items()
    }


def print_ratios(records: list[Record]) -> None:
    """dragoman's speed over PyTorch's fastest, for every work."""
    for ours in (record for record in records if record["system"] == "dragoman"):
        others = [record for record in records if record["work"] == ours["work"] and record is not ours]
        theirs = min(others, key=lambda record: record["ms"])
        line = f"{ours['work']}, {ours['dtype']}, {ours['threads']} threads: "
        line += f"{theirs['ms'] / ours['ms']:.2f} x the speed of {theirs['system']}"
        if ours["peak_mib"]:
            line += f" in {ours['peak_mib'] / theirs['peak_mib']:.2f} of its memory"
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mode", choices=["train", "ops"])
    parser.add_argument("--model", choices=MODELS, default="base")
    parser.add_argument("--batches", choices=ORDERS, default="rectangle", help="all sentences of one length, or ragged")
    parser.add_argument("--dtype", choices=TOLERANCE, default="float32")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", default="", metavar="TEXT", help="of the ops, those whose name holds this")
    parser.add_argument("--steps", type=int, default=3, help="timed in a process, after one to warm up")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each system")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the records go")
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--system", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.check:
        check_losses(arguments)
    elif arguments.system:
        for record in (measure_training if arguments.mode == "train" else measure_ops)(arguments):
            print(json.dumps(record), flush=True)
    else:
        records = compare(arguments)
        print_ratios(records)
        if arguments.json:
            arguments.json.write_text(json.dumps(records, indent=2) + "\n")


if __name__ == "__main__":
    main()
