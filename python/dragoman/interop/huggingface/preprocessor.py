"""preprocessor_config.json: how images become what a model of theirs reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dragoman.interop.huggingface.fields import Fields
from dragoman.json_file import read_object
from dragoman.models import VisionConfig

FILE = "preprocessor_config.json"

# Pillow's numbers of filters.
_RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}


def read_preprocessor(folder: Path, image_size: int) -> dict[str, Any]:
    """The fields of a VisionConfig about images, none where the folder has no such file.

    Args:
        folder: of the model.
        image_size: of the images that the model reads.

    Raises:
        OSError: the file cannot be read.
        ValueError: naming the file and the field that is not understood.
    """
    if not (folder / FILE).exists():
        return {}
    fields = Fields(read_object(folder / FILE), folder / FILE)
    fields.only("do_pad", False)
    if not fields.flag("do_rescale", True):
        raise fields.error("do_rescale", "true")
    factor = fields.number("rescale_factor", 1 / 255)
    if abs(factor * 255 - 1) > 1e-6:
        raise fields.error("rescale_factor", "1 / 255")
    found = _normalisation(fields) if fields.flag("do_normalize", True) else {"mean": (0.0,), "std": (1.0,)}
    cropped = fields.flag("do_center_crop", False)
    if cropped and _side(fields, "crop_size") != image_size:
        raise fields.error("crop_size", f"{image_size}, the image_size of the model")
    if fields.flag("do_resize", True):
        size = _side(fields, "size")
        if not cropped and size != image_size:
            raise fields.error("size", f"{image_size}, the image_size of the model")
        kind = fields.count("resample", 2)
        if kind not in _RESAMPLING:
            raise fields.error("resample", f"one of {', '.join(map(str, _RESAMPLING))}")
        found |= {"resize": size, "resample": _RESAMPLING[kind]}
    return found


def written_preprocessor(model_type: str, config: VisionConfig) -> dict[str, list[bytes]]:
    """The file for a model, in parts, by its name."""
    square = {"height": config.image_size, "width": config.image_size}
    size = config.resize or config.image_size
    values: dict[str, Any] = {
        "image_processor_type": {"vit": "ViTImageProcessor", "deit": "DeiTImageProcessor"}[model_type],
        "do_resize": config.resize is not None,
        "size": {"height": size, "width": size},
        "resample": next(number for number, name in _RESAMPLING.items() if name == config.resample),
        "do_center_crop": size != config.image_size,
        "crop_size": square,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": _per_channel(config, config.mean),
        "image_std": _per_channel(config, config.std),
    }
    return {FILE: [(json.dumps(values, indent=2) + "\n").encode()]}


def _normalisation(fields: Fields) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for ours, theirs in (("mean", "image_mean"), ("std", "image_std")):
        values: Any = fields.values.get(theirs)
        if values is None:
            values = [0.5]
        found[ours] = tuple(values) if isinstance(values, list) else (values,)
    return found


def _side(fields: Fields, name: str) -> int:
    """Height and width of a square, as an int or an object."""
    value: Any = fields.values.get(name)
    if isinstance(value, dict):
        height, width = value.get("height"), value.get("width")
        if height is None or height != width or len(value) != 2:
            raise fields.error(name, 'an int, or an object with "height" and "width" that are equal')
        value = height
    return Fields({name: value}, fields.path).size(name)


def _per_channel(config: VisionConfig, values: tuple[float, ...]) -> list[float]:
    return list(values * config.channels if len(values) == 1 else values)
