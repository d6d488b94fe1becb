"""What attention and the losses of `compare.py ops`, forward and backward, must cost on this machine, part by part.

    python bench/limits.py [--dtype float32] [--threads 2] [--only TEXT]

Each part is what the op's algorithm cannot do without, at the rate that the machine reaches with that alone
(build/dev/bench/native/bench_peak, see CONTRIBUTING.md). `products`: by the register tile of matrix products, which
loads its operands from the nearest caches. `copies`: of operands, into the order in which the tile reads them.
`softmax`: of rows in the nearest cache. `memory`: read and written, where it does not stay in the caches. The sum is
the time without any overlap and without any loss. The last line is a JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import attention
import loss
from inputs import ITEM_SIZE
from machine import machine
from peak import add_peak, faster, peak_of_machine

Case = attention.Case | loss.Case
CHUNK_ROWS = 512  # whose logits linear_cross_entropy holds at a time


@dataclass
class Work:
    case: Case
    flop: float  # of products
    copied: float  # bytes
    elements: float  # of softmax
    moved: float  # bytes from and to memory

    def parts(self, dtype: str, peak: dict[str, Any]) -> dict[str, float]:
        """The milliseconds of each part."""
        return {
            "products": 1e-6 * self.flop / peak[f"{dtype}_tile"],
            "copies": 1e-6 * self.copied / peak[f"{dtype}_pack"],
            "softmax": 1e-6 * self.elements / peak["softmax"],
            "memory": 1e-6 * self.moved / peak["memory"],
        }


def works(dtype: str) -> Iterator[Work]:
    size = ITEM_SIZE[dtype]
    for case in attention.cases(dtype):
        if not case.ragged:
            yield of_attention(case, size)
    for loss_case in loss.cases(dtype):
        yield of_linear_loss(loss_case, size) if loss_case.features else of_loss(loss_case, size)


def of_attention(case: attention.Case, size: int) -> Work:
    rows = case.batch * case.heads * case.length * case.head_dim * size  # bytes of q, k, v or out
    return Work(
        case,
        flop=case.flop(),
        copied=12 * rows,  # q, k, v; q, k, v, dout, once more k, and dq, dk, dv, out
        elements=2 * case.pairs(),  # in either direction
        moved=11 * rows,  # q, k, v, out; q, k, v, dout, dq, dk, dv
    )


def of_loss(case: loss.Case, size: int) -> Work:
    logits = case.rows * case.vocabulary
    return Work(case, flop=0.0, copied=0.0, elements=logits, moved=2 * logits * size)


def of_linear_loss(case: loss.Case, size: int) -> Work:
    logits, weight = case.rows * case.vocabulary, case.features * case.vocabulary
    chunks = math.ceil(case.rows / CHUNK_ROWS)
    return Work(
        case,
        flop=3 * 2 * logits * case.features,
        copied=size * (chunks * 2 * weight + logits),  # the weight for logits and dx, dlogits for dweight
        elements=logits,
        # The weight twice a chunk; logits written, made dlogits, read twice; dweight written, then added to.
        moved=size * (chunks * 2 * weight + 5 * logits) + 4 * (2 * chunks - 1) * weight,
    )


def measure(case: Case, seconds: float) -> float:
    """The median milliseconds of calls that together take `seconds`, after as many that do not count."""
    from dragoman.cli.bench import times_of

    if isinstance(case, attention.Case):
        step = attention.rotated(case, attention.dragoman_step)
    else:
        step = loss.dragoman_step(case, *loss.make_inputs(case))
    times_of(step, seconds)
    return 1e3 * statistics.median(times_of(step, seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", choices=ITEM_SIZE, default="float32")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", default="", metavar="TEXT", help="the ops whose name holds this")
    parser.add_argument("--seconds", type=float, default=1, help="of calls of each op")
    add_peak(parser)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    peak = peak_of_machine(arguments.peak)
    chosen = [work for work in works(arguments.dtype) if arguments.only in work.case.title()]
    measured = [measure(work.case, arguments.seconds) for work in chosen]
    peak = faster(peak, peak_of_machine(arguments.peak))
    print(f"{'ms':44} products copies softmax memory      sum measured")
    ops = []
    for work, ms_measured in zip(chosen, measured, strict=True):
        title, parts = work.case.title(), work.parts(arguments.dtype, peak)
        figures = {**parts, "sum": sum(parts.values()), "measured": ms_measured}
        widths = zip(figures.values(), (8, 6, 7, 6, 8, 8), strict=True)
        print(f"{title:44} {' '.join(f'{ms:{width}.2f}' for ms, width in widths)}")
        ops.append({"work": title, **{f"{name}_ms": round(ms, 3) for name, ms in figures.items()}})
    print(json.dumps({"dtype": arguments.dtype, "threads": arguments.threads, "peak": peak, **machine(), "ops": ops}))


if __name__ == "__main__":
    main()
