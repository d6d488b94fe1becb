"""Single ops beside PyTorch: matrix products, attention and the losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attention
import loss
import products
from works import Model

Figures = dict[str, float]  # milliseconds by system


def each_op(model: Model, dtype: str) -> Iterator[tuple[str, int, Callable[[], Figures]]]:
    """An op's name, how many tokens it is for, and what measures it."""
    for case in products.cases(model, dtype):
        title = f"linear {case.op} ({case.rows}, {case.inputs}) -> {case.outputs}"
        yield title, case.rows, lambda case=case: products.measure(case, seconds=0.5)
    for case in attention.cases():
        if case.dtype == dtype and not case.ragged:
            shape = _shape(case.batch, case.heads, case.length, case.head_dim)
            title = f"attention{', causal' if case.causal else ''} {shape}"
            yield title, case.batch * case.length, lambda case=case: _attention(case)
    for case in loss.CASES:
        if case.dtype == dtype:
            sizes = (case.rows, case.features, case.vocabulary)
            title = f"{case.op} {_shape(*filter(None, sizes))}"
            yield title, case.rows, lambda case=case: _loss(case)


def _attention(case: attention.Case) -> Figures:
    figures = attention.measure(case, repeats=5)
    return {"dragoman": figures["ms"], "torch": figures["torch_ms"]}


def _loss(case: loss.Case) -> Figures:
    return {system: figures["ms"] for system, figures in loss.measure(case, repeats=5).items()}


def _shape(*sizes: int) -> str:
    return " x ".join(map(str, sizes))
