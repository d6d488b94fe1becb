"""Loading a model from the folder that `Model.save` wrote, or from one of sharded weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy.typing as npt

from dragoman import arguments
from dragoman.files import read_arrays
from dragoman.models.base import CONFIG, WEIGHTS, Model, registered_class
from dragoman.models.config import ModelConfig
from dragoman.nn.init import skip_init

INDEX = WEIGHTS + ".index.json"  # of weights in several files, as transformers and safetensors write them

_OLDEST_MODEL = "encoder_decoder"  # of a config.json from before it named its model


def load(folder: str | Path) -> Model:
    """The model that `Model.save` wrote, in inference mode.

    config.json names the kind of model, of those that `dragoman.models.register` knows. Weights may be float32, float16
    or bfloat16, which are widened, in model.safetensors or in the files that model.safetensors.index.json lists.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: naming the file and what in it does not fit.
    """
    arguments.check_path("load", "folder", folder)
    folder = Path(folder)
    model_class, config = _read_config(folder / CONFIG)
    path, weights = _read_weights(folder)
    # The weights say how large the model can be: twice as large leaves room for a parameter that is made, then tied.
    values = sum(array.size for array in weights.values())
    try:
        with skip_init(max_parameters=2 * len(weights), max_values=2 * values):
            model = model_class(config)
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG}: does not fit {path.name}: {error}") from None
    try:
        model.load_state_dict(weights)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return model.eval()


def _read_config(path: Path) -> tuple[type[Model], ModelConfig]:
    values = _read_object(path)
    try:
        model_class = registered_class(values.pop("model", _OLDEST_MODEL))
        return model_class, model_class.config_class.from_dict(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _read_weights(folder: Path) -> tuple[Path, dict[str, npt.NDArray[Any]]]:
    """The file that holds or lists the weights, and these by name."""
    path, index = folder / WEIGHTS, folder / INDEX
    if path.exists() or not index.exists():
        return path, read_arrays(path)
    files = _read_object(index).get("weight_map")
    if not isinstance(files, dict):
        raise ValueError(f"{index}: weight_map must be an object, got {type(files).__name__}")
    for name, file in files.items():
        if not isinstance(file, str) or Path(file).name != file or not file.endswith(".safetensors"):
            raise ValueError(f"{index}: {name} must be in a .safetensors file beside it, got {file!r}")
    shards = {file: read_arrays(folder / file) for file in sorted(set(files.values()))}
    for name, file in files.items():
        if name not in shards[file]:
            raise ValueError(f"{folder / file}: must hold {name}, as {INDEX} says")
    return index, {name: shards[file][name] for name, file in files.items()}


def _read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. ValueError, naming the file, for anything else."""
    try:
        values = json.loads(path.read_bytes())
        if not isinstance(values, dict):
            raise ValueError(f"must hold an object, got {type(values).__name__}")
        return values
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from None
