"""The Tensor a user holds: a core array, whether it wants a gradient, and the op that made it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, SupportsFloat

import ml_dtypes
import numpy as np
import numpy.typing as npt

from dragoman import _core

if TYPE_CHECKING:
    from dragoman.autograd import Function

DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "int32": np.dtype(np.int32),
    "int64": np.dtype(np.int64),
    "bool": np.dtype(np.bool_),
    "int8": np.dtype(np.int8),
    "uint8": np.dtype(np.uint8),
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Tensor:
    """A contiguous array with an optional gradient.

    Attributes:
        data: the core's array; shared, not copied, by `detach` and `reshape`.
        requires_grad: whether `backward` computes a gradient for this tensor.
        grad: the gradient of a leaf after `backward`, of this tensor's shape, or None.
        function: the op that made this tensor, or None for a leaf.
    """

    __slots__ = ("__weakref__", "data", "function", "grad", "grad_owned", "requires_grad")

    def __init__(self, data: _core.Tensor, requires_grad: bool = False) -> None:
        if requires_grad and data.dtype != "float32":
            raise TypeError(f"Tensor: only float32 tensors can require a gradient, got {data.dtype}")
        self.data = data
        self.requires_grad = requires_grad
        self.grad: Tensor | None = None
        self.grad_owned = False  # whether `grad` is memory of its own that may be added to in place
        self.function: Function | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> str:
        return self.data.dtype

    @property
    def device(self) -> str:
        return self.data.device

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.data.numel

    def numpy(self) -> npt.NDArray[Any]:
        """A read-only view of the values (no copy). ValueError while a Program is being recorded."""
        array = self.data.numpy()
        return array.view(ml_dtypes.bfloat16) if self.dtype == "bfloat16" else array

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        array = self.numpy()
        if dtype is not None and np.dtype(dtype) != array.dtype:
            if copy is False:
                raise ValueError(f"Tensor: {array.dtype} to {np.dtype(dtype)} needs a copy, got copy=False")
            return array.astype(dtype)
        return array.copy() if copy else array

    def item(self) -> float:
        """The value of a one-element tensor; ValueError otherwise."""
        if self.size != 1:
            raise ValueError(f"item: the tensor must have one element, got shape {self.shape}")
        return float(self.numpy().item())

    def copy_(self, array: npt.ArrayLike) -> None:
        """Copies `array` of the same shape into this tensor's memory, converting the dtype. ValueError otherwise."""
        values = np.ascontiguousarray(array, dtype=DTYPES[self.dtype])
        self.data.copy_(values.view(np.uint16) if self.dtype == "bfloat16" else values)

    def detach(self) -> Tensor:
        """The same values, off the tape."""
        return Tensor(self.data)

    def reshape(self, *shape: int) -> Tensor:
        """The same values in another shape; one size may be -1."""
        from dragoman import functional

        return functional.reshape(self, shape)

    def backward(self) -> None:
        """Gradients of this scalar for every leaf that requires one, added to what the leaf holds.

        Raises:
            ValueError: the tensor is not a scalar.
            RuntimeError: it requires no gradient, or its graph was freed by an earlier backward.
        """
        from dragoman import autograd

        autograd.backward(self)

    def __add__(self, other: Tensor) -> Tensor:
        from dragoman import functional

        return functional.add(self, other)

    def __mul__(self, factor: SupportsFloat) -> Tensor:
        from dragoman import functional

        return functional.scale(self, float(factor))

    __rmul__ = __mul__

    def __truediv__(self, divisor: SupportsFloat) -> Tensor:
        return self * (1.0 / float(divisor))

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len: a scalar tensor has no length")
        return self.shape[0]

    def __repr__(self) -> str:
        grad = ", requires_grad=True" if self.requires_grad else ""
        return f"Tensor(shape={self.shape}, dtype={self.dtype}{grad})\n{self.numpy()}"


def tensor(
    array: npt.ArrayLike | Tensor,
    device: str = "cpu",
    dtype: str | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """A Tensor over `array`, without a copy where the array is C-contiguous, aligned and of the dtype.

    Args:
        array: anything NumPy takes; Python floats and float64 become float32.
        device: "cpu"; "cuda" is refused while this build has no CUDA backend.
        dtype: float32, bfloat16, int32, int64, bool, int8 or uint8; the array's own by default.
        requires_grad: only for float32.

    Raises:
        TypeError: an object array, or a dtype that no Tensor can hold.
        ValueError: an unknown dtype or device.
    """
    if device != "cpu":
        _core.Tensor.empty([0], "float32", device)  # names what is missing
    values = array.numpy() if isinstance(array, Tensor) else np.asarray(array)
    if dtype is None:
        dtype = "float32" if values.dtype == np.float64 else _NAMES.get(values.dtype.newbyteorder("="))
        if dtype is None:
            raise TypeError(f"tensor: array must have a dtype among {', '.join(DTYPES)}, got {values.dtype}")
    elif dtype not in DTYPES:
        raise ValueError(f"tensor: dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    elif values.dtype.kind not in "biuf" and values.dtype != DTYPES["bfloat16"]:
        raise TypeError(f"tensor: array must hold numbers, got dtype {values.dtype}")
    shape = values.shape
    values = np.require(values, DTYPES[dtype], ["C", "A"]).reshape(shape)
    raw = values.view(np.uint16) if dtype == "bfloat16" else values
    return Tensor(_core.Tensor.from_numpy(raw, dtype), requires_grad)
