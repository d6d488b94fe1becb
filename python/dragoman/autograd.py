"""Reverse-mode differentiation: a tape over coarse ops.

Unless `no_grad` stands, every call of a Function becomes a node that keeps what its backward needs. `backward` visits
the nodes in reverse order, frees what each one kept as soon as it has run, and leaves gradients on the leaves.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from dragoman import _core
from dragoman.tensor import Tensor


class _Mode(threading.local):
    enabled = True


_mode = _Mode()


def is_grad_enabled() -> bool:
    """Whether ops of this thread are put on the tape."""
    return _mode.enabled


@contextmanager
def no_grad() -> Iterator[None]:
    """Ops inside are not put on the tape: no memory is kept, no gradient can be asked for."""
    before = _mode.enabled
    _mode.enabled = False
    try:
        yield
    finally:
        _mode.enabled = before


class Function:
    """An op with its derivative.

    A subclass writes `forward`, which calls the core and sets `self.saved`, and `backward`, which hands a gradient to
    every input by `give` or writes it through `sink`. An input whose values backward does not read is saved as its
    `edge`, so that its memory goes free.

    An instance is one call, and a node of the tape.
    """

    def __init__(self) -> None:
        self.saved: tuple[Any, ...] = ()
        self.inputs: tuple[Edge, ...] = ()
        self.grad: _core.Tensor | None = None
        self.grad_owned = False
        self.freed = False

    def forward(self, *args: Any) -> _core.Tensor:
        raise NotImplementedError

    def backward(self, dy: _core.Tensor) -> None:
        raise NotImplementedError

    def __call__(self, *args: Any) -> Tensor:
        """Runs forward; on the tape if grad mode is on and an input requires a gradient."""
        if _mode.enabled:
            edges = [edge(arg) for arg in args if isinstance(arg, Tensor)]
            self.inputs = tuple(end for end in edges if end is not None)
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


def give(to: Tensor | Edge | None, grad: _core.Tensor, owned: bool = False) -> None:
    """Adds `grad`, a gradient that a kernel wrote, to what an input of forward, or its edge, has received so far.

    `owned` says that nobody else holds `grad`: what comes later may be added to it in place.
    """
    end = edge(to) if isinstance(to, Tensor) else to
    if end is None:
        return
    held, held_owned = _held(end)
    if held is None:
        _hold(end, grad, owned)
    elif held_owned:
        _core.accumulate(held, grad, 1.0, True)
    else:
        _hold(end, _core.add(held, grad), True)


def sink(tensor: Tensor | None) -> tuple[_core.Tensor | None, bool]:
    """Where a kernel writes the float32 gradient of `tensor` itself, and whether it must add to what is there."""
    end = edge(tensor)
    if tensor is None or end is None:
        return None, False
    held, owned = _held(end)
    if held is not None and owned:
        return held, True
    buffer = _core.Tensor.empty(list(tensor.shape)) if held is None else held.clone()
    _hold(end, buffer, True)
    return buffer, held is not None


def _held(end: Edge) -> tuple[_core.Tensor | None, bool]:
    if isinstance(end, Function):
        return end.grad, end.grad_owned
    return (None if end.grad is None else end.grad.data), end.grad_owned


def _hold(end: Edge, grad: _core.Tensor, owned: bool) -> None:
    if isinstance(end, Function):
        end.grad, end.grad_owned = grad, owned
    else:
        end.grad, end.grad_owned = Tensor(grad), owned


def backward(loss: Tensor) -> None:
    """See Tensor.backward."""
    if loss.size != 1:
        raise ValueError(f"backward: the loss must be a scalar, got shape {loss.shape}")
    if not loss.requires_grad:
        raise RuntimeError("backward: the loss requires no gradient (made under no_grad, or of no trainable tensor)")
    one = _core.Tensor.from_numpy(np.ones(loss.shape, np.float32), "float32")
    if loss.function is None:
        give(loss, one)
        return
    order = _topological_order(loss.function)
    loss.function.grad = one
    while order:
        function = order.pop()
        grad = function.grad
        if grad is not None:
            function.backward(grad)
        function.grad, function.saved, function.inputs, function.freed = None, (), (), True


def _topological_order(root: Function) -> list[Function]:
    """Every function the root depends on, inputs before users."""
    order: list[Function] = []
    seen: set[int] = set()
    stack: list[tuple[Function, bool]] = [(root, False)]
    while stack:
        function, done = stack.pop()
        if done:
            order.append(function)
            continue
        if id(function) in seen:
            continue
        if function.freed:
            raise RuntimeError(
                "backward: this graph was freed by an earlier backward; run the forward pass again before a second one"
            )
        seen.add(id(function))
        stack.append((function, True))
        stack.extend((end, False) for end in function.inputs if isinstance(end, Function))
    return order
