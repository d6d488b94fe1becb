"""Tensor, and the tape of ops that made it (reverse-mode differentiation).

Unless `no_grad` stands, every call of a Function becomes a node that keeps what its backward needs. `backward` visits
the nodes in reverse order, frees what each one kept as soon as it has run, and leaves gradients on the leaves.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol

import ml_dtypes
import numpy as np
import numpy.typing as npt

from dragoman import _core, arguments
from dragoman.arrays import DTYPES, as_array, convert, core_tensor
from dragoman.grad_mode import mode


class Tensor:
    """A contiguous array with an optional gradient.

    Attributes:
        data: the core's array; shared, not copied, by `detach` and `reshape`.
        requires_grad: whether `backward` computes a gradient for this tensor.
        grad: the gradient of a leaf after `backward`, of this tensor's shape, or None. It may be set; the next
            `backward` adds to it.
        function: the op that made this tensor, or None for a leaf.
    """

    __array_priority__ = 1.0  # NumPy arrays leave `array * tensor` to this class

    __slots__ = ("__weakref__", "data", "function", "grad", "grad_owned", "requires_grad")

    def __init__(self, data: _core.Tensor, requires_grad: bool = False) -> None:
        if type(data) is not _core.Tensor:
            raise TypeError(
                f"Tensor: data must be a tensor of the core, got {type(data).__name__}; dragoman.tensor takes arrays"
            )
        if requires_grad is not False:
            requires_grad = arguments.flag("Tensor", "requires_grad", requires_grad)
            if requires_grad and data.dtype != "float32":
                raise TypeError(f"Tensor: data must be float32 for requires_grad, got {data.dtype}")
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
        """A read-only view of the values; a copy, where they lie on another device than the CPU.

        Raises:
            ValueError: while a Program is being recorded.
        """
        array = self.data.numpy()
        return array.view(ml_dtypes.bfloat16) if self.dtype == "bfloat16" else array

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        array = self.numpy()
        if copy is not None:
            copy = arguments.flag("Tensor", "copy", copy)
        if dtype is not None:
            try:
                wanted = np.dtype(dtype)
            except (TypeError, ValueError):
                raise TypeError(f"Tensor: dtype must be one of NumPy's, got {arguments.shown(dtype)}") from None
            if wanted != array.dtype:
                if copy is False:
                    raise ValueError(f"Tensor: {array.dtype} to dtype {wanted} needs a copy, got copy=False")
                return array.astype(wanted)
        return array.copy() if copy else array

    def item(self) -> float:
        """The value of a one-element tensor; ValueError otherwise."""
        if self.size != 1:
            raise ValueError(f"item: the tensor must have one element, got shape {self.shape}")
        return float(self.numpy().item())

    def copy_(self, array: npt.ArrayLike) -> None:
        """Copies `array` of the same shape into this tensor's memory, converting the dtype.

        A copy between a forward pass and its backward is not noticed: backward reads the new values. To notice it,
        every op would have to keep a number for each tensor that it saves, and compare it.

        Raises:
            TypeError: an array that holds no numbers.
            ValueError: another shape, values that do not fit the dtype, or a Program is being recorded.
        """
        if _core.is_recording():
            raise ValueError("copy_: a recorded Program would not repeat it; pass the tensor as an input instead")
        values = as_array("copy_", "array", array)
        if values.dtype.kind not in "biuf" and values.dtype != DTYPES["bfloat16"]:
            raise TypeError(f"copy_: array must hold numbers, got dtype {values.dtype}")
        values = convert("copy_", values, self.dtype)
        self.data.copy_(values.view(np.uint16) if self.dtype == "bfloat16" else values)

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> object:
        """A DLPack capsule over this memory (a copy of it for copy=True), for `from_dlpack` of another library.

        What the other side may write follows the memory, not this object: see `writeable`.

        Args:
            stream: the handle of the consumer's CUDA stream, which will wait for the values; 1 or None is the default
                stream, -1 means that nothing waits. None on the CPU.
            max_version: the newest DLPack that the consumer knows.
            dl_device: this tensor's device.
            copy: whether to copy the memory.

        Raises:
            BufferError: another device, or read-only memory for a consumer older than DLPack 1.0, which cannot be told.
            ValueError: while a Program is being recorded, for a stream on the CPU, or for no stream of CUDA.
        """
        if self.device == "cpu":
            if stream is not None:
                raise ValueError(f"__dlpack__: stream must be None for the CPU, got {arguments.shown(stream)}")
        elif stream is None:
            stream = 1
        elif arguments.integer("__dlpack__", "stream", stream, minimum=-1) == 0:
            raise ValueError("__dlpack__: stream must be a CUDA stream, 1 for the default stream, or -1, got 0")
        for name, value in (("max_version", max_version), ("dl_device", dl_device)):
            if value is not None and not (isinstance(value, tuple) and len(value) == 2):
                raise TypeError(f"__dlpack__: {name} must be two ints, got {arguments.shown(value)}")
        if copy is not None:
            copy = arguments.flag("__dlpack__", "copy", copy)
        if dl_device is not None and tuple(dl_device) != self.__dlpack_device__():
            raise BufferError(
                f"__dlpack__: dl_device must be {self.__dlpack_device__()}, got {arguments.shown(dl_device)}"
            )
        versioned = max_version is not None and arguments.integer("__dlpack__", "max_version", max_version[0]) >= 1
        return _core.to_dlpack(self.data.clone() if copy else self.data, versioned, None if stream == -1 else stream)

    def __dlpack_device__(self) -> tuple[int, int]:
        """What DLPack calls this tensor's device: its type and its index."""
        return _core.dlpack_device(self.data)

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

    def backward(self, dy: Tensor | npt.ArrayLike | None = None) -> None:
        """Adds the gradient of sum(self * dy) to every leaf that requires one.

        Args:
            dy: a Tensor of this tensor's shape and dtype, or an array of its shape, copied either way. A scalar may
                leave it out: it is 1.

        Raises:
            TypeError: dy holds no numbers, or is a Tensor of another dtype.
            ValueError: dy has another shape, or is left out for a tensor that is no scalar.
            RuntimeError: the tensor requires no gradient, or its graph was freed by an earlier backward.
        """
        if dy is not None:
            seed = _gradient_of(self, dy)
        elif self.size == 1:
            seed = unit_gradient(self)
        else:
            raise ValueError(f"backward: dy must be a Tensor of shape {self.shape}; only a scalar needs none, got None")
        backward(self, seed)

    if TYPE_CHECKING:  # the ops: functional/operators.py attaches them, see there and the functions of their names

        def __add__(self, other: Tensor | float) -> Tensor: ...
        def __radd__(self, other: float) -> Tensor: ...
        def __sub__(self, other: Tensor | float) -> Tensor: ...
        def __rsub__(self, other: float) -> Tensor: ...
        def __mul__(self, other: Tensor | float) -> Tensor: ...
        def __rmul__(self, other: float) -> Tensor: ...
        def __truediv__(self, other: Tensor | float) -> Tensor: ...
        def __rtruediv__(self, other: float) -> Tensor: ...
        def __matmul__(self, other: Tensor) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __getitem__(self, index: Any) -> Tensor: ...
        def exp(self) -> Tensor: ...
        def log(self) -> Tensor: ...
        def sqrt(self) -> Tensor: ...
        def maximum(self, other: Tensor | float) -> Tensor: ...
        def sum(self, axis: int | None = None, keepdims: bool = False) -> Tensor: ...
        def mean(self, axis: int | None = None, keepdims: bool = False) -> Tensor: ...
        def softmax(self) -> Tensor: ...
        def reshape(self, *shape: Any) -> Tensor: ...
        def to(self, device: str) -> Tensor: ...
        def transpose(self) -> Tensor: ...
        @property
        def T(self) -> Tensor: ...

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len: a scalar tensor has no length")
        return self.shape[0]

    def _restore(self, data: _core.Tensor, requires_grad: bool) -> None:
        """Fills an object that was made without its constructor."""
        Tensor.__init__(self, data, requires_grad)

    def __reduce__(self) -> tuple[Any, ...]:
        """For `copy` and `pickle`: the values in memory of their own, without the gradient.

        Raises:
            RuntimeError: an op on the tape made the tensor.
        """
        if self.function is not None:
            raise RuntimeError(
                "copy: a tensor that an op on the tape made cannot be copied or pickled; detach() it first"
            )
        state = getattr(self, "__dict__", None)  # of a user's subclass
        return _restored, (type(self), self.data.numpy(), self.dtype, self.device, self.requires_grad), state

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        grad = ", requires_grad=True" if self.requires_grad else ""
        return f"Tensor(shape={self.shape}, dtype={self.dtype}{grad})\n{self.numpy()}"


def _restored(kind: type[Tensor], values: npt.NDArray[Any], dtype: str, device: str, requires_grad: bool) -> Tensor:
    """What Tensor.__reduce__ wrote, a Tensor or one of a subclass, whose own constructor is not called."""
    data = _core.Tensor.from_numpy(values, dtype)
    restored = kind.__new__(kind)
    restored._restore(data.clone() if device == "cpu" else _core.to(data, device), requires_grad)
    return restored


_calls = count()


class Function:
    """An op with its derivative.

    A subclass writes `forward`, which calls the core and sets `self.saved`, and `backward`, which adds a gradient to
    every input by `add_grad`, or lets a kernel write it to the input's `grad_buffer`. Where backward does not read an
    input's values, forward saves the input's `edge` instead, so the memory can be freed.

    An instance is one call, and a node of the tape.
    """

    def __init__(self) -> None:
        self.saved: tuple[Any, ...] = ()
        self.inputs: tuple[Edge, ...] = ()
        self.grad: _core.Tensor | None = None
        self.grad_owned = False
        self.freed = False
        self.number = 0  # of the call, among all of them

    def forward(self, *args: Any) -> _core.Tensor:
        raise NotImplementedError

    def backward(self, dy: _core.Tensor) -> None:
        raise NotImplementedError

    def __call__(self, *args: Any) -> Tensor:
        """Runs forward; on the tape if grad mode is on and an input requires a gradient."""
        if mode.enabled:
            edges = [edge(arg) for arg in args if isinstance(arg, Tensor)]
            self.inputs = tuple(end for end in edges if end is not None)
            self.number = next(_calls)
        output = Tensor(self.forward(*args))
        if self.inputs:
            output.requires_grad = True
            output.function = self
        else:
            self.saved = ()
        return output

    def needs_grad(self, tensor: Tensor | None) -> bool:
        """Whether this call is on the tape and `tensor` wants a gradient."""
        return tensor is not None and tensor.requires_grad and bool(self.inputs)


Edge = Function | Tensor  # where a gradient goes: to the op that made a tensor, or to a leaf


def edge(tensor: Tensor | None) -> Edge | None:
    """Where gradients of `tensor` go, None where it wants none. Who keeps an edge keeps no intermediate's values."""
    if tensor is None or not tensor.requires_grad:
        return None
    return tensor if tensor.function is None else tensor.function


def add_grad(to: Tensor | Edge | None, grad: _core.Tensor, owned: bool = False) -> None:
    """Adds `grad`, a gradient that a kernel wrote, to what an input of forward, or its edge, has received so far.

    `owned` says that nobody else holds `grad`: what comes later may be added to it in place.
    """
    end = edge(to) if isinstance(to, Tensor) else to
    if end is None:
        return
    held, held_owned = _grad_of(end)
    if held is None:
        _set_grad(end, grad, owned)
    elif held_owned:
        _core.accumulate(held, grad, 1.0, True)
    else:
        _set_grad(end, _core.binary_forward("add", held, grad), True)


def grad_buffer(tensor: Tensor | None) -> tuple[_core.Tensor | None, bool]:
    """Where a kernel writes the float32 gradient of `tensor` itself, and whether it must add to what is there."""
    end = edge(tensor)
    if tensor is None or end is None:
        return None, False
    held, owned = _grad_of(end)
    if held is not None and owned:
        return held, True
    buffer = _core.Tensor.empty(list(tensor.shape), "float32", tensor.device) if held is None else held.clone()
    _set_grad(end, buffer, True)
    return buffer, held is not None


def _grad_of(end: Edge) -> tuple[_core.Tensor | None, bool]:
    if isinstance(end, Function):
        return end.grad, end.grad_owned
    grad = end.grad
    if type(grad) is Tensor:
        return grad.data, end.grad_owned
    return (None if grad is None else checked_grad("backward", "grad", end, grad).data), end.grad_owned


def checked_grad(op: str, name: str, of: Tensor, grad: Any) -> Tensor:
    """A `grad` that a user has set. TypeError, ValueError unless it has the dtype, shape and device of `of`."""
    check_tensors(op, **{name: grad})
    if grad.dtype != of.dtype:
        raise TypeError(f"{op}: {name} must be {of.dtype}, got {grad.dtype}")
    if (grad.shape, grad.device) != (of.shape, of.device):
        expected, got = f"{of.shape} on {of.device}", f"{grad.shape} on {grad.device}"
        raise ValueError(f"{op}: {name} must have shape {expected}, got {got}")
    return grad  # type: ignore[no-any-return]


def _set_grad(end: Edge, grad: _core.Tensor, owned: bool) -> None:
    if isinstance(end, Function):
        end.grad, end.grad_owned = grad, owned
    else:  # a user may write the gradient of a leaf, which therefore shares memory with no other
        end.grad, end.grad_owned = Tensor(grad if owned else grad.clone()), True


_units: dict[tuple[str, str], _core.Tensor] = {}


def unit_gradient(loss: Tensor) -> _core.Tensor:
    """The gradient of a loss for itself, 1 in its shape and dtype. A loss of shape () gets a constant of its device."""
    place = loss.device, loss.dtype
    if place not in _units:
        one = np.ones((), np.float32)
        one.flags.writeable = False
        _units[place] = core_tensor("backward", one, loss.dtype, loss.device)
    return _core.reshape(_units[place], list(loss.shape)) if loss.shape else _units[place]


def is_unit_gradient(dy: _core.Tensor) -> bool:
    """Whether dy is known to be 1 without a look at its value: `backward` of a scalar began here."""
    return dy is _units.get((dy.device, dy.dtype))


def _gradient_of(of: Tensor, dy: Tensor | npt.ArrayLike) -> _core.Tensor:
    """A copy of the `dy` that a user hands to backward."""
    given = dy if isinstance(dy, Tensor) else as_array("backward", "dy", dy)
    if isinstance(given, Tensor):
        if given.dtype != of.dtype:
            raise TypeError(f"backward: dy must be {of.dtype} like the tensor, got {given.dtype}")
    elif given.dtype.kind not in "biuf" and given.dtype != DTYPES["bfloat16"]:
        raise TypeError(f"backward: dy must hold numbers, got dtype {given.dtype}")
    if given.shape != of.shape:
        raise ValueError(f"backward: dy must have shape {of.shape}, got {given.shape}")
    return (
        given.data.clone() if isinstance(given, Tensor) else core_tensor("backward", given.copy(), of.dtype, of.device)
    )


def backward(root: Tensor, dy: _core.Tensor, ends: Collection[Function] = ()) -> None:
    """Tensor.backward from a gradient `dy` of root's shape and dtype, which nobody writes afterwards.

    Functions in `ends` receive their gradient, and run later, in a backward that is under way.
    """
    if not root.requires_grad:
        raise RuntimeError(
            "backward: the tensor requires no gradient (made under no_grad, or of no trainable tensor: "
            "a frozen model has none)"
        )
    if root.function is None or root.function in ends:
        add_grad(root, dy)
        return
    order = _in_order(root.function, ends)
    root.function.grad = dy
    watcher, _watched.by = _watched.by, None  # of this backward alone, not of those that its functions begin
    if watcher is not None:
        watcher.started(order)
    while order:
        function = order.pop()
        grad = function.grad
        if grad is not None:
            function.backward(grad)
        function.grad, function.saved, function.inputs, function.freed = None, (), (), True
        if watcher is not None:
            watcher.left(len(order))


class Watcher(Protocol):
    """What follows a backward: `Exchange`."""

    def started(self, order: Sequence[Function]) -> None:
        """The functions that will run, from the last one to the first."""

    def left(self, functions: int) -> None:
        """A function has run, and so many are left."""


class _Watched(threading.local):
    by: Watcher | None = None


_watched = _Watched()


@contextmanager
def watched(by: Watcher) -> Iterator[None]:
    """Inside, `by` follows the next backward of this thread."""
    _watched.by = by
    try:
        yield
    finally:
        _watched.by = None


def _in_order(root: Function, ends: Collection[Function]) -> list[Function]:
    """The functions that the root depends on, and itself, as they were called; without `ends` and what only they
    depend on. So backward goes back over forward, and gradients are complete in the order of parameters, the last
    ones first."""
    found: list[Function] = []
    seen = {id(end) for end in ends}
    stack = [root]
    while stack:
        function = stack.pop()
        if id(function) in seen:
            continue
        if function.freed:
            raise RuntimeError(
                "backward: this graph was freed by an earlier backward; run the forward pass again before a second one"
            )
        seen.add(id(function))
        found.append(function)
        stack.extend(end for end in function.inputs if isinstance(end, Function))
    return sorted(found, key=attrgetter("number"))


def check_tensors(op: str, **values: Any) -> None:
    """TypeError unless each is a Tensor."""
    arguments.check_types(op, Tensor, **values)


def check_sequences(op: str, **values: Any) -> None:
    """TypeError unless each is a Sequences."""
    arguments.check_types(op, _core.Sequences, **values)


def check_options(op: str, **values: Any) -> None:
    """TypeError unless each is None, or what its name says: a Sequences for `sequences`, else a Tensor."""
    given = {name: value for name, value in values.items() if value is not None}
    if "sequences" in given:
        check_sequences(op, sequences=given.pop("sequences"))
    check_tensors(op, **given)
