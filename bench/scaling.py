"""Training on several ranks: how fast two are here, what the exchange of gradients costs, and what more machines give.

    python bench/scaling.py [--model base] [--dtype bfloat16] [--ranks 2] [--rate 10] [--json FILE] [--plot FILE]

The same steps, of as many batches as there are ranks, run on one rank with that many threads, and on that many ranks
with a thread each (mpirun, extra `mpi`); the ratio of their speeds is the efficiency. On the ranks, backward runs at
the same time without an exchange, with the exchange after it, and with the exchange while it runs: these say how much
of the exchange is hidden. Messages between two ranks give a latency and a bandwidth.

From these terms follows a step on N machines: computing, and the exchange as far as backward does not hide it.
`--gigabits` and `--latency` are those of the network between them. With `--rate R` the ranks talk over TCP through a
loopback of R Gbit/s, in a network namespace (needs root, unshare, ip and tc), and the model's step is printed beside
the measured one.
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
BACKWARD = 2 / 3  # of the time in forward and backward, in which gradients leave
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

    found: Figures = {"tokens": count_tokens(batch) * batches, "bytes": 4 * optimizer.size}
    left = Exchange.left
    for name in ("together", "after", "apart") if ranks.size > 1 else ("alone",):
        Exchange.left = (lambda *_: None) if name == "after" else left
        run_once = apart if name == "apart" else step
        run_once()
        times, parts = [], []
        for _ in range(steps):
            ranks.gather(None)
            times.append(run_once())
            parts.append(dict(shares))
        found[name] = statistics.median(times)
        found[f"{name}_parts"] = {key: statistics.median(each[key] for each in parts) for key in parts[0]}
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


def run(options: argparse.Namespace, ranks: int, threads: int) -> Figures:
    """`work` in processes of its own."""
    arguments = [sys.executable, __file__, "--work", "--model", options.model, "--dtype", options.dtype]
    arguments += ["--steps", str(options.steps), "--ranks", str(options.ranks)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
    if ranks > 1:
        beside = Path(sys.executable).parent
        mpirun = shutil.which("mpirun", path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}")
        if mpirun is None:
            sys.exit("there is no mpirun: pip install 'dragoman[mpi]'")
        network = LOOPBACK if options.rate else []
        arguments = [mpirun, "-n", str(ranks), "--oversubscribe", "--bind-to", "none", *network, *arguments]
        environment |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        if options.rate:
            limit = f"ip link set lo up && tc qdisc add dev lo root tbf rate {options.rate}gbit burst 1mb latency 100ms"
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

    Gradients go to their owners, a share of them while backward runs, and values come back after the update:
    (N - 1) / N of the bytes each way, in one message for each bucket and machine.
    """
    compute, update, size = terms["compute"], terms["update"], terms["bytes"]
    hidden = terms["hidden"]
    if machines == 1:
        return float(compute + update)
    buckets = -(-size // (1 << 22))
    way = size * (machines - 1) / machines / bandwidth + buckets * (machines - 1) * latency
    return float(compute + way - min(hidden * way, BACKWARD * compute) + update / machines + way)


def predicted(options: argparse.Namespace, terms: Figures) -> dict[str, list[float]]:
    """By the network, how many times as fast as one machine each number of MACHINES is."""
    alone, latency = step_on(1, terms, 0.0, 1.0), options.latency * 1e-6
    return {
        f"{gigabits:g} Gbit/s": [n * alone / step_on(n, terms, latency, gigabits * 1.25e8) for n in MACHINES]
        for gigabits in options.gigabits
    }


def plot(path: str, speeds: dict[str, list[float]], ranks: int, measured: float) -> None:
    """The predicted speeds over the number of machines, and the measured one of the ranks."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4))
    for network, values in speeds.items():
        axes.plot(MACHINES, values, marker="o", label=f"{network}, predicted")
    axes.plot(MACHINES, MACHINES, color="0.7", linestyle="--", label="ideal")
    axes.plot([ranks], [measured], "k*", markersize=10, label="measured, on one machine")
    axes.set(xscale="log", yscale="log", xlabel="machines", ylabel="times the speed of one")
    axes.set_xticks(MACHINES, [str(n) for n in MACHINES])
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="base")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--gigabits", type=float, nargs="+", default=[10.0, 25.0])
    parser.add_argument("--latency", type=float, default=30.0, help="microseconds, of the predicted network")
    parser.add_argument("--rate", type=float, help="Gbit/s of a loopback between the ranks")
    parser.add_argument("--json", metavar="FILE", help="append the record")
    parser.add_argument("--plot", metavar="FILE", help="write the prediction as a picture")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        from dragoman.distributed import this_process

        found = work(options.model, options.dtype, options.steps, options.ranks)
        if this_process().first:
            print(json.dumps(found), flush=True)
        return

    alone, several = run(options, 1, options.ranks), run(options, options.ranks, 1)
    one = run(argparse.Namespace(**{**vars(options), "ranks": 1}), 1, 1)
    latency, bandwidth = fitted(several["messages"])
    parts = one["alone_parts"]
    computed, exchange, exposed = (several[f"{name}_parts"]["backward"] for name in ("apart", "after", "together"))
    hidden = (exchange - exposed) / max(exchange - computed, 1e-9)
    terms = {
        "compute": parts["forward"] + parts["backward"],
        "update": parts["update"],
        "bytes": several["bytes"],
        "hidden": max(hidden, 0.0),
    }
    speeds = predicted(options, terms)
    record = {
        **{"bench": "scaling", "model": options.model, "dtype": options.dtype, "ranks": options.ranks},
        "efficiency": round(alone["alone"] / several["together"], 3),
        "tokens_per_s": {
            "one rank": round(alone["tokens"] / alone["alone"]),
            "ranks": round(several["tokens"] / several["together"]),
        },
        "exchange_mib": round(several["bytes"] / 2**20, 1),
        "exchange_after_s": round(exchange - computed, 4),
        "exchange_hidden": round(hidden, 3),
        "latency_us": round(1e6 * latency, 1),
        "gigabytes_per_s": round(bandwidth / 1e9, 3),
        "step_s": {"one batch on one rank": round(one["alone"], 4), "ranks": round(several["together"], 4)},
        "predicted_step_s": round(step_on(options.ranks, terms, latency, bandwidth), 4),
        "rate": options.rate,
        "predicted_times": {network: [round(value, 2) for value in values] for network, values in speeds.items()},
        **machine(),
    }
    print(json.dumps(record))
    if options.json:
        with Path(options.json).open("a") as file:
            file.write(json.dumps(record) + "\n")
    if options.plot:
        plot(options.plot, speeds, options.ranks, options.ranks * one["alone"] / several["together"])


if __name__ == "__main__":
    main()
