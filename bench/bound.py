"""How fast a training step of compare.py could be on this machine, and what share of that it reaches.

    python bench/bound.py [--model base] [--dtype float32] [--threads 2]

Three bounds, all without any overlap or overhead. `at peak`: matrix products and attention's products at the rate that
multiply-adds alone reach (build/dev/bench/native/bench_peak, see CONTRIBUTING.md). `at tile`: at that of the matrix
product's register tile, which loads its operands from the nearest caches. `measured`: the same products timed by
themselves. To each come one pass over memory for what is not fused into a product, dropout's masks drawn in
forward and (but for those after ReLU) in backward, and AdamW. The last line is a JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import attention
import numpy as np
from inputs import ITEM_SIZE, dragoman_tensor
from machine import machine
from peak import add_peak, faster, peak_of_machine
from training import dragoman_model, dragoman_step
from works import MODELS, Model, make_batches

DROPOUT = 0.1


@dataclass
class Part:
    """flop: of the matrix products that it consists of; 0 where there are none."""

    name: str
    ms: float  # as measured
    flop: float = 0.0

    def ms_at(self, gflops: float) -> float:
        return 1e-6 * self.flop / gflops if self.flop else self.ms


def products(model: Model, dtype: str) -> list[Part]:
    """The linear layers, forward and both gradients."""
    from dragoman import _core

    rows = model.batch * model.length
    d_model, layers = model.d_model, model.layers
    parts, none = [], _core.Dropout()
    # Encoder: 4 projections; decoder: 4 and 4.
    for count, inputs, outputs in (
        (12 * layers, d_model, d_model),
        (2 * layers, d_model, model.d_ff),
        (2 * layers, model.d_ff, d_model),
    ):
        x, dy, weight = random(dtype, rows, inputs), random(dtype, rows, outputs), random(dtype, outputs, inputs)
        bias, dweight, dbias = (
            random("float32", outputs),
            random("float32", outputs, inputs),
            random("float32", outputs),
        )

        def step(x=x, dy=dy, weight=weight, bias=bias, dweight=dweight, dbias=dbias) -> None:
            _core.linear_forward(x, weight, bias, "none", none, None)
            _core.linear_backward(dy, x, weight, None, "none", none, True, dweight, False, dbias, False, None)

        flop = count * 3 * 2 * rows * inputs * outputs
        name = f"{count} linear ({rows}, {inputs}) -> {outputs}"
        parts.append(Part(name, count * ms_of(step), flop))

    x, weight = random(dtype, rows, d_model), random(dtype, model.vocab_size, d_model)
    ids = _core.Tensor.from_numpy(np.arange(rows, dtype=np.int32) % model.vocab_size, "int32")
    loss_ms = ms_of(
        lambda: _core.linear_cross_entropy_forward(x, weight, None, ids, 0.1, None, True, True, False, None)
    )
    flop = 3 * 2 * rows * d_model * model.vocab_size
    parts.append(Part(f"linear_cross_entropy ({rows}, {d_model}) -> {model.vocab_size}", loss_ms, flop))
    return parts


def attentions(model: Model, dtype: str) -> list[Part]:
    heads, head_dim = model.num_heads, model.d_model // model.num_heads
    inputs = np.random.default_rng(0).uniform(-1, 1, (4, model.batch * model.length, heads, head_dim))
    parts = []
    for count, causal in ((2 * model.layers, False), (model.layers, True)):
        case = attention.Case(dtype, model.batch, heads, model.length, head_dim, causal, ragged=False)
        step = attention.dragoman_step(case, list(inputs))
        parts.append(Part(f"{count} attention{', causal' * causal}", count * ms_of(step), count * case.flop()))
    return parts


def passes(model: Model, dtype: str, gbytes: float) -> Part:
    """Rows read and written by norms, residuals and embeddings, where every chain of them is one pass."""
    size = ITEM_SIZE[dtype]
    # Residual, dropout and norm of a sublayer: x, residual -> sum, y; dy, sum -> dx, dresidual.
    streams = 5 * model.layers * 8
    streams += 2 * 5  # final norms: x -> y; dy, x -> dx
    bytes_of_row = model.d_model * (streams * size + 2 * (size + 4) + 2 * (size + 8))  # the table is float32
    ms = 1e-6 * model.batch * model.length * bytes_of_row / gbytes
    return Part("memory passes", ms)


def masks(model: Model, dtype: str) -> Part:
    """Dropout's random bits, timed in cache."""
    from dragoman import _core

    tokens, length, layers = model.batch * model.length, model.length, model.layers
    drawn = 2 * 2 * tokens * model.d_model  # embeddings
    drawn += 2 * 5 * layers * tokens * model.d_model  # residuals
    drawn += 2 * layers * tokens * model.d_ff  # once: ReLU's backward sees in the row what was dropped
    drawn += 2 * layers * model.num_heads * tokens * (2 * length + (length + 1) // 2)  # attention's weights
    x, dropout = random(dtype, 512, 512), _core.Dropout(DROPOUT)
    ms = drawn / 512**2 * ms_of(lambda: _core.dropout_forward(x, dropout, None))
    return Part("dropout masks", ms)


def optimizer(parameters: int, dtype: str, gbytes: float) -> Part:
    """AdamW: weight, gradient (cleared) and two moments read and written; in bfloat16 a copy of the weights."""
    ms = 1e-6 * parameters * (32 + (2 if dtype == "bfloat16" else 0)) / gbytes
    return Part("AdamW", ms)


def random(dtype: str, *shape: int) -> Any:
    return dragoman_tensor(np.random.default_rng(0).uniform(-1, 1, shape), dtype).data


def ms_of(function: Callable[[], Any], at_least: float = 0.2) -> float:
    """The fastest of repeated calls that together take `at_least` seconds: a bound knows no disturbance."""
    from dragoman.cli.bench import times_of

    return 1e3 * min(times_of(function, at_least))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="base")
    parser.add_argument("--dtype", choices=ITEM_SIZE, default="float32")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=float, default=10, help="of steps to be timed")
    add_peak(parser)
    arguments = parser.parse_args()
    model, dtype = MODELS[arguments.model], arguments.dtype
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    peak = peak_of_machine(arguments.peak)
    transformer = dragoman_model(model, dtype, DROPOUT)
    step = dragoman_step(transformer)
    (batch,) = make_batches(model, "rectangle", 1)
    step_ms = ms_of(lambda: step(batch), arguments.seconds)
    peak = faster(peak, peak_of_machine(arguments.peak))
    parts = [
        *products(model, dtype),
        *attentions(model, dtype),
        passes(model, dtype, peak["memory"]),
        masks(model, dtype),
        optimizer(transformer.num_parameters(), dtype, peak["memory"]),
    ]
    print(f"{'ms of a step':48} at peak  at tile  measured")
    at_peak = at_tile = measured = 0.0
    for part in parts:
        ms = part.ms_at(peak[dtype]), part.ms_at(peak[f"{dtype}_tile"]), part.ms
        print(f"{part.name:48} {ms[0]:7.1f} {ms[1]:8.1f} {ms[2]:9.1f}")
        at_peak, at_tile, measured = at_peak + ms[0], at_tile + ms[1], measured + ms[2]
    print(f"{'bound':48} {at_peak:7.1f} {at_tile:8.1f} {measured:9.1f}")
    name = f"the step itself: {step_ms:.1f} ms, in % of that"
    print(f"{name:48} {at_peak / step_ms:7.1%} {at_tile / step_ms:8.1%} {measured / step_ms:9.1%}")
    result = {
        "work": f"train {arguments.model} {model.batch}x{model.length}",
        "dtype": dtype,
        "threads": arguments.threads,
        "step_ms": round(step_ms, 1),
        "bound_at_peak_ms": round(at_peak, 1),
        "bound_at_tile_ms": round(at_tile, 1),
        "bound_measured_ms": round(measured, 1),
        "peak": peak,
        **machine(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
