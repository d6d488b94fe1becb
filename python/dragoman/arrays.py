"""NumPy arrays that become Tensors: dtypes and their conversion."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from dragoman import _core, arguments

DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "int32": np.dtype(np.int32),
    "int64": np.dtype(np.int64),
    "bool": np.dtype(np.bool_),
    "int8": np.dtype(np.int8),
    "uint8": np.dtype(np.uint8),
}

NAMES = {dtype: name for name, dtype in DTYPES.items()}


def as_array(op: str, name: str, values: Any) -> npt.NDArray[Any]:
    """`values` as a NumPy array. ValueError, naming `op`, for rows of different lengths."""
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{op}: {name} must be a rectangular array ({error})") from None


def convert(op: str, values: npt.NDArray[Any], dtype: str) -> npt.NDArray[Any]:
    """`values` in `dtype` and in C order, without a copy where they already are.

    An integer dtype cuts fractions off. ValueError for NaN and for values out of its range.
    """
    target = DTYPES[dtype]
    if target.kind in "iu" and values.size and not np.can_cast(values.dtype, target):
        limits, exact = np.iinfo(target), values.astype(np.float64) if values.dtype.kind not in "iu" else values
        minimum, maximum = exact.min(), exact.max()
        # In float64 the limits of int64 round up: 2^63 itself must be refused.
        fits = maximum < float(limits.max) if limits.max >= 2**53 else maximum <= limits.max
        if not (minimum >= limits.min and fits):
            raise ValueError(f"{op}: array must fit in {dtype}, got values in [{minimum}, {maximum}]")
    return np.require(values, target, ["C", "A"]).reshape(values.shape)


def core_tensor(op: str, values: npt.NDArray[Any], dtype: str, device: str) -> _core.Tensor:
    """`values` as the core's tensor, with `convert`; on the CPU over the same memory where nothing is converted."""
    raw = convert(op, values, dtype)
    data = _core.Tensor.from_numpy(raw.view(np.uint16) if dtype == "bfloat16" else raw, dtype)
    return data if device == "cpu" else _core.to(data, device)


def check_device(op: str, device: Any) -> None:
    """TypeError, ValueError unless `device` names one that tensors can lie on."""
    arguments.check_types(op, str, device=device)
    _core.check_device(op, device)
