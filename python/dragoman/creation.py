"""Tensors over NumPy arrays and over the memory of other libraries."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman import _core
from dragoman.arguments import flag, shown
from dragoman.arrays import DTYPES, NAMES, as_array, check_device, core_tensor
from dragoman.tensor import Tensor


def tensor(
    array: npt.ArrayLike | Tensor,
    device: str = "cpu",
    dtype: str | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """A Tensor over `array`, without a copy where the array is C-contiguous, aligned and of the dtype.

    Args:
        array: anything NumPy takes; Python floats and float64 become float32.
        device: "cpu"; on another device the values are copied. "cuda" where `dragoman.cuda.is_available()`.
        dtype: float32, bfloat16, int32, int64, bool, int8 or uint8; the array's own by default.
        requires_grad: only for float32.

    Raises:
        TypeError: an object array, or a dtype that no Tensor can hold.
        ValueError: an unknown dtype or device, rows of different lengths, or values that an integer dtype cannot hold.
    """
    check_device("tensor", device)
    values = array.numpy() if isinstance(array, Tensor) else as_array("tensor", "array", array)
    if dtype is None:
        dtype = "float32" if values.dtype == np.float64 else NAMES.get(values.dtype.newbyteorder("="))
        if dtype is None:
            raise TypeError(f"tensor: array must have a dtype among {', '.join(DTYPES)}, got {values.dtype}")
    elif not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"tensor: dtype must be one of {', '.join(DTYPES)}, got {shown(dtype)}")
    elif values.dtype.kind not in "biuf" and values.dtype != DTYPES["bfloat16"]:
        raise TypeError(f"tensor: array must hold numbers, got dtype {values.dtype}")
    requires_grad = flag("tensor", "requires_grad", requires_grad)
    return Tensor(core_tensor("tensor", values, dtype, device), requires_grad)


def from_dlpack(x: Any) -> Tensor:
    """A Tensor over the memory of `x`, an array of any library that speaks DLPack, without a copy.

    Args:
        x: C-contiguous, on the CPU or on CUDA, of a dtype that a Tensor can hold. The memory is kept alive; where `x`
            says that it is read-only, so is the Tensor.

    Raises:
        TypeError: no DLPack, or a dtype that no Tensor can hold.
        ValueError: memory that is not contiguous, on another device, or that `x` cannot export.
    """
    if not hasattr(x, "__dlpack__") or not hasattr(x, "__dlpack_device__"):
        raise TypeError(f"from_dlpack: x must have __dlpack__ and __dlpack_device__, got {type(x).__name__}")
    kind, index = x.__dlpack_device__()
    stream = _core.dlpack_stream(int(kind), int(index))  # it will wait for the values of x
    options = {"stream": stream} if stream else {}
    try:
        try:
            capsule = x.__dlpack__(max_version=(1, 0), **options)
        except TypeError:  # a library from before DLPack 1.0
            capsule = x.__dlpack__(**options)
    except BufferError as error:
        raise ValueError(f"from_dlpack: x must be memory that DLPack can describe ({error})") from None
    return Tensor(_core.from_dlpack(capsule))
