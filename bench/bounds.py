"""How fast a training step, or attention and the losses, could be on this machine, and how fast they are.

    python bench/bounds.py step|ops [--model base] [--dtype float32] [--threads 2] [--only TEXT]
    python bench/bounds.py decode [--model base] [--dtype float32] [--threads 2] [--batch 1] [--beam 4] [--json FILE]

step, ops: each row is an op with four times. `peak`: its matrix products at the rate of multiply-adds alone. `tile`: at
the rate of the products' register tile, which loads its operands from the nearest caches. `parts`: the products at that
rate, plus copies into the order that the tile reads, softmax of rows in the nearest cache, and memory read and written,
all at the machine's own rates, without overlap and without loss. `measured`: the op by itself.
A step is the sum of its rows: linear layers, attention, the loss, one pass over memory for what is not fused into a
product, the random bits of dropout, and AdamW.
decode: what 32 source tokens and 32 target tokens take at least, in milliseconds, by parts, and output tokens a second;
and the share that dragoman reaches in FILE, which `compare.py decode --json FILE` wrote.
The rates are measured on the spot by build/dev/bench/native/bench_peak (see CONTRIBUTING.md). The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import attention
import loss
import numpy as np
import products
from decoding_bound import bounds_of, print_bounds
from inputs import ITEM_SIZE, dragoman_tensor
from machine import PEAK, machine, rates_of_machine
from training import dragoman_model, dragoman_step
from turns import times_of
from works import MODELS, Model, make_batches

DROPOUT = 0.1
CHUNK_ROWS = 512  # linear_cross_entropy holds the logits of so many rows at a time

Rates = dict[str, Any]


@dataclass
class Op:
    """`count` calls of an op in a row of the table."""

    title: str
    run: Callable[[], Any] | None  # one call; None for what is not measured by itself
    count: int = 1
    flop: float = 0.0  # of matrix products
    copied: float = 0.0  # bytes
    softmax: float = 0.0  # elements
    moved: float = 0.0  # bytes read from and written to memory
    drawn: float = 0.0  # random elements of dropout

    def times(self, dtype: str, rates: Rates, seconds: float) -> dict[str, float]:
        """Milliseconds at the rates of the machine, and as measured."""
        other = 1e-6 * (
            self.copied / rates[f"{dtype}_pack"]
            + self.softmax / rates["softmax"]
            + self.moved / rates["memory"]
            + self.drawn / rates["dropout"]
        )
        peak, tile = (1e-6 * self.flop / rates[rate] for rate in (dtype, f"{dtype}_tile"))
        if not self.flop:
            peak = tile = other
        parts = tile + other if self.flop else other
        measured = parts if self.run is None else 1e3 * statistics.median(times_of(self.run, seconds))
        one = {"peak": peak, "tile": tile, "parts": parts, "measured": measured}
        return {name: self.count * ms for name, ms in one.items()}


def attention_op(case: attention.Case, count: int = 1) -> Op:
    rows = case.batch * case.heads * case.length * case.head_dim * ITEM_SIZE[case.dtype]  # bytes of q, k, v or out
    return Op(
        f"{count} x {case.title()}" if count > 1 else case.title(),
        attention.rotated(case, attention.dragoman_step),
        count,
        flop=case.flop(),
        copied=12 * rows,  # q, k, v; q, k, v, dout, once more k, and dq, dk, dv, out
        softmax=2 * case.pairs(),  # in each direction
        moved=11 * rows,  # q, k, v, out; q, k, v, dout, dq, dk, dv
    )


def loss_op(case: loss.Case) -> Op:
    size, logits, weight = ITEM_SIZE[case.dtype], case.rows * case.vocabulary, case.features * case.vocabulary
    run = loss.dragoman_step(case, *loss.make_inputs(case))
    if not case.features:
        return Op(case.title(), run, softmax=logits, moved=2 * logits * size)
    chunks = math.ceil(case.rows / CHUNK_ROWS)
    return Op(
        case.title(),
        run,
        flop=3 * 2 * logits * case.features,
        copied=size * (chunks * 2 * weight + logits),  # the weight for logits and dx, dlogits for dweight
        softmax=logits,
        # The weight twice a chunk; logits written, made dlogits, read twice; dweight written, then added to.
        moved=size * (chunks * 2 * weight + 5 * logits) + 4 * (2 * chunks - 1) * weight,
    )


def linear_ops(model: Model, dtype: str) -> Iterator[Op]:
    """The linear layers of a step, forward and both gradients."""
    rows, d_model, d_ff = model.batch * model.length, model.d_model, model.d_ff
    # Four projections in an encoder layer, eight in a decoder layer.
    for layers, inputs, outputs in ((12, d_model, d_model), (2, d_model, d_ff), (2, d_ff, d_model)):
        case = products.Case("step", dtype, rows, inputs, outputs)
        count = layers * model.layers
        run = products.dragoman_step(case, **products.make_inputs(case))
        yield Op(f"{count} x {case.title()}", run, count, flop=3 * 2 * rows * inputs * outputs)


def memory_ops(model: Model, dtype: str, parameters: int) -> Iterator[Op]:
    """What is not a product: rows read and written, random bits, the optimizer."""
    size, rows, layers = ITEM_SIZE[dtype], model.batch * model.length, model.layers
    streams = 5 * layers * 8  # residual, dropout and norm: x, residual -> sum, y; dy, sum -> dx, dresidual
    streams += 2 * 5  # final norms: x -> y; dy, x -> dx
    embeddings = 2 * (size + 4) + 2 * (size + 8)  # the table and its gradient are float32
    yield Op("norms, residuals, embeddings", None, moved=rows * model.d_model * (streams * size + embeddings))
    drawn = 2 * 2 * rows * model.d_model  # embeddings, forward and backward
    drawn += 2 * 5 * layers * rows * model.d_model  # residuals
    drawn += 2 * layers * rows * model.d_ff  # once: ReLU's backward sees in the row what was dropped
    drawn += 2 * layers * model.num_heads * rows * (2 * model.length + (model.length + 1) // 2)  # attention's weights
    yield Op("dropout masks", None, drawn=drawn)
    # Weight, gradient (cleared) and two moments read and written; in bfloat16 a copy of the weights.
    yield Op("AdamW", None, moved=parameters * (32 + (2 if dtype == "bfloat16" else 0)))


def ops_of_step(model: Model, dtype: str, parameters: int) -> Iterator[Op]:
    yield from linear_ops(model, dtype)
    shape = (model.batch, model.num_heads, model.length, model.d_model // model.num_heads)
    yield attention_op(attention.Case(dtype, *shape, causal=False, ragged=False), 2 * model.layers)
    yield attention_op(attention.Case(dtype, *shape, causal=True, ragged=False), model.layers)
    yield loss_op(loss.Case("linear_cross_entropy", dtype, shape[0] * shape[2], model.d_model, model.vocab_size))
    yield from memory_ops(model, dtype, parameters)


def single_ops(dtype: str, only: str) -> Iterator[Op]:
    for case in attention.cases(dtype):
        if not case.ragged and only in case.title():
            yield attention_op(case)
    for loss_case in loss.cases(dtype):
        if only in loss_case.title():
            yield loss_op(loss_case)


def rates_of_step(executable: Path, threads: int) -> Rates:
    """The rates of the machine, and "dropout", 10^9 elements/s."""
    import dragoman as dg

    rates = rates_of_machine(executable, threads)
    x = dragoman_tensor(np.ones((512, 512)), "float32")
    with dg.no_grad():  # in the cache, so the random bits are what takes time
        rates["dropout"] = 1e-9 * 512**2 / min(times_of(lambda: dg.functional.dropout(x, DROPOUT), 0.2))
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mode", choices=("step", "ops", "decode"))
    parser.add_argument("--model", choices=MODELS, default="base")
    parser.add_argument("--dtype", choices=(*ITEM_SIZE, "int8"), default="float32", help="int8 decodes")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", default="", metavar="TEXT", help="the ops whose name holds this")
    parser.add_argument("--seconds", type=float, default=1, help="of calls of each op, and ten times that of steps")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32], help="decode: sentences side by side")
    parser.add_argument("--beam", type=int, nargs="+", default=[1, 4], help="decode: hypotheses of each")
    parser.add_argument("--json", type=Path, metavar="FILE", help="decode: read the records of compare.py decode")
    parser.add_argument("--peak", type=Path, default=PEAK, help="the executable that measures the machine")
    arguments = parser.parse_args()
    dtype, model = arguments.dtype, MODELS[arguments.model]
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    if arguments.mode == "decode":
        print_bounds(arguments, bounds_of(arguments, arguments.peak))
        return
    if dtype == "int8" or model.decoder_only:
        parser.error(f"{arguments.model} and {dtype} are for decode")
    rates = rates_of_step(arguments.peak, arguments.threads)
    result: dict[str, Any] = {"bench": f"bounds of {arguments.mode}", "dtype": dtype, "threads": arguments.threads}
    if arguments.mode == "step":
        transformer = dragoman_model(model, dtype, DROPOUT)
        step, (batch,) = dragoman_step(transformer), make_batches(model, "rectangle", 1)
        step_ms = 1e3 * min(times_of(lambda: step(batch), 10 * arguments.seconds))
        ops = list(ops_of_step(model, dtype, transformer.num_parameters()))
        result["work"] = f"train {arguments.model} {model.batch}x{model.length}"
    else:
        ops = list(single_ops(dtype, arguments.only))
    print(f"{'ms':56}     peak     tile    parts measured")
    rows = {}
    for op in ops:
        rows[op.title] = times = op.times(dtype, rates, arguments.seconds)
        print(f"{op.title:56} {' '.join(f'{ms:8.2f}' for ms in times.values())}", flush=True)
    if arguments.mode == "step":
        total = {name: sum(times[name] for times in rows.values()) for name in ("peak", "tile", "parts", "measured")}
        print(f"{'sum':56} {' '.join(f'{ms:8.1f}' for ms in total.values())}")
        print(
            f"{f'share of the step, {step_ms:.1f} ms':56} {' '.join(f'{ms / step_ms:8.1%}' for ms in total.values())}"
        )
        result |= {"step_ms": round(step_ms, 1), **{f"{name}_ms": round(ms, 1) for name, ms in total.items()}}
    else:
        result["ops"] = {title: {name: round(ms, 3) for name, ms in times.items()} for title, times in rows.items()}
    print(json.dumps({**result, "rates": rates, **machine()}))


if __name__ == "__main__":
    main()
