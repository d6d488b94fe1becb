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
        yield case.title(), case.rows, partial(products.measure, case)
    for case in attention.cases(dtype):
        yield case.title(), sum(case.lengths()), partial(attention.measure, case)
    for case in loss.cases(dtype):
        yield case.title(), case.rows, partial(loss.measure, case)
