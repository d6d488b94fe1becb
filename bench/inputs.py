"""Inputs of both systems, in memory of their own: aligned, as within a training step, which NumPy's arrays are not."""

from __future__ import annotations

from typing import Any

import numpy as np

ITEM_SIZE = {"float32": 4, "bfloat16": 2}


def dragoman_tensor(array: np.ndarray, dtype: str) -> Any:
    import dragoman as dg
    from dragoman import _core

    tensor = dg.Tensor(_core.Tensor.empty(array.shape, dtype))
    tensor.copy_(array)
    return tensor


def torch_tensor(array: np.ndarray, dtype: str) -> Any:
    import torch

    return torch.tensor(array, dtype=getattr(torch, dtype))
