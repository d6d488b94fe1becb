"""The matrix products of a model's linear layers beside PyTorch: y = x W^T, dX = dY W and dW = dY^T x."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from inputs import dragoman_tensor, torch_tensor
from turns import Figures, take_turns
from works import Model

TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2}  # of the largest element
OPS = ("forward", "dx", "dweight")


@dataclass(frozen=True)
class Case:
    op: str
    dtype: str
    rows: int
    inputs: int
    outputs: int

    def title(self) -> str:
        return f"linear {self.op} ({self.rows}, {self.inputs}) -> {self.outputs}"


def cases(model: Model, dtype: str) -> list[Case]:
    d_model, rows = model.d_model, model.batch * model.length
    shapes = ((d_model, d_model), (d_model, model.d_ff), (model.d_ff, d_model), (d_model, model.vocab_size))
    return [Case(op, dtype, rows, *shape) for shape in shapes for op in OPS]


def make_inputs(case: Case) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"x": (case.rows, case.inputs), "weight": (case.outputs, case.inputs), "dy": (case.rows, case.outputs)}
    return {name: rng.uniform(-1, 1, shape).astype(np.float32) for name, shape in shapes.items()}


def measure(case: Case) -> dict[str, Figures]:
    """Checks that the results agree, then times both systems."""
    arrays = make_inputs(case)
    functions = {"dragoman": dragoman_step(case, **arrays), "torch": torch_step(case, **arrays)}
    got, expected = (_numpy(function()) for function in functions.values())
    error = np.abs(got - expected).max() / np.abs(expected).max()
    assert error <= TOLERANCE[case.dtype], f"{case}: results differ by {error} of the largest"
    return take_turns(functions)


def dragoman_step(case: Case, x: np.ndarray, weight: np.ndarray, dy: np.ndarray) -> Callable[[], Any]:
    """One call of the product, or for the op "step" of all three."""
    from dragoman import _core

    x, weight, dy = (dragoman_tensor(array, case.dtype).data for array in (x, weight, dy))
    dweight = _core.Tensor.zeros(weight.shape)  # always float32
    none = _core.Dropout()

    def forward() -> Any:
        return _core.linear_forward(x, weight, None, "none", none, None)[0]

    def backward(need_dx: bool, need_dweight: bool) -> Any:
        dweight_or_none = dweight if need_dweight else None
        dx = _core.linear_backward(
            dy, x, weight, None, "none", none, need_dx, dweight_or_none, False, None, False, None
        )
        return dx if need_dx else dweight

    def step() -> None:
        forward()
        backward(True, True)

    return {
        "forward": forward,
        "dx": lambda: backward(True, False),
        "dweight": lambda: backward(False, True),
        "step": step,
    }[case.op]


def torch_step(case: Case, x: np.ndarray, weight: np.ndarray, dy: np.ndarray) -> Callable[[], Any]:
    import torch

    x, weight, dy = (torch_tensor(array, case.dtype) for array in (x, weight, dy))
    if case.op == "forward":
        return lambda: torch.nn.functional.linear(x, weight)
    return lambda: dy @ weight if case.op == "dx" else dy.T @ x


def _numpy(result: Any) -> np.ndarray:
    import dragoman as dg
    from dragoman import _core

    if isinstance(result, _core.Tensor):
        return dg.Tensor(result).numpy().astype(np.float32)
    return result.float().numpy()
