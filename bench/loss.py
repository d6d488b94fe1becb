"""Cross entropy beside PyTorch, of ready logits and of a projection that is part of it: forward and backward.

Labels are smoothed by 0.1. dragoman also reports the peak of memory beyond inputs and gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from inputs import dragoman_tensor, torch_tensor
from turns import Figures, take_turns

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

    def title(self) -> str:
        sizes = (self.rows, self.features, self.vocabulary)
        return f"{self.op} {' x '.join(str(size) for size in sizes if size)}"


def cases(dtype: str) -> list[Case]:
    return [
        Case("cross_entropy", dtype, 2048, 0, 32000),
        Case("linear_cross_entropy", dtype, 2048, 512, 32000),
        Case("linear_cross_entropy", dtype, 2048, 128, 10000),
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

    tensors = [dragoman_tensor(array, case.dtype) for array in arrays]
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

    tensors = [torch_tensor(array, case.dtype).requires_grad_() for array in arrays]
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
    """The peak of dragoman's memory in a step, without the gradients that stay."""
    import dragoman as dg

    gradients = step()
    dg.reset_peak_memory_stats()
    before = dg.memory_stats()["allocated"] - sum(gradient.nbytes for gradient in gradients)
    del gradients
    kept = sum(gradient.nbytes for gradient in step())
    return (dg.memory_stats()["peak_allocated"] - before - kept) / 2**20


def measure(case: Case) -> dict[str, Figures]:
    """Checks that the gradients agree, then times both systems."""
    arrays, ids = make_inputs(case)
    steps = {"dragoman": dragoman_step(case, arrays, ids), "torch": torch_step(case, arrays, ids)}
    check(case, *steps.values())
    figures = take_turns(steps)
    figures["dragoman"]["extra_mib"] = extra_mib(steps["dragoman"])
    return figures
