"""Attention beside PyTorch's scaled_dot_product_attention: forward and backward, as one training step uses them.

    python bench/attention.py [--threads N] [--only TEXT] [--json FILE]

The two systems take turns on several sets of inputs, after their results were compared. PyTorch gets contiguous
(batch, heads, length, head_dim) and, for ragged batches, the rectangle with a mask. One line of JSON a case.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine

TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2}  # of the largest element
SETS = 4  # of inputs


@dataclass(frozen=True)
class Case:
    """`batch` sequences; ragged: of 5 to `length` tokens, else all of `length`."""

    dtype: str
    batch: int
    heads: int
    length: int
    head_dim: int
    causal: bool
    ragged: bool = False

    def lengths(self) -> list[int]:
        if not self.ragged:
            return [self.length] * self.batch
        return [int(n) for n in np.random.default_rng(0).integers(5, self.length + 1, self.batch)]


SHAPES = [(8, 8, 128, 64), (4, 8, 512, 64), (1, 8, 2048, 64), (1, 8, 8192, 64)]


def cases() -> list[Case]:
    kinds = list(product(("float32", "bfloat16"), (False, True)))
    equal = [Case(dtype, *shape, causal) for shape in SHAPES for dtype, causal in kinds]
    return equal + [Case(dtype, 128, 8, 40, d, causal, ragged=True) for d in (64, 32) for dtype, causal in kinds]


Step = Callable[[], list[Any]]  # forward and backward: out, dq, dk, dv


def dragoman_step(case: Case, arrays: list[np.ndarray]) -> Step:
    import dragoman as dg
    from dragoman import _core

    q, k, v, dout = (dg.tensor(array, dtype=case.dtype).data for array in arrays)
    sequences = dg.Sequences(case.lengths())
    options = (sequences, sequences, case.causal, None, None, dg.random.next_dropout(0.0))

    def step() -> list[Any]:
        out, logsumexp, _ = _core.attention_forward(q, k, v, *options, False)
        return [out, *_core.attention_backward(dout, q, k, v, out, logsumexp, *options)]

    return step


def torch_step(case: Case, arrays: list[np.ndarray]) -> Step:
    import torch
    from torch.nn import functional

    dtype = getattr(torch, case.dtype)
    *qkv, dout = (torch.from_numpy(_padded(case, array)).to(dtype) for array in arrays)
    for tensor in qkv:
        tensor.requires_grad_()
    mask = None
    if case.ragged:
        inside = torch.arange(case.length) < torch.tensor(case.lengths())[:, None]
        mask = inside[:, None, None, :]
        if case.causal:
            mask = mask & torch.ones(case.length, case.length, dtype=torch.bool).tril()

    def step() -> list[Any]:
        for tensor in qkv:
            tensor.grad = None
        out = functional.scaled_dot_product_attention(*qkv, attn_mask=mask, is_causal=case.causal and not case.ragged)
        out.backward(dout)
        return [out, *(tensor.grad for tensor in qkv)]

    return step


def _padded(case: Case, array: np.ndarray) -> np.ndarray:
    """(batch, heads, length, head_dim) of (tokens, heads, head_dim), padded with zeros."""
    lengths = case.lengths()
    padded = np.zeros((case.batch, case.heads, case.length, case.head_dim), np.float32)
    for i, rows in enumerate(np.split(array, np.cumsum(lengths)[:-1])):
        padded[i, :, : lengths[i]] = rows.swapaxes(0, 1)
    return padded


def check(case: Case, ours: Step, theirs: Step) -> None:
    import dragoman as dg

    for got, expected in zip(ours(), theirs(), strict=True):
        rectangle = expected.detach().float().numpy().swapaxes(1, 2)
        truth = np.concatenate([rows[:n] for rows, n in zip(rectangle, case.lengths(), strict=True)])
        error = np.abs(dg.Tensor(got).numpy().astype(np.float32) - truth).max() / np.abs(truth).max()
        assert error <= TOLERANCE[case.dtype], f"{case}: results differ by {error} of the largest"


def measure(case: Case, repeats: int) -> dict[str, float]:
    """Median times of both systems in milliseconds, and their ratio."""
    rng = np.random.default_rng(0)
    shape = (sum(case.lengths()), case.heads, case.head_dim)
    inputs = [[rng.standard_normal(shape, np.float32) for _ in range(4)] for _ in range(SETS)]
    steps = {name: [make(case, arrays) for arrays in inputs] for name, make in MAKERS.items()}
    check(case, *(sets[0] for sets in steps.values()))
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(repeats):
        for name, sets in steps.items():
            start = time.perf_counter()
            sets[(repeat + 1) % SETS]()
            seconds[name].append(time.perf_counter() - start)
    ours, theirs = (1e3 * statistics.median(times) for times in seconds.values())
    return {"ms": round(ours, 3), "torch_ms": round(theirs, 3), "ratio": round(theirs / ours, 2)}


MAKERS = {"dragoman": dragoman_step, "torch": torch_step}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", default="", help="of the cases, those whose line holds this")
    parser.add_argument("--json", type=Path, metavar="FILE", help="lines are added here")
    arguments = parser.parse_args()
    import dragoman as dg
    import torch

    dg.set_num_threads(arguments.threads)
    torch.set_num_threads(arguments.threads)
    for case in cases():
        if arguments.only not in f"{case.dtype} {case.batch}x{case.heads}x{case.length}x{case.head_dim}":
            continue
        scores = sum(n * n for n in case.lengths()) * case.heads
        figures = measure(case, repeats=max(3, min(40, 10**8 // scores)))
        line = {"bench": "attention", **asdict(case), "threads": arguments.threads, **figures}
        print(json.dumps(line), flush=True)
        if arguments.json:
            with arguments.json.open("a") as file:
                file.write(json.dumps(line | machine()) + "\n")


if __name__ == "__main__":
    main()
