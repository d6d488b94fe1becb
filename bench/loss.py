"""Cross entropy beside PyTorch: of ready logits, and of a projection that is part of it.

    python bench/loss.py [--threads N] [--json FILE]

Forward and backward, label smoothing 0.1. The two systems take turns, after their results were compared. One line of
JSON a case and system: the median time and, for dragoman, the most memory beyond inputs and gradients.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine

SMOOTHING = 0.1
TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2}  # of the largest gradient


@dataclass(frozen=True)
class Case:
    """`op` over `rows` targets; features is 0 for ready logits."""

    op: str
    dtype: str
    rows: int
    features: int
    vocabulary: int


CASES = [
    Case(op, dtype, rows, features, vocabulary)
    for op, rows, features, vocabulary in [
        ("cross_entropy", 2048, 0, 32000),
        ("linear_cross_entropy", 2048, 512, 32000),
        ("linear_cross_entropy", 2048, 128, 10000),
    ]
    for dtype in ("float32", "bfloat16")
]

Step = Callable[[], list[Any]]  # forward and backward; the gradients


def make_inputs(case: Case) -> tuple[list[np.ndarray], np.ndarray]:
    """The float32 tensors that get a gradient, and the ids."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, case.vocabulary, case.rows).astype(np.int32)
    if not case.features:
        return [rng.standard_normal((case.rows, case.vocabulary), np.float32)], ids
    weight = rng.standard_normal((case.vocabulary, case.features), np.float32) / np.float32(case.features**0.5)
    return [rng.standard_normal((case.rows, case.features), np.float32), weight], ids


def dragoman_step(case: Case, arrays: list[np.ndarray], ids: np.ndarray) -> Step:
    import dragoman as dg

    tensors = [dg.tensor(array, dtype=case.dtype) for array in arrays]
    for tensor in tensors:
        tensor.requires_grad = True
    op = getattr(dg.functional, case.op)

    def step() -> list[Any]:
        for tensor in tensors:
            tensor.grad = None
        op(*tensors, ids, label_smoothing=SMOOTHING).backward()
        return [tensor.grad.numpy() for tensor in tensors if tensor.grad is not None]

    return step


def torch_step(case: Case, arrays: list[np.ndarray], ids: np.ndarray) -> Step:
    import torch
    from torch.nn import functional

    dtype = getattr(torch, case.dtype)
    tensors = [torch.from_numpy(array).to(dtype).requires_grad_() for array in arrays]
    targets = torch.from_numpy(ids).long()

    def step() -> list[Any]:
        for tensor in tensors:
            tensor.grad = None
        logits = functional.linear(*tensors) if case.features else tensors[0]
        functional.cross_entropy(logits, targets, label_smoothing=SMOOTHING).backward()
        return [tensor.grad for tensor in tensors]

    return step


def check(case: Case, ours: Step, theirs: Step) -> None:
    for got, expected in zip(ours(), theirs(), strict=True):
        truth = expected.float().numpy()
        error = np.abs(got.astype(np.float32) - truth).max() / np.abs(truth).max()
        assert error <= TOLERANCE[case.dtype], f"{case}: gradients differ by {error} of the largest"


def extra_mib(step: Step) -> float:
    """The most memory that a step takes from dragoman's allocator beyond the gradients it leaves."""
    import dragoman as dg

    gradients = step()
    dg.reset_peak_memory_stats()
    before = dg.memory_stats()["allocated"] - sum(gradient.nbytes for gradient in gradients)
    del gradients
    kept = sum(gradient.nbytes for gradient in step())
    return (dg.memory_stats()["peak_allocated"] - before - kept) / 2**20


def measure(case: Case, repeats: int) -> dict[str, dict[str, float]]:
    """Figures of either system."""
    arrays, ids = make_inputs(case)
    steps = {"dragoman": dragoman_step(case, arrays, ids), "torch": torch_step(case, arrays, ids)}
    check(case, *steps.values())
    seconds: dict[str, list[float]] = {system: [] for system in steps}
    for _ in range(repeats):
        for system, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[system].append(time.perf_counter() - start)
    figures = {system: {"ms": round(1e3 * statistics.median(times), 2)} for system, times in seconds.items()}
    figures["dragoman"]["extra_mib"] = round(extra_mib(steps["dragoman"]), 1)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="of the cases, those whose line holds this")
    parser.add_argument("--json", type=Path, metavar="FILE", help="lines are added here")
    arguments = parser.parse_args()
    import dragoman as dg
    import torch

    dg.set_num_threads(arguments.threads)
    torch.set_num_threads(arguments.threads)
    for case in CASES:
        if arguments.only not in f"{case.op} {case.dtype} {case.vocabulary}":
            continue
        for system, figures in measure(case, arguments.repeats).items():
            line = {"bench": "loss", **asdict(case), "system": system, "threads": arguments.threads, **figures}
            print(json.dumps(line), flush=True)
            if arguments.json:
                with arguments.json.open("a") as file:
                    file.write(json.dumps(line | machine()) + "\n")


if __name__ == "__main__":
    main()
