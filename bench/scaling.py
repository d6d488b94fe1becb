"""Training on several ranks: how fast two are here, what the exchange of gradients costs, and what more machines give.

    python bench/scaling.py [--model base] [--dtype bfloat16] [--ranks 2] [--rate 0 2 10] [--json FILE] [--plot FILE]

The same steps, of as many batches as there are ranks, run on one rank with that many threads, and on that many ranks
with a thread each (mpirun, extra `mpi`); the ratio of their speeds is the efficiency. On the ranks, backward runs at
the same time without an exchange, with the exchange after it, and with the exchange while it runs: these say how much
of the exchange is hidden. Messages between two ranks give a latency and a bandwidth. Ranks talk over shared memory,
`--rate 0`, or over TCP through a loopback of so many Gbit/s, which both directions share, in a network namespace (needs
root, unshare, ip and tc). One record is printed for each rate.

From these terms follows a step on N machines: computing, the exchange as far as backward cannot hide it, and the new
values. It is predicted for the ranks here, beside what was measured, and for the networks of `--gigabits` and
`--latency` with up to 64 machines.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from machine import machine
from training import ADAMW, SMOOTHING, dragoman_model
from works import MODELS, count_tokens, make_batches

MACHINES = (1, 2, 4, 8, 16, 32, 64)
LOOPBACK = ["--mca", "btl", "tcp,self", "--mca", "pml", "ob1", "--mca", "btl_tcp_if_include", "lo"]
MESSAGES = [1 << power for power in range(10, 23, 2)]  # bytes

Figures = dict[str, Any]


def work(model: str, dtype: str, steps: int, batches: int) -> Figures:
    """On each rank: the times of steps and of their parts; the first rank's are returned."""
    import dragoman as dg
    from dragoman.distributed import this_process
    from dragoman.distributed.exchange import Exchange

    ranks = this_process()
    shape = MODELS[model]
    transformer = dragoman_model(shape, dtype, 0.1)
    optimizer = dg.optim.AdamW(transformer, **ADAMW, ranks=ranks)
    batch = make_batches(shape, "rectangle", 1)[0]
    sources, targets = zip(*batch, strict=True)
    shares: dict[str, float] = {}

    def timed(name: str, run: Any) -> Any:
        began = time.perf_counter()
        result = run()
        shares[name] = shares.get(name, 0.0) + time.perf_counter() - began
        return result

    def step() -> float:
        shares.clear()
        began = time.perf_counter()
        for done in range(0, batches, ranks.size):
            dg.random.begin_batch(done + ranks.rank)
            loss = timed("forward", lambda: transformer.loss(sources, targets, SMOOTHING))
            timed("backward", lambda loss=loss, done=done: optimizer.backward(loss, batches, done))
        timed("update", optimizer.step)
        return time.perf_counter() - began

    def apart() -> float:
        shares.clear()
        loss = timed("forward", lambda: transformer.loss(sources, targets, SMOOTHING))
        timed("backward", loss.backward)
        optimizer.zero_grad()
        return sum(shares.values())

    found: Figures = {
        **{"tokens": count_tokens(batch) * batches, "bytes": 4 * optimizer.size},
        "late": transformer.src_embedding.weight.size / optimizer.size,  # complete only when backward ends
    }
    left, modes = Exchange.left, ("together", "after", "apart") if ranks.size > 1 else ("alone",)
    measured: dict[str, list[Figures]] = {name: [] for name in modes}
    for _ in range(steps + 1):
        for name in modes:  # in turn, as a machine is slower at one time than at another
            Exchange.left = (lambda *_: None) if name == "after" else left
            ranks.gather(None)
            seconds = apart() if name == "apart" else step()
            measured[name].append({"step": seconds, **shares})
    for name, parts in measured.items():
        found[name] = {part: statistics.median(each[part] for each in parts[1:]) for part in parts[0]}
    if ranks.size > 1:
        link = ranks.link("cpu")
        found["messages"] = {size: _message(ranks, link, size) for size in MESSAGES}
    return found


def _message(ranks: Any, link: Any, size: int) -> float:
    """Seconds of a message of so many bytes each way between the first two ranks, at the same time."""
    from dragoman import _core

    sent, received, times = _core.Tensor.zeros([size // 4]), _core.Tensor.zeros([size // 4]), []
    for _ in range(12):
        ranks.gather(None)
        began = time.perf_counter()
        if ranks.rank < 2:
            other = 1 - ranks.rank
            ranks.wait([link.transfer([(other, sent)], [(other, received)], 0)])
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def run(options: argparse.Namespace, ranks: int, threads: int, batches: int, rate: float = 0.0) -> Figures:
    """`work` in processes of its own."""
    arguments = [sys.executable, __file__, "--work", str(batches), "--model", options.model, "--dtype", options.dtype]
    arguments += ["--steps", str(options.steps)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
    if ranks > 1:
        beside = Path(sys.executable).parent
        mpirun = shutil.which("mpirun", path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}")
        if mpirun is None:
            sys.exit("there is no mpirun: pip install 'dragoman[mpi]'")
        network = LOOPBACK if rate else []
        arguments = [mpirun, "-n", str(ranks), "--oversubscribe", "--bind-to", "none", *network, *arguments]
        environment |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        if rate:
            limit = f"ip link set lo up && tc qdisc add dev lo root tbf rate {rate}gbit burst 1mb latency 100ms"
            arguments = ["unshare", "--net", "sh", "-c", f'{limit} && exec "$@"', "sh", *arguments]
    done = subprocess.run(arguments, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))


def fitted(messages: dict[str, float]) -> tuple[float, float]:
    """Latency in seconds, and bandwidth in bytes a second, of messages by their size."""
    largest = max(messages, key=int)
    latency = messages[min(messages, key=int)]
    return latency, int(largest) / max(messages[largest] - latency, 1e-9)


def step_on(machines: int, terms: Figures, latency: float, bandwidth: float) -> float:
    """Seconds of a step of one batch a machine, on so many of them.

    Gradients go to their owners while backward runs, those of the tied embedding after it, and values come back after
    the update: (N - 1) / N of the bytes each way, in one message for each bucket and machine.
    """
    if machines == 1:
        return float(terms["forward"] + terms["backward"] + terms["update"])
    buckets = -(-terms["bytes"] // (1 << 22))
    way = terms["bytes"] * (machines - 1) / machines / bandwidth + buckets * (machines - 1) * latency
    gradients = max(terms["backward"] + terms["late"] * way, way)
    return float(terms["forward"] + gradients + terms["update"] / machines + way)


def speeds_on(terms: Figures, latency: float, bandwidth: float) -> list[float]:
    """How many times as fast as one machine each number of MACHINES is."""
    alone = step_on(1, terms, latency, bandwidth)
    return [n * alone / step_on(n, terms, latency, bandwidth) for n in MACHINES]


def plot(path: str, options: argparse.Namespace, records: list[Figures]) -> None:
    """The predicted efficiency over the number of machines, and the measured one of the ranks."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5))
    for network, times in records[0]["predicted_times"].items():
        shares = [100 * each / machines for each, machines in zip(times, MACHINES, strict=True)]
        axes.plot(MACHINES, shares, marker=".", label=f"{network}, predicted")
    for record in records:
        name = f"loopback of {record['rate']:g} Gbit/s" if record["rate"] else "shared memory"
        predicted, measured = (100 * record[key] / options.ranks for key in ("predicted_times_here", "times_here"))
        (point,) = axes.plot([options.ranks], [predicted], "o", fillstyle="none", markersize=9)
        label = f"{name}: {measured:.0f} %, predicted {predicted:.0f} %"
        axes.plot([options.ranks], [measured], "*", color=point.get_color(), markersize=11, label=label)
    axes.set(xscale="log", ylim=(0, None), xlabel="machines", ylabel="speed, % of that many times one machine")
    axes.set_xticks(MACHINES, [str(n) for n in MACHINES])
    axes.legend(title="stars: measured here; circles: predicted for it")
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def record_of(options: argparse.Namespace, alone: Figures, one: Figures, rate: float) -> Figures:
    """What a rate gives, beside one rank with all threads (`alone`) and one rank with one thread and batch (`one`)."""
    several = run(options, options.ranks, 1, options.ranks, rate)
    latency, bandwidth = fitted(several["messages"])
    apart, after, together = (several[name]["backward"] for name in ("apart", "after", "together"))
    terms = {**several["apart"], "update": one["alone"]["update"], "bytes": several["bytes"], "late": several["late"]}
    step, step_alone = (step_on(machines, terms, latency, bandwidth) for machines in (options.ranks, 1))
    networks = {f"{g:g} Gbit/s": speeds_on(terms, 1e-6 * options.latency, 1.25e8 * g) for g in options.gigabits}
    return {
        **{"bench": "scaling", "model": options.model, "dtype": options.dtype, "ranks": options.ranks, "rate": rate},
        "efficiency": round(alone["alone"]["step"] / several["together"]["step"], 3),
        "tokens_per_s": {
            "one rank": round(alone["tokens"] / alone["alone"]["step"]),
            "ranks": round(several["tokens"] / several["together"]["step"]),
        },
        "exchange_mib": round(several["bytes"] / 2**20, 1),
        "late": round(several["late"], 3),
        "exchange_after_s": round(after - apart, 4),
        "exchange_hidden": round((after - together) / (after - apart), 3) if after > 1.02 * apart else None,
        "latency_us": round(1e6 * latency, 1),
        "gigabytes_per_s": round(bandwidth / 1e9, 3),
        "step_s": round(several["together"]["step"], 4),
        "predicted_step_s": round(step, 4),
        "times_here": round(options.ranks * step_alone / several["together"]["step"], 3),
        "predicted_times_here": round(options.ranks * step_alone / step, 3),
        "predicted_times": {network: [round(value, 2) for value in values] for network, values in networks.items()},
        **machine(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="base")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rate", type=float, nargs="+", default=[0.0], help="Gbit/s of a loopback between the ranks")
    parser.add_argument("--gigabits", type=float, nargs="+", default=[10.0, 25.0])
    parser.add_argument("--latency", type=float, default=30.0, help="microseconds, of the predicted network")
    parser.add_argument("--json", metavar="FILE", help="append the records")
    parser.add_argument("--plot", metavar="FILE", help="write the prediction as a picture")
    parser.add_argument("--work", type=int, metavar="BATCHES", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        from dragoman.distributed import this_process

        found = work(options.model, options.dtype, options.steps, options.work)
        if this_process().first:
            print(json.dumps(found), flush=True)
        return

    alone, one = run(options, 1, options.ranks, options.ranks), run(options, 1, 1, 1)
    records = []
    for rate in options.rate:
        records.append(record_of(options, alone, one, rate))
        print(json.dumps(records[-1]), flush=True)
        if options.json:
            with Path(options.json).open("a") as file:
                file.write(json.dumps(records[-1]) + "\n")
    if options.plot:
        plot(options.plot, options, records)


if __name__ == "__main__":
    main()
