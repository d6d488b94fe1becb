"""FrozenWeight: a weight that is trained no more, kept once in the form that products and lookups read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman import _core
from dragoman.arguments import shown
from dragoman.arrays import NAMES, core_tensor
from dragoman.grad_mode import is_grad_enabled
from dragoman.tensor import Tensor

FROZEN_DTYPES = ("int8", "bfloat16", "float32")

# Fills a float32 tensor on the CPU with the values of a weight from one of them on, in C order.
Filler = Callable[[int, _core.Tensor], None]

_PART = 1 << 20  # values of a weight that are read at a time; they stay in the cache
_STEP = 64  # rows, of which `_core.pack_rows` takes multiples


def quantize(weight: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """int8 values and a scale for each row: weight (rows, columns) is about values * scales.

    Symmetric: the largest absolute value of a row becomes 127. A row below 1e-30 becomes zeros. ValueError for a
    value that is not finite.
    """
    values, scales = _core.quantize_rows(core_tensor("quantize", weight, "float32", "cpu"))
    return Tensor(values).numpy(), Tensor(scales).numpy()


def places(shapes: Iterable[tuple[int, ...]], dtype: str, device: str) -> list[_core.Tensor | None]:
    """A place for the packed copy of each weight; None where no order is faster. They lie end to end in one block of
    memory, whose pages are large."""
    sizes = [_core.packed_weight_size(shape, dtype, device) for shape in shapes]
    if not all(sizes):
        return [None] * len(sizes)
    *firsts, end = accumulate((-(-size // 64) * 64 for size in sizes), initial=0)  # whole cache lines
    block = _core.Tensor.empty([end], "uint8", device)
    return [block.slice(first, [size]) for first, size in zip(firsts, sizes, strict=True)]


def part_buffer(shapes: Iterable[tuple[int, ...]]) -> _core.Tensor:
    """Memory for some rows of any weight of these shapes, for `FrozenWeight.filled`."""
    largest = max((_STEP * columns for _, columns in shapes), default=0)
    return _core.Tensor.from_numpy(np.empty(max(_PART, largest), np.float32), "float32")


class FrozenWeight:
    """A weight (rows, columns) for inference: int8 with a scale for each row, bfloat16 or float32.

    On the CPU it is packed in the order in which products read it on this machine; plain values are not kept.
    Products take float32 and give float32. With int8 they round each row of their input to 255 steps, with bfloat16
    they round it to bfloat16. Their sums are int32 or float32.

    Attributes:
        dtype: "int8", "bfloat16" or "float32".
        shape: rows, columns.
        scales: (rows,) float32, for int8 alone.
        device: where it is.

    Args:
        values: (rows, columns) int8, bfloat16 or float32.
        scales: (rows,) float32 with int8, else None.
        device: where it shall be.
        place: of `places`, for its packed copy.

    Raises:
        ValueError: int8 on another device than the CPU.
    """

    __slots__ = ("_packed", "_plain", "_table", "device", "dtype", "scales", "shape")

    def __init__(
        self,
        values: npt.NDArray[Any],
        scales: npt.NDArray[np.float32] | None = None,
        device: str = "cpu",
        place: _core.Tensor | None = None,
    ) -> None:
        self.dtype = NAMES[values.dtype]
        self.shape: tuple[int, int] = (values.shape[0], values.shape[1])
        if self.dtype == "int8" and device != "cpu":
            raise ValueError(f'freeze: "int8" is for the CPU, got a model on {device}, which "bfloat16" is for')
        plain = core_tensor("freeze", values, self.dtype, device)
        self.device = plain.device
        self.scales = None if scales is None else core_tensor("freeze", scales, "float32", device).clone()
        self._packed = _core.pack_weight(plain, place)
        # Where no order is faster, products read the plain values, and lookups float32.
        self._plain = Tensor(plain.clone()) if self._packed is None else None
        self._table: _core.Tensor | None = None

    @classmethod
    def filled(
        cls, shape: tuple[int, ...], dtype: str, fill: Filler, place: _core.Tensor, buffer: _core.Tensor, name: str
    ) -> FrozenWeight:
        """A weight (rows, columns) of float32 values that are never whole in memory: some rows are read and packed
        after the others.

        Args:
            shape: of the weight.
            dtype: that it is frozen in.
            fill: reads the values.
            place: of `places`.
            buffer: of `part_buffer`.
            name: of the weight, for messages.

        Raises:
            ValueError: a value for int8 that is not finite.
        """
        weight = cls.__new__(cls)
        rows, columns = weight.shape = shape[0], shape[1]
        weight.dtype, weight.device = dtype, "cpu"
        weight._packed, weight._plain, weight._table = place, None, None
        count = buffer.numel // columns // _STEP * _STEP
        scales: list[npt.NDArray[np.float32]] = []
        for begin in range(0, rows, count):
            part = buffer.slice(0, [min(count, rows - begin), columns])
            fill(begin * columns, part)
            if dtype == "int8":
                try:
                    part, scale = _core.quantize_rows(part)
                except ValueError:
                    raise ValueError(f'{name} must be finite for "int8", got a value that is not') from None
                scales.append(scale.numpy())
            _core.pack_rows(_core.cast(part, dtype) if dtype == "bfloat16" else part, begin, weight.shape, place)
        weight.scales = core_tensor("freeze", np.concatenate(scales), "float32", "cpu").clone() if scales else None
        return weight

    @property
    def size(self) -> int:
        """How many values it has."""
        return self.shape[0] * self.shape[1]

    def values(self) -> npt.NDArray[Any]:
        """A copy of the values in `dtype`, without the scales."""
        if self._packed is not None:
            return Tensor(_core.unpack_weight(self._packed, self.dtype, self.shape)).numpy()
        assert self._plain is not None
        return self._plain.numpy().copy()

    def linear(self, x: Tensor, bias: Tensor | None, activation: str, sequences: _core.Sequences | None) -> Tensor:
        """activation(x W^T + bias), as `functional.linear`."""
        self._check_off_tape(x, bias)
        offset = None if bias is None else bias.data
        if self._packed is not None:
            return Tensor(
                _core.frozen_linear(
                    x.data, self._packed, self.dtype, self.shape, self.scales, offset, activation, sequences
                )
            )
        assert self._plain is not None
        rounded, weight = _core.cast(x.data, self.dtype), self._plain.data
        y, _ = _core.linear_forward(rounded, weight, offset, activation, _core.Dropout(), sequences)
        return Tensor(_core.cast(y, "float32"))

    def embedding(
        self,
        ids: _core.Tensor,
        positions: Tensor | None,
        starts: _core.Tensor | None,
        scale: float,
        sequences: _core.Sequences,
    ) -> Tensor:
        """weight[ids] * scale + positions, as `functional.embedding`."""
        self._check_off_tape(positions)
        added = None if positions is None else positions.data
        if self._packed is not None:
            return Tensor(
                _core.frozen_embedding(
                    ids, self._packed, self.dtype, self.shape, self.scales, added, starts, scale, sequences
                )
            )
        assert self._plain is not None
        if self._table is None:
            self._table = _core.cast(self._plain.data, "float32")
        none = _core.Dropout()
        return Tensor(_core.embedding_forward(ids, self._table, added, starts, scale, none, sequences, "float32"))

    def check_inference(self, op: str, dtype: str, dropout: float) -> None:
        """ValueError in the name of `op` for what only training asks for."""
        if dtype != "float32" or dropout != 0:
            raise ValueError(
                f"{op}: a frozen weight takes float32 and no dropout, got {dtype} and dropout {shown(dropout)}"
            )

    def _check_off_tape(self, *inputs: Tensor | None) -> None:
        if is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs):
            raise ValueError(
                f"backward: a weight that is frozen in {self.dtype} has no gradient to hand on; "
                "run the model inside its `inference()`, or train the model that it was made from"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        """For `copy` and `pickle`: the plain values, packed anew where they are read."""
        return FrozenWeight, (self.values(), None if self.scales is None else Tensor(self.scales).numpy(), self.device)

    def __repr__(self) -> str:
        return f"FrozenWeight(shape={self.shape}, dtype={self.dtype})"
