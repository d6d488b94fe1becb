"""Where the time of a decoding step goes, op by op.

    python bench/step_profile.py [--model base] [--dtype float32] [--threads 1] [--batch 8] [--beam 4]

`generate` runs recorded steps without Python. Here it runs the model's own code instead, which calls the same ops, and
each call is timed. So the sum of the ops is what the recorded steps take in kernels; `generate`, in the last row, is
measured without any timing of ops, and takes more by the search, and by all that is between ops. Of products, GB/s are
those of the weight. Everything is of a step: the time of 32 of them less that of one, which has the source's.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from decoders import LENGTH, Dragoman, make_sources
from decoding_bound import WEIGHT_SIZE
from export import dragoman_model
from works import MODELS

Totals = dict[str, tuple[int, float]]  # calls and seconds, by op

WEIGHT = {"linear_forward": 1, "frozen_linear": 3}  # the place of a product's weight, or of its shape


@contextmanager
def timed_ops(totals: Totals) -> Iterator[None]:
    """Inside, models run in Python, and each call of a function of the core is added to its op."""
    from dragoman import _core
    from dragoman.generate import steps

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            result = function(*arguments, **named)
            spent = time.perf_counter() - start
            key = name
            if name in WEIGHT:
                weight = arguments[WEIGHT[name]]
                key += " {} x {}".format(*getattr(weight, "shape", weight))
            calls, seconds = totals.get(key, (0, 0.0))
            totals[key] = calls + 1, seconds + spent
            return result

        return call

    functions = {
        name: value
        for name, value in vars(_core).items()
        if callable(value) and name.islower() and name != "is_recording"
    }
    replayed_steps = steps.replayed_steps
    steps.replayed_steps = lambda model: None
    for name, function in functions.items():
        setattr(_core, name, timed(name, function))
    try:
        yield
    finally:
        steps.replayed_steps = replayed_steps
        for name, function in functions.items():
            setattr(_core, name, function)


def profile(run: Callable[[int], Any], seconds: float) -> tuple[Totals, float]:
    """Calls and least seconds of each op in a step, and the least seconds of a step that is not taken apart."""
    run(LENGTH)
    totals: dict[int, Totals] = {1: {}, LENGTH: {}}
    whole = dict.fromkeys(totals, float("inf"))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or not totals[1]:
        for length, least in totals.items():
            start = time.perf_counter()
            run(length)
            whole[length] = min(whole[length], time.perf_counter() - start)
            found: Totals = {}
            with timed_ops(found):
                run(length)
            least |= {op: (calls, min(spent, least.get(op, (0, spent))[1])) for op, (calls, spent) in found.items()}
    steps = LENGTH - 1
    ops = {}
    for op, (calls, spent) in totals[LENGTH].items():
        first_calls, first_spent = totals[1].get(op, (0, 0.0))
        if calls > first_calls:
            ops[op] = (calls - first_calls) // steps, (spent - first_spent) / steps
    return ops, (whole[LENGTH] - whole[1]) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="base")
    parser.add_argument("--dtype", choices=WEIGHT_SIZE, default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--beam", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    model = MODELS[arguments.model]
    with tempfile.TemporaryDirectory() as folder:
        dragoman_model(model).save(folder)
        decoder = Dragoman(Path(folder), model, arguments.dtype, arguments.threads)
    inputs = decoder.inputs(next(make_sources(model, arguments.batch, 0)))
    ops, step = profile(lambda length: decoder.run(inputs, arguments.beam, length), arguments.seconds)
    print(f"{'op':44}{'calls':>7}{'ms':>9}{'share':>8}{'GB/s':>7}")
    for op, (calls, seconds) in sorted(ops.items(), key=lambda item: -item[1][1]):
        rate = ""
        if op.split()[0] in WEIGHT:
            rows, columns = map(int, op.split()[1::2])
            rate = f"{1e-9 * calls * rows * columns * WEIGHT_SIZE[arguments.dtype] / seconds:7.1f}"
        print(f"{op:44}{calls:7}{1e3 * seconds:9.3f}{seconds / step:8.1%}{rate}")
    total = sum(seconds for _, seconds in ops.values())
    print(f"{'sum':44}{'':7}{1e3 * total:9.3f}{total / step:8.1%}")
    print(f"{'a step of generate':44}{'':7}{1e3 * step:9.3f}")


if __name__ == "__main__":
    main()
