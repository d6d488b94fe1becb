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
    every input by `give` or writes it through `sink`.

    An instance is one call, and a node of the tape.
    """

    def __init__(self) -> None:
        self.saved: tuple[Any, ...] = ()
        self.inputs: tuple[Tensor, ...] = ()
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
            self.inputs = tuple(arg for arg in args if isinstance(arg, Tensor) and arg.requires_grad)
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


def give(tensor: Tensor, grad: _core.Tensor, owned: bool = False) -> None:
    """Adds `grad`, a gradient that a kernel wrote, to what `tensor` has received so far.

    `owned` says that nobody else holds `grad`: what comes later may be added to it in place.
    """
    if not tensor.requires_grad:
        return
    held, held_owned = _held(tensor)
    if held is None:
        _hold(tensor, grad, owned)
    elif held_owned:
        _core.accumulate(held, grad, 1.0, True)
    else:
        _hold(tensor, _core.add(held, grad), True)


def sink(tensor: Tensor | None) -> tuple[_core.Tensor | None, bool]:
    """Where a kernel writes the gradient of `tensor` itself, and whether it must add to what is there."""
    if tensor is None or not tensor.requires_grad:
        return None, False
    held, owned = _held(tensor)
    if held is not None and owned:
        return held, True
    buffer = _core.Tensor.empty(list(tensor.shape)) if held is None else held.clone()
    _hold(tensor, buffer, True)
    return buffer, held is not None


def _held(tensor: Tensor) -> tuple[_core.Tensor | None, bool]:
    if tensor.function is not None:
        return tensor.function.grad, tensor.function.grad_owned
    return (None if tensor.grad is None else tensor.grad.data), tensor.grad_owned


def _hold(tensor: Tensor, grad: _core.Tensor, owned: bool) -> None:
    if tensor.function is not None:
        tensor.function.grad, tensor.function.grad_owned = grad, owned
    else:
        tensor.grad, tensor.grad_owned = Tensor(grad), owned


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
        stack.extend((t.function, False) for t in function.inputs if t.function is not None)
    return order
