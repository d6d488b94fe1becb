"""Attention beside PyTorch's scaled_dot_product_attention: forward and backward, as one training step uses them.

Every call takes the next of several sets of inputs. PyTorch gets contiguous (batch, heads, length, head_dim) and, for
ragged batches, the rectangle with a mask.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
from inputs import dragoman_tensor, torch_tensor
from turns import Figures, take_turns

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
    ragged: bool

    def lengths(self) -> list[int]:
        if not self.ragged:
            return [self.length] * self.batch
        return [int(n) for n in np.random.default_rng(0).integers(5, self.length + 1, self.batch)]

    def title(self) -> str:
        title = "attention" + ", causal" * self.causal + ", ragged" * self.ragged
        return f"{title} {self.batch} x {self.heads} x {self.length} x {self.head_dim}"

    def pairs(self) -> float:
        """FLOP of one query and one of its keys, over all heads."""
        return self.heads * sum(n * ((n + 1) / 2 if self.causal else n) for n in self.lengths())

    def flop(self) -> float:
        """FLOP of two products in forward and five in backward."""
        return 7 * 2 * self.pairs() * self.head_dim


SHAPES = [(8, 8, 128, 64), (4, 8, 512, 64), (1, 8, 2048, 64), (1, 8, 8192, 64)]
RAGGED_SHAPES = [(128, 8, 40, 64), (128, 8, 40, 32)]


def cases(dtype: str) -> list[Case]:
    return [
        Case(dtype, *shape, causal, ragged)
        for shapes, ragged in ((SHAPES, False), (RAGGED_SHAPES, True))
        for shape in shapes
        for causal in (False, True)
    ]


Step = Callable[[], list[Any]]  # forward and backward: out, dq, dk, dv


def dragoman_step(case: Case, arrays: list[np.ndarray]) -> Step:
    import dragoman as dg
    from dragoman import _core

    q, k, v, dout = (dragoman_tensor(array, case.dtype).data for array in arrays)
    sequences = dg.Sequences(case.lengths())
    options = (sequences, sequences, _core.AttentionOptions(causal=case.causal))

    def step() -> list[Any]:
        out, logsumexp, _ = _core.attention_forward(q, k, v, *options)
        return [out, *_core.attention_backward(dout, q, k, v, out, logsumexp, *options)]

    return step


def torch_step(case: Case, arrays: list[np.ndarray]) -> Step:
    import torch
    from torch.nn import functional

    *qkv, dout = (torch_tensor(_padded(case, array), case.dtype) for array in arrays)
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
    """(tokens, heads, head_dim) to (batch, heads, length, head_dim), padded with zeros."""
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


def rotated(case: Case, make: Callable[[Case, list[np.ndarray]], Step]) -> Step:
    """A step that takes the next of SETS inputs at every call. Both systems have the same inputs."""
    rng = np.random.default_rng(0)
    shape = (sum(case.lengths()), case.heads, case.head_dim)
    rotation = cycle([make(case, [rng.standard_normal(shape, np.float32) for _ in range(4)]) for _ in range(SETS)])
    return lambda: next(rotation)()


def measure(case: Case) -> dict[str, Figures]:
    """Checks that the results agree, then times both systems."""
    makers = {"dragoman": dragoman_step, "torch": torch_step}
    steps = {system: rotated(case, make) for system, make in makers.items()}
    check(case, *steps.values())
    return take_turns(steps)
