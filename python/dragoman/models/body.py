"""Fine-tuning: what a model takes over from a trained one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from dragoman import arguments
from dragoman.files import ArrayHeader
from dragoman.models.folder import load_theirs, open_weights
from dragoman.nn import Module
from dragoman.nn.module import FLOATS


@dataclass(frozen=True)
class BodyReport:
    """What `load_body` did, as names of parameters.

    Attributes:
        taken: parameters that have the folder's values now.
        new: parameters that the folder lacks; they keep their values, as the next do.
        other_shape: parameters that have another shape in the folder.
        unused: the folder's parameters that the model lacks.
    """

    taken: tuple[str, ...]
    new: tuple[str, ...]
    other_shape: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{len(self.taken)} parameters taken over"]
        for words, names in (
            ("new", self.new),
            ("of another shape, so new", self.other_shape),
            ("in the folder alone", self.unused),
        ):
            if names:
                lines.append(f"{len(names)} {words}: {', '.join(names)}")
        return "\n".join(lines)


def load_body(model: Module, folder: str | Path) -> BodyReport:
    """Copies from a trained model's folder every parameter that `model` has by the same name and shape.

    So a masked language model becomes the body of a classifier, whose head stays as it was made.

    Args:
        model: whose parameters are written.
        folder: with weights as `dragoman.load` reads them. Of ours, config.json is not read.

    Returns:
        What was taken over and what was not.

    Raises:
        OSError: the weights are missing or cannot be read.
        ValueError: naming the file, if none of its parameters fits or one is no float.
    """
    arguments.check_types("load_body", Module, model=model)
    arguments.check_path("load_body", "folder", folder)
    if (theirs := load_theirs("load_body", Path(folder))) is not None:
        path, arrays = Path(folder), dict(theirs.named_parameters())
        return _copied(
            model,
            path,
            {name: ArrayHeader(p.shape, FLOATS[0]) for name, p in arrays.items()},
            lambda name: arrays[name].numpy(),
        )
    path, weights = open_weights(Path(folder))
    headers = {name: file.headers[name] for name, file in weights.items()}
    return _copied(model, path, headers, lambda name: weights[name].array(name))


def _copied(
    model: Module, path: Path, headers: Mapping[str, ArrayHeader], read: Callable[[str], npt.NDArray[Any]]
) -> BodyReport:
    parameters = dict(model.named_parameters())
    found = {name: header for name, header in headers.items() if name in parameters}
    fits = {name: header for name, header in found.items() if header.shape == parameters[name].shape}
    if not fits:
        raise ValueError(f"{path}: must hold a parameter that the model has by name and shape, got none")
    for name, header in fits.items():
        if header.dtype not in FLOATS:
            raise ValueError(
                f"{path}: {name} must be float32, float16 or bfloat16, got {header.dtype}, "
                "as in a frozen model; give the one that it was made from"
            )
    for name in fits:
        parameters[name].copy_(read(name))
    return BodyReport(
        taken=tuple(fits),
        new=tuple(name for name in parameters if name not in found),
        other_shape=tuple(name for name in found if name not in fits),
        unused=tuple(name for name in headers if name not in parameters),
    )
