"""A model's weights, frozen for inference and kept in a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman import _core, arguments, lora
from dragoman.arrays import DTYPES
from dragoman.frozen import FROZEN_DTYPES, Filler, FrozenWeight, part_buffer, places, quantize
from dragoman.nn import Embedding, Linear, Module, Parameter
from dragoman.nn.lora import LoRALinear
from dragoman.runtime import empty_cache

SCALES = ".scales"  # after the name of an int8 weight, in the file


def freeze(model: Module, dtype: str) -> None:
    """Puts a FrozenWeight in the place of each weight of the model's Linears and Embeddings; see `Model.freeze`."""
    arguments.choice("freeze", "dtype", dtype, FROZEN_DTYPES)
    model.check_not_frozen("freeze", "freeze the model that it was made from")
    weights = _freezable(model)
    for name, weight in weights.items() if dtype == "int8" else ():
        if weight.device != "cpu":
            raise ValueError(f'freeze: dtype must be "bfloat16" or "float32" on {weight.device}, got "int8"')
        if not np.isfinite(weight.numpy()).all():
            raise ValueError(f'freeze: weights must be finite for "int8", got {name} with a value that is not')

    def frozen(name: str, place: _core.Tensor | None) -> FrozenWeight:
        weight = weights.pop(name)
        weight.forms.drop_packed()
        if dtype == "int8":
            return FrozenWeight(*quantize(weight.numpy()), place=place)
        return FrozenWeight(np.asarray(weight.numpy(), DTYPES[dtype]), None, weight.device, place)

    _replace(model, _places(weights, dtype), frozen)
    empty_cache()


def frozen_state(model: Module) -> dict[str, npt.NDArray[Any]]:
    """What a file keeps of a frozen model: parameters, values and, with int8, scales, by name. ValueError for a model
    with adapters."""
    if lora.adapters(model):
        raise ValueError("save: the model is frozen, so its adapters cannot be added to it; lora.save keeps them")
    state = {name: parameter.numpy() for name, parameter in model.named_parameters()}
    for name, weight in model.named_frozen():
        state[name] = weight.values()
        if weight.scales is not None:
            state[name + SCALES] = weight.scales.numpy()
    return state


def check_frozen_state(model: Module, dtype: str, headers: Mapping[str, Any]) -> None:
    """ValueError unless arrays of such shapes and dtypes, by name, are the `frozen_state` of the model in `dtype`."""
    expected: dict[str, tuple[tuple[int, ...], str]] = {}
    weights = _freezable(model)
    for name, parameter in model.named_parameters():
        expected[name] = parameter.shape, dtype if name in weights else "float32"
        if name in weights and dtype == "int8":
            expected[name + SCALES] = parameter.shape[:1], "float32"
    if missing := [name for name in expected if name not in headers]:
        raise ValueError(f"{missing[0]} is missing")
    for name, header in headers.items():
        if name not in expected:
            raise ValueError(f"{arguments.shown(name)} belongs to no weight of the model")
        shape, kind = expected[name]
        if header.shape != shape or header.dtype != DTYPES[kind]:
            raise ValueError(f"{name} must be {kind} of shape {shape}, got {header.dtype} of shape {header.shape}")


def fill_frozen(
    model: Module,
    dtype: str,
    read: Callable[[str], npt.NDArray[Any]],
    device: str,
    path: str | Path,
    filler: Callable[[str], Filler | None] = lambda name: None,
) -> None:
    """Freezes a new model, whose parameters hold no values yet. One array after the other is read, or some rows of it
    after the others.

    Args:
        model: to be filled.
        dtype: of the frozen weights.
        read: the stored array of a name: float32, float16 or bfloat16, or what `frozen_state` wrote in `dtype`.
        device: where the model shall be.
        path: of the file, for messages.
        filler: of a name, what reads rows of the stored array as float32; None where it can only be read whole.

    Raises:
        ValueError: naming the file and a weight for int8, or its scales, with a value that is not finite.
    """
    weights = _freezable(model)
    for name, parameter in model.named_parameters():
        if name not in weights:
            parameter.copy_(read(name))

    buffer = part_buffer(weight.shape for weight in weights.values())

    def frozen(name: str, place: _core.Tensor | None) -> FrozenWeight:
        fill = filler(name)
        if fill is not None and place is not None:
            return FrozenWeight.filled(weights[name].shape, dtype, fill, place, buffer, f"{path}: {name}")
        stored = read(name)
        if dtype != "int8":
            return FrozenWeight(np.asarray(stored, DTYPES[dtype]), None, device, place)
        if stored.dtype != np.int8:
            try:
                return FrozenWeight(*quantize(stored), place=place)
            except ValueError:
                raise ValueError(f'{path}: {name} must be finite for "int8", got a value that is not') from None
        scales = read(name + SCALES)
        if not np.isfinite(scales).all():
            raise ValueError(f"{path}: {name}{SCALES} must be finite, got a value that is not")
        return FrozenWeight(stored, scales, place=place)

    _replace(model, _places(weights, dtype, device), frozen)
    if device != "cpu":
        model.to(device)


def _freezable(model: Module) -> dict[str, Parameter]:
    """The weights that only Linears and Embeddings read, by name. A subclass may read its weight in its own way."""
    found: dict[int, tuple[str, Parameter]] = {}
    others: set[int] = set()
    for prefix, module in model.named_modules():
        known = type(module).__call__ in (Linear.__call__, LoRALinear.__call__, Embedding.__call__)
        for attribute, parameter in vars(module).items():
            if isinstance(parameter, Parameter):
                found.setdefault(id(parameter), (f"{prefix}.{attribute}" if prefix else attribute, parameter))
                if not known or attribute != "weight":
                    others.add(id(parameter))
    return {name: parameter for key, (name, parameter) in found.items() if key not in others}


Places = dict[str, _core.Tensor | None]


def _places(weights: Mapping[str, Parameter], dtype: str, device: str | None = None) -> Places:
    """A place for the packed copy of each weight, by name: on `device`, or where the weights are."""
    shapes = [weight.shape for weight in weights.values()]
    on = device or next((weight.device for weight in weights.values()), "cpu")
    return dict(zip(weights, places(shapes, dtype, on), strict=True))


def _replace(model: Module, place_of: Places, frozen: Callable[[str, _core.Tensor | None], FrozenWeight]) -> None:
    """One weight after the other, so that memory holds one of them twice."""
    modules = dict(model.named_modules())
    users: dict[int, list[Any]] = {}
    for module in modules.values():
        users.setdefault(id(vars(module).get("weight")), []).append(module)
    for name, place in place_of.items():
        sharing = users[id(vars(modules[name.rpartition(".")[0]])["weight"])]
        weight = frozen(name, place)
        for module in sharing:
            module.weight = weight
    for parameter in model.parameters():
        parameter.requires_grad = False
    model.eval()
