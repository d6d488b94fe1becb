"""Parameter, and the forms of a weight that matrix products read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from dragoman import _core
from dragoman.arrays import DTYPES, as_array
from dragoman.grad_mode import is_grad_enabled
from dragoman.nn import init
from dragoman.tensor import Tensor


class _Packing(threading.local):
    at_once = False


_packing = _Packing()


@contextmanager
def packing_at_once() -> Iterator[None]:
    """Products of this thread inside pack weights at their first use, as for those who keep the packed copies."""
    before, _packing.at_once = _packing.at_once, True
    try:
        yield
    finally:
        _packing.at_once = before


class WeightForms:
    """Copies of one float32 weight in the forms that products read: in bfloat16, and packed.

    Each copy is kept with the version of the values that it was made from (`_core.Tensor.version`). Every write to the
    values changes the version, and a copy of another version is never read: it is made again at the next use.
    The version is 0 where another library shares the memory and may write it at any time. Then no copy is kept.

    The packed copy is a second copy of the weight. It serves inference: the second product off the tape with the same
    values makes it, because for one alone it costs as much as the product and twice the memory. A product on the tape
    drops it.

    Attributes:
        shared: version and bfloat16 copy that an optimizer writes with each step, or None; set by the optimizer.
        on_drop: called when the packed copy is dropped, for who else holds it, or None.
    """

    __slots__ = ("_bfloat16", "_packed", "_used", "on_drop", "shared")

    def __init__(self) -> None:
        self.shared: tuple[int, _core.Tensor] | None = None
        self.on_drop: Callable[[], None] | None = None
        self._bfloat16: tuple[int, _core.Tensor] | None = None  # version, copy
        self._packed: tuple[int, str, _core.Tensor | None] | None = None  # version, dtype of the product, copy
        self._used: tuple[int, str] | None = None  # version and dtype of the last product that found no packed copy

    def in_dtype(self, values: _core.Tensor, dtype: str) -> _core.Tensor:
        """The values as a product in `dtype`, "float32" or "bfloat16", takes them.

        While a Program is recorded, it records the conversion, so that a replay reads the values of its own time.
        """
        if self._packed is not None and is_grad_enabled():
            self.drop_packed()
        if dtype != "bfloat16":
            return values
        version = values.version
        if self.shared is not None and self.shared[0] == version != 0:
            self._bfloat16 = None
            return self.shared[1]
        if version == 0 or _core.is_recording():
            return _core.cast(values, dtype)
        if self._bfloat16 is None or self._bfloat16[0] != version:
            self._bfloat16 = (version, _core.cast(values, dtype))
        return self._bfloat16[1]

    def packed(self, values: _core.Tensor, dtype: str) -> _core.Tensor | None:
        """The values packed for products in `dtype`.

        None at the first use of these values, outside of `packing_at_once`; on the tape; while a Program is recorded,
        which reads the weight itself; for what is no matrix; where another library shares the memory; and where the
        backend keeps no packed copy.
        """
        version = values.version
        if is_grad_enabled() or version == 0 or _core.is_recording() or len(values.shape) != 2:
            return None
        if self._packed is None or self._packed[:2] != (version, dtype):
            if self._used != (version, dtype) and not _packing.at_once:
                self._used = version, dtype
                return None
            self._packed = (version, dtype, _core.pack_weight(self.in_dtype(values, dtype)))
        return self._packed[2]

    def drop_packed(self) -> None:
        if self._packed is not None:
            self._packed = None
            if self.on_drop is not None:
                self.on_drop()


class Parameter(Tensor):
    """A trainable float32 Tensor with memory of its own, filled from `array`.

    Attributes:
        forms: the copies of the values that products read.

    Raises:
        ValueError: inside `skip_init` with a limit, and the limit is reached.
    """

    __slots__ = ("forms",)

    def __init__(self, array: npt.ArrayLike) -> None:
        self.forms = WeightForms()
        given = as_array("Parameter", "array", array)
        if given.dtype.kind not in "biuf" and given.dtype != DTYPES["bfloat16"]:
            raise TypeError(f"Parameter: array must hold numbers, got dtype {given.dtype}")
        skipped = init.is_skipped(given.shape)  # before memory is taken: there may be a limit
        super().__init__(_core.Tensor.empty(list(given.shape)), requires_grad=True)
        if not skipped:
            self.copy_(np.asarray(given, dtype=np.float32, order="C"))

    def _restore(self, data: _core.Tensor, requires_grad: bool) -> None:
        super()._restore(data, requires_grad)
        self.forms = WeightForms()

    def move(self, device: str) -> None:
        """Moves values and gradient to `device`. An optimizer that holds the values where they were can then take no
        step."""
        if device == self.device:
            return
        self.data = _core.to(self.data, device)
        self.forms = WeightForms()
        if self.grad is not None:
            self.grad, self.grad_owned = Tensor(_core.to(self.grad.data, device)), True

    def data_as(self, dtype: str) -> _core.Tensor:
        return self.forms.in_dtype(self.data, dtype)

    def packed(self, dtype: str) -> _core.Tensor | None:
        return self.forms.packed(self.data, dtype)
