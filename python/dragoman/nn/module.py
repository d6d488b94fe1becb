"""Module: a tree of layers and their parameters, found by looking at a module's attributes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from dragoman import _core
from dragoman.arguments import check_types
from dragoman.tensor import Tensor, is_grad_enabled, no_grad


class Parameter(Tensor):
    """A trainable float32 Tensor with memory of its own, filled from `array`.

    A weight of matrix products is kept packed as well from its first product off the tape on, until it goes on the tape
    again: a second copy.

    Attributes:
        shadow: a bfloat16 copy of the values, which `copy_` and an optimizer's step keep true (what writes the memory
            through DLPack does not), or None.
    """

    __slots__ = ("_pack", "shadow")

    def __init__(self, array: npt.ArrayLike) -> None:
        self.shadow: _core.Tensor | None = None
        self._pack: tuple[str, int, _core.Tensor] | None = None  # dtype and version of the values, and their copy
        values = np.asarray(array, dtype=np.float32, order="C")
        super().__init__(_core.Tensor.empty(list(values.shape)), requires_grad=True)
        self.copy_(values)

    def copy_(self, array: npt.ArrayLike) -> None:
        super().copy_(array)
        self.shadow = None

    def packed(self, dtype: str) -> _core.Tensor | None:
        """The packed copy, made where there is none of these values; None on the tape, while a Program is recorded,
        which follows the weight itself, and where other libraries share the memory, as they may write it."""
        version = self.data.version
        if is_grad_enabled() or version == 0 or _core.is_recording() or len(self.shape) != 2:
            return None
        pack = self._pack
        if pack is None or pack[:2] != (dtype, version):
            self._pack = pack = (dtype, version, _core.pack_weight(self.data_as(dtype)))
        return pack[2]

    def data_as(self, dtype: str) -> _core.Tensor:
        if is_grad_enabled():
            self._pack = None  # training needs the memory
        if dtype != "bfloat16":
            return super().data_as(dtype)
        if self.shadow is None:
            self.shadow = super().data_as(dtype)
        return self.shadow


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
        yield prefix, self
        for name, child in self.children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter of the tree once, with its dotted name."""
        seen: set[int] = set()
        for prefix, module in self.named_modules():
            for name, parameter in module._own_parameters():
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield f"{prefix}.{name}" if prefix else name, parameter

    def parameters(self) -> list[Parameter]:
        """Every parameter of the tree once."""
        return [parameter for _, parameter in self.named_parameters()]

    def num_parameters(self) -> int:
        """Number of values in all parameters, tied ones counted once."""
        return sum(parameter.size for parameter in self.parameters())

    def state_dict(self, *, copy: bool = True) -> dict[str, npt.NDArray[Any]]:
        """Every parameter by name: float32 copies, or with copy=False read-only views, which training changes."""
        arrays = ((name, parameter.numpy()) for name, parameter in self.named_parameters())
        return {name: array.copy() if copy else array for name, array in arrays}

    def load_state_dict(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Copies `state` into the parameters' memory; nothing is changed if it does not fit.

        Raises:
            ValueError: a parameter is missing, has no place here, or has another shape or dtype.
        """
        parameters = dict(self.named_parameters())
        if missing := [name for name in parameters if name not in state]:
            raise ValueError(f"load_state_dict: missing parameters: {_some(missing)}")
        if unexpected := [name for name in state if name not in parameters]:
            raise ValueError(f"load_state_dict: unexpected parameters: {_some(unexpected)}")
        for name, parameter in parameters.items():
            if state[name].shape != parameter.shape:
                raise ValueError(f"load_state_dict: {name} must have shape {parameter.shape}, got {state[name].shape}")
            if state[name].dtype != np.float32:
                raise ValueError(f"load_state_dict: {name} must be float32, got {state[name].dtype}")
        for name, parameter in parameters.items():
            parameter.copy_(state[name])

    def train(self, mode: bool = True) -> Self:
        """Puts the whole tree into training mode, or into inference mode for `mode=False`."""
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Puts the whole tree into inference mode: no dropout."""
        return self.train(False)

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Inside, the tree runs without dropout and off the tape; afterwards its modes are what they were."""
        training = [module for _, module in self.named_modules() if module.training]
        for module in training:
            module.training = False
        try:
            with no_grad():
                yield
        finally:
            for module in training:
                module.training = True

    def __repr__(self) -> str:
        return "\n".join(self._tree(type(self).__name__, "", {}))

    def _own_parameters(self) -> Iterator[tuple[str, Parameter]]:
        return ((name, value) for name, value in vars(self).items() if isinstance(value, Parameter))

    def _tree(self, title: str, prefix: str, names: dict[int, str]) -> Iterator[str]:
        """The lines of `repr`; `names` holds the first name of every parameter shown so far."""
        count = self.num_parameters()
        yield f"{title}, {count:,} parameters" if count else title
        for name, parameter in self._own_parameters():
            first = names.setdefault(id(parameter), prefix + name)
            size = f"{parameter.size:,}" if first == prefix + name else f"tied to {first}"
            yield f"  {name} {parameter.shape} {size}"
        for name, child in self.children():
            for line in child._tree(f"{name}: {type(child).__name__}", f"{prefix}{name}.", names):
                yield f"  {line}"


def check_stack(op: str, layers: Any, norm: Any) -> None:
    """What a stack is made of: TypeError unless `layers` is a list of Modules and `norm` one or None."""
    if not isinstance(layers, list) or not layers or not all(isinstance(layer, Module) for layer in layers):
        names = [type(layer).__name__ for layer in layers] if isinstance(layers, list) else type(layers).__name__
        raise TypeError(f"{op}: layers must be a list of at least one Module, got {names}")
    if norm is not None:
        check_types(op, Module, norm=norm)


def _some(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
