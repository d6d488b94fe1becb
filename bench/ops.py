"""Single ops beside PyTorch: matrix products, attention and the losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import attention
import loss
import products
from turns import Figures
from works import Model


def each_op(model: Model, dtype: str) -> Iterator[tuple[str, int, Callable[[], dict[str, Figures]]]]:
    """An op's name, how many tokens it is for, and what measures it."""
    for case in products.cases(model, dtype):
        title = f"linear {case.op} ({case.rows}, {case.inputs}) -> {case.outputs}"
        yield title, case.rows, partial(products.measure, case)
    for case in attention.cases(dtype):
        title = "attention" + ", causal" * case.causal + ", ragged" * case.ragged
        title += f" {_shape(case.batch, case.heads, case.length, case.head_dim)}"
        yield title, sum(case.lengths()), partial(attention.measure, case)
    for case in loss.cases(dtype):
        sizes = (case.rows, case.features, case.vocabulary)
        title = f"{case.op} {_shape(*filter(None, sizes))}"
        yield title, case.rows, partial(loss.measure, case)


def _shape(*sizes: int) -> str:
    return " x ".join(map(str, sizes))
