"""Opens a folder of theirs as a model of ours."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman.arguments import shown
from dragoman.frozen import Filler
from dragoman.interop.huggingface.beside import with_files_beside
from dragoman.interop.huggingface.family import SAME, Layout, family_of
from dragoman.interop.huggingface.fields import Fields
from dragoman.interop.huggingface.weights import Tensors, open_tensors
from dragoman.models import Model, ModelConfig
from dragoman.models.base import CONFIG, class_of_config
from dragoman.models.freezing import fill_frozen
from dragoman.nn.init import skip_init


def load(op: str, folder: Path, values: Mapping[str, Any], device: str, compute_type: str) -> Model:
    """The model in a folder of theirs, in inference mode.

    Each tensor is read into its parameter, on all threads. Beside the model, memory holds some rows of a weight that is
    frozen, or one tensor where its form changes, as where it is transposed.

    Args:
        op: in whose name errors are raised.
        folder: of the model.
        values: of its config.json.
        device: where the model shall lie.
        compute_type: as of `dragoman.load`.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: naming the file and the field or the tensor that does not fit. Every field that changes the model
            must be understood, and every tensor have its place.
    """
    fields, tensors, layout = _open(folder, values)
    model_class = class_of_config(type(layout.config))
    held = sum(math.prod(header.shape) for header in tensors.values())
    try:
        # The files say how large the model can be. Twice as large leaves room for a parameter that is made, then tied;
        # a tensor may be three parameters: queries, keys and values.
        with skip_init(max_parameters=6 * len(tensors), max_values=2 * held):
            model = model_class(layout.config)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{fields.path}: does not fit {tensors.path.name}: {error}") from error
    _check(model, layout, tensors)
    model.origin, model.origin_folder = dict(values), folder

    def read(ours: str) -> npt.NDArray[np.float32]:
        array = tensors.array(layout.name(ours))
        return array if layout.form(ours) is SAME else layout.form(ours).read(array)

    def filler(ours: str) -> Filler | None:
        return partial(tensors.fill, layout.name(ours)) if layout.form(ours) is SAME else None

    if compute_type != "default":
        fill_frozen(model, compute_type, read, device, tensors.path, filler)
        return model
    for ours, parameter in model.named_parameters():
        if layout.form(ours) is SAME:
            tensors.fill(layout.name(ours), 0, parameter.data)
        else:
            parameter.copy_(read(ours))
    return model.to(device).eval()


def read_config(folder: Path, values: Mapping[str, Any]) -> tuple[type[Model], ModelConfig]:
    """The class and the config of the model in a folder of theirs. Errors as of `load`."""
    _, _, layout = _open(folder, values)
    return class_of_config(type(layout.config)), layout.config


def _open(folder: Path, values: Mapping[str, Any]) -> tuple[Fields, Tensors, Layout]:
    fields = Fields(values, folder / CONFIG)
    family = family_of(fields)
    fields.only("quantization_config", None)
    tensors = open_tensors(folder, family.aliases)
    try:
        return fields, tensors, with_files_beside(folder, family.layout(fields, tensors), tensors)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"{fields.path}: {error}") from error
    except ValueError as error:  # of a config, which knows no file
        known = str(error).startswith(str(folder))
        raise error if known else ValueError(f"{fields.path}: {error}") from error


def _check(model: Model, layout: Layout, tensors: Tensors) -> None:
    """ValueError unless each parameter has its tensor, of the right shape and dtype, and each tensor a use."""
    used = set()
    for ours, parameter in model.named_parameters():
        theirs = layout.name(ours)
        if theirs not in tensors:
            raise ValueError(f"{tensors.path}: must hold {shown(theirs)}, got no such tensor")
        expected = layout.form(ours).shape(parameter.shape)
        if tensors[theirs].shape != expected:
            raise ValueError(f"{tensors.stored(theirs)} must have shape {expected}, got {tensors[theirs].shape}")
        tensors.check_floats(theirs)
        used.add(theirs)
    for theirs in tensors:
        if theirs not in used and not layout.ignores(theirs):
            raise ValueError(f"{tensors.stored(theirs)} must have a place in the model, got an unknown tensor")
