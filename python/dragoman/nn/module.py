"""Module: a tree of layers and their parameters, found by looking at a module's attributes."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

from dragoman.arguments import check_arrays, check_types, flag
from dragoman.arrays import DTYPES, check_device
from dragoman.frozen import FrozenWeight
from dragoman.grad_mode import no_grad
from dragoman.nn.weight import Parameter
from dragoman.tensor import Tensor

Weight = TypeVar("Weight", Parameter, FrozenWeight)

FLOATS = (np.dtype(np.float32), np.dtype(np.float16), DTYPES["bfloat16"])  # that a state may hold


class _Header(Protocol):
    """An array, or what a file says of one."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...


class Module:
    """Base of every layer.

    An attribute that is a Parameter, a Module or a list of Modules belongs to the module, under its name:
    `encoder.layers.0.norm1.weight`. A parameter held in several places (tied) counts once, under its first.

    Attributes:
        training: whether dropout is at work; set it for the whole tree by `train` and `eval`.
    """

    training: bool = True

    def children(self) -> Iterator[tuple[str, Module]]:
        """The modules held directly, with their names."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value
            elif isinstance(value, list):
                yield from ((f"{name}.{i}", item) for i, item in enumerate(value) if isinstance(item, Module))

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module, named `prefix`, and all below it, parents first."""
        check_types("named_modules", str, prefix=prefix)
        left: list[tuple[str, Module]] = [(prefix, self)]
        while left:
            prefix, module = left.pop()
            yield prefix, module
            below = [(f"{prefix}.{name}" if prefix else name, child) for name, child in module.children()]
            left += reversed(below)

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter of the tree once, with its dotted name."""
        return self._named(Parameter)

    def named_frozen(self) -> Iterator[tuple[str, FrozenWeight]]:
        """Every frozen weight of the tree once, with its dotted name: see `dragoman.models.Model.freeze`."""
        return self._named(FrozenWeight)

    def parameters(self) -> list[Parameter]:
        """Every parameter of the tree once."""
        return [parameter for _, parameter in self.named_parameters()]

    def num_parameters(self) -> int:
        """Number of values in all parameters and frozen weights, tied ones counted once."""
        return sum(parameter.size for parameter in self.parameters()) + sum(w.size for _, w in self.named_frozen())

    def state_dict(self, *, copy: bool = True) -> dict[str, npt.NDArray[Any]]:
        """Every parameter by name: float32 copies, or with copy=False read-only views, which training changes.
        From another device than the CPU they are copies in both cases.

        Raises:
            ValueError: the model is frozen.
        """
        copy = flag("state_dict", "copy", copy)
        self.check_not_frozen("state_dict", "`save` writes it")
        arrays = ((name, parameter.numpy()) for name, parameter in self.named_parameters())
        return {name: array.copy() if copy else array for name, array in arrays}

    def load_state_dict(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Copies `state` into the parameters' memory; nothing is changed if it does not fit.

        Args:
            state: float32 arrays by name, or float16 and bfloat16 ones, which are widened.

        Raises:
            ValueError: a parameter is missing, has no place here, or has another shape or dtype; the model is frozen.
        """
        self.check_state(state)
        for name, parameter in self.named_parameters():
            parameter.copy_(state[name])

    def check_state(self, state: Mapping[str, _Header]) -> None:
        """Raises as `load_state_dict`. Of each array only shape and dtype are looked at."""
        check_arrays("load_state_dict", "state", state)
        self.check_not_frozen("load_state_dict", "load into the model that it was made from")
        parameters = dict(self.named_parameters())
        if missing := [name for name in parameters if name not in state]:
            raise ValueError(f"load_state_dict: missing parameters: {_some(missing)}")
        if unexpected := [name for name in state if name not in parameters]:
            raise ValueError(f"load_state_dict: unexpected parameters: {_some(unexpected)}")
        for name, parameter in parameters.items():
            if state[name].shape != parameter.shape:
                raise ValueError(f"load_state_dict: {name} must have shape {parameter.shape}, got {state[name].shape}")
            if state[name].dtype not in FLOATS:
                expected = "float32, float16 or bfloat16"
                raise ValueError(f"load_state_dict: {name} must be {expected}, got {state[name].dtype}")

    def check_not_frozen(self, op: str, instead: str) -> None:
        """ValueError in the name of `op`, which says what to do instead, for a tree with frozen weights."""
        for _, weight in self.named_frozen():
            raise ValueError(f"{op}: the model is frozen in {weight.dtype}; {instead}")

    def to(self, device: str) -> Self:
        """Moves all parameters, with their gradients, and all other tensors that the tree holds to `device`.

        Parameters keep their identity. An optimizer made before holds their old memory: make it afterwards.

        Raises:
            TypeError, ValueError: no such device; the model is frozen on another one.
        """
        check_device("to", device)
        place = "cuda" if device == "cuda:0" else device
        for _, weight in self.named_frozen():
            if weight.device != place:
                other = f"freeze another one for {device} in bfloat16"
                self.check_not_frozen("to", other if weight.dtype == "int8" else f"load it on {device}")
        for parameter in self.parameters():
            parameter.move(device)
        for _, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, Tensor) and not isinstance(value, Parameter):
                    setattr(module, name, value.detach().to(device))
        return self

    def train(self, mode: bool = True) -> Self:
        """Puts the whole tree into training mode, or into inference mode for `mode=False`.

        Raises:
            ValueError: training mode for a model that is frozen.
        """
        mode = flag("train", "mode", mode)
        if mode:
            self.check_not_frozen("train", "train the model that it was made from")
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Puts the whole tree into inference mode: no dropout."""
        return self.train(False)

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Inside, the tree runs without dropout and off the tape; afterwards its modes are what they were.

        Several threads may be inside at a time: the last one to leave restores the modes.
        """
        entry = _enter(self)
        try:
            with no_grad():
                yield
        finally:
            _leave(entry)

    def __repr__(self) -> str:
        return "\n".join(self._tree(type(self).__name__, "", {}))

    def _named(self, kind: type[Weight]) -> Iterator[tuple[str, Weight]]:
        """What the tree holds of a kind of weight, each once, with its dotted name."""
        seen: set[int] = set()
        for prefix, module in self.named_modules():
            for name, weight in vars(module).items():
                if isinstance(weight, kind) and id(weight) not in seen:
                    seen.add(id(weight))
                    yield f"{prefix}.{name}" if prefix else name, weight

    def _tree(self, title: str, prefix: str, names: dict[int, str]) -> Iterator[str]:
        """The lines of `repr`; `names` holds the first name of every parameter shown so far."""
        count = self.num_parameters()
        yield f"{title}, {count:,} parameters" if count else title
        for name, weight in vars(self).items():
            if not isinstance(weight, Parameter | FrozenWeight):
                continue
            first = names.setdefault(id(weight), prefix + name)
            size = f"{weight.size:,}" if first == prefix + name else f"tied to {first}"
            frozen = f" {weight.dtype}" if isinstance(weight, FrozenWeight) else ""
            yield f"  {name} {weight.shape} {size}{frozen}"
        for name, child in self.children():
            for line in child._tree(f"{name}: {type(child).__name__}", f"{prefix}{name}.", names):
                yield f"  {line}"


Entry = tuple[int, list[Module]]  # a thread, the modules that go back to training mode when it leaves

_in_inference: list[Entry] = []
_entering = threading.RLock()


def _enter(root: Module) -> Entry:
    with _entering:
        held = _held(_in_inference)
        modules = [module for _, module in root.named_modules() if module.training or id(module) in held]
        entry = threading.get_ident(), modules
        _in_inference.append(entry)
        for module in modules:
            module.training = False
    return entry


def _leave(*entries: Entry) -> None:
    with _entering:
        staying = [entry for entry in _in_inference if not any(entry is leaving for leaving in entries)]
        held = _held(staying)
        for _, modules in entries:
            for module in modules:
                if id(module) not in held:
                    module.training = True
        _in_inference[:] = staying


def _held(entries: list[Entry]) -> set[int]:
    """The modules of some entries, by id."""
    return {id(module) for _, modules in entries for module in modules}


def _after_fork() -> None:
    """In a child, leaves for the threads that it does not have."""
    global _entering
    _entering = threading.RLock()
    _leave(*[entry for entry in _in_inference if entry[0] != threading.get_ident()])


os.register_at_fork(after_in_child=_after_fork)


def _some(names: list[str], maximum: int = 5) -> str:
    more = f" and {len(names) - maximum} more" if len(names) > maximum else ""
    return ", ".join(names[:maximum]) + more
