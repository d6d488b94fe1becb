"""Arguments of ops that are not float tensors: ids, dropout masks, names of dtypes and activations."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dragoman import _core, arguments, random
from dragoman.arrays import as_array
from dragoman.tensor import Tensor

Ids = npt.ArrayLike | Tensor

ACTIVATION_DTYPES = ("float32", "bfloat16")
ACTIVATIONS = ("none", "relu", "gelu", "gelu_tanh", "silu", "tanh", "sigmoid")


def data_of(tensor: Tensor | None) -> _core.Tensor | None:
    return None if tensor is None else tensor.data


def int32_ids(op: str, name: str, ids: Ids) -> _core.Tensor:
    """Token ids as an int32 core tensor."""
    if isinstance(ids, Tensor) and ids.dtype == "int32":
        return ids.data
    values = as_array(op, name, ids)
    if values.size == 0:
        values = values.astype(np.int32)
    if values.dtype.kind not in "iu":
        raise TypeError(f"{op}: {name} must be integers, got dtype {values.dtype}")
    if values.size and (values.max() > np.iinfo(np.int32).max or values.min() < np.iinfo(np.int32).min):
        raise ValueError(f"{op}: {name} must fit in int32, got [{values.min()}, {values.max()}]")
    shape = values.shape
    return _core.Tensor.from_numpy(np.require(values, np.int32, ["C", "A"]).reshape(shape), "int32")


def dropout_mask(op: str, rate: float, device: str, name: str = "dropout") -> _core.Dropout:
    return random.next_dropout(arguments.number(op, name, rate, 0.0, 1.0), device)
