"""Single ops beside PyTorch: matrix products and the losses."""

from __future__ import annotations

from collections.abc import Iterator

import loss
import products
from works import Model

Figures = dict[str, float]  # milliseconds by system


def each_op(model: Model, dtype: str) -> Iterator[tuple[str, int, Figures]]:
    """An op's name, how many tokens it is for, and its times."""
    for product in products.cases(model, dtype):
        shape = f"({product.rows}, {product.inputs}) -> {product.outputs}"
        yield f"linear {product.op} {shape}", product.rows, products.measure(product, seconds=0.5)
    for case in loss.CASES:
        if case.dtype == dtype:
            sizes = (case.rows, case.features, case.vocabulary) if case.features else (case.rows, case.vocabulary)
            shape = " x ".join(map(str, sizes))
            by_system = loss.measure(case, repeats=3)
            yield f"{case.op} {shape}", case.rows, {system: of["ms"] for system, of in by_system.items()}
