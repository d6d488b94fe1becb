"""The Tensor a user holds: a core array, whether it wants a gradient, and the op that made it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
_DLPACK_CPU = (1, 0)


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
        values = as_array("copy_", "array", array)
        if values.dtype.kind not in "biuf" and values.dtype != DTYPES["bfloat16"]:
            raise TypeError(f"copy_: array must hold numbers, got dtype {values.dtype}")
        values = _convert("copy_", values, self.dtype)
        self.data.copy_(values.view(np.uint16) if self.dtype == "bfloat16" else values)

    def __dlpack__(
        self,
        *,
        stream: None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> object:
        """A DLPack capsule over this memory (a copy of it for copy=True), for `from_dlpack` of another library.

        What the other side may write follows the memory, not this object: see `writeable`.

        Raises:
            BufferError: another device, or read-only memory for a consumer older than DLPack 1.0, which cannot be told.
            ValueError: while a Program is being recorded, or for a stream.
        """
        if stream is not None:
            raise ValueError(f"__dlpack__: stream must be None for the CPU, got {stream!r}")
        if dl_device is not None and tuple(dl_device) != self.__dlpack_device__():
            raise BufferError(f"__dlpack__: dl_device must be {self.__dlpack_device__()}, got {dl_device!r}")
        versioned = max_version is not None and max_version[0] >= 1
        return _core.to_dlpack(self.data.clone() if copy else self.data, versioned)

    def __dlpack_device__(self) -> tuple[int, int]:
        """DLPack's name for the CPU."""
        return _DLPACK_CPU

    @property
    def writeable(self) -> bool:
        """Whether the memory may be written: not where it was borrowed from a read-only array."""
        return self.data.writeable

    def data_as(self, dtype: str) -> _core.Tensor:
        """What an op that computes in `dtype` takes for this weight: float32 is rounded to "bfloat16"."""
        return _core.cast(self.data, dtype) if (self.dtype, dtype) == ("float32", "bfloat16") else self.data

    def packed(self, dtype: str) -> _core.Tensor | None:
        """What a product in `dtype` reads faster than this weight, None where no such copy is kept."""
        return None

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

    def __mul__(self, factor: float) -> Tensor:
        from dragoman import functional

        return functional.scale(self, factor)

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Tensor:
        return self * (1.0 / divisor)

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
        ValueError: an unknown dtype or device, rows of different lengths, or values that an integer dtype cannot hold.
    """
    if not isinstance(device, str) or device not in ("cpu", "cuda"):
        raise ValueError(f"tensor: device must be cpu or cuda, got {device!r}")
    if device == "cuda":
        _core.Tensor.empty([0], "float32", device)  # names what is missing
    values = array.numpy() if isinstance(array, Tensor) else as_array("tensor", "array", array)
    if dtype is None:
        dtype = "float32" if values.dtype == np.float64 else _NAMES.get(values.dtype.newbyteorder("="))
        if dtype is None:
            raise TypeError(f"tensor: array must have a dtype among {', '.join(DTYPES)}, got {values.dtype}")
    elif not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"tensor: dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    elif values.dtype.kind not in "biuf" and values.dtype != DTYPES["bfloat16"]:
        raise TypeError(f"tensor: array must hold numbers, got dtype {values.dtype}")
    if not isinstance(requires_grad, bool):
        raise TypeError(f"tensor: requires_grad must be a bool, got {type(requires_grad).__name__}")
    raw = _convert("tensor", values, dtype)
    return Tensor(_core.Tensor.from_numpy(raw.view(np.uint16) if dtype == "bfloat16" else raw, dtype), requires_grad)


def as_array(op: str, name: str, values: npt.ArrayLike | Tensor | None) -> npt.NDArray[Any]:
    """`values` as NumPy sees them. ValueError, in the name of `op`, for rows of different lengths."""
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{op}: {name} must be a rectangular array ({error})") from None


def _convert(op: str, values: npt.NDArray[Any], dtype: str) -> npt.NDArray[Any]:
    """`values` in the dtype and in C order, without a copy where they are so already.

    Fractions are cut off for an integer dtype; NaN and what lies out of its range are refused.
    """
    target = DTYPES[dtype]
    if target.kind in "iu" and values.size and not np.can_cast(values.dtype, target):
        limits, exact = np.iinfo(target), values.astype(np.float64) if values.dtype.kind not in "iu" else values
        least, most = exact.min(), exact.max()
        # In float64 the limits of int64 round up: 2^63 itself must be refused.
        if not (least >= limits.min and (most < float(limits.max) if limits.max >= 2**53 else most <= limits.max)):
            raise ValueError(f"{op}: array must fit in {dtype}, got values in [{least}, {most}]")
    return np.require(values, target, ["C", "A"]).reshape(values.shape)


def from_dlpack(x: Any) -> Tensor:
    """A Tensor over the memory of `x`, an array of any library that speaks DLPack, without a copy.

    Args:
        x: C-contiguous, on the CPU, of a dtype that a Tensor can hold. The memory is kept alive; where `x` says that it
            is read-only, so is the Tensor.

    Raises:
        TypeError: no DLPack, or a dtype that no Tensor can hold.
        ValueError: memory that is not contiguous, on another device, or that `x` cannot export.
    """
    if not hasattr(x, "__dlpack__") or not hasattr(x, "__dlpack_device__"):
        raise TypeError(f"from_dlpack: x must have __dlpack__ and __dlpack_device__, got {type(x).__name__}")
    kind, index = x.__dlpack_device__()
    if kind != _DLPACK_CPU[0]:
        raise ValueError(f"from_dlpack: x must be on the CPU, got DLPack device {(int(kind), index)}")
    try:
        try:
            capsule = x.__dlpack__(max_version=(1, 0))
        except TypeError:  # a library from before DLPack 1.0
            capsule = x.__dlpack__()
    except BufferError as error:
        raise ValueError(f"from_dlpack: x must be memory that DLPack can describe ({error})") from None
    return Tensor(_core.from_dlpack(capsule))
