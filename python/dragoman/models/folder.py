"""Loading a model from the folder that `Model.save` wrote, or from one of sharded weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dragoman import arguments
from dragoman.files import SafetensorsFile
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
    path, weights = _open_weights(folder)
    # The weights say how large the model can be: twice as large leaves room for a parameter that is made, then tied.
    values = sum(file.sizes[name] for name, file in weights.items())
    try:
        with skip_init(max_parameters=2 * len(weights), max_values=2 * values):
            model = model_class(config)
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG}: does not fit {path.name}: {error}") from None
    try:
        model.load_state_dict({name: file.array(name) for name, file in weights.items()})
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


def _open_weights(folder: Path) -> tuple[Path, dict[str, SafetensorsFile]]:
    """The file that holds or lists the weights, and by the name of each weight the file that holds it."""
    path, index = folder / WEIGHTS, folder / INDEX
    if path.exists() or not index.exists():
        file = SafetensorsFile(path)
        return path, dict.fromkeys(file.sizes, file)
    files = _read_object(index).get("weight_map")
    if not isinstance(files, dict):
        raise ValueError(f"{index}: weight_map must be an object, got {type(files).__name__}")
    for name, shard in files.items():
        if not isinstance(shard, str) or Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise ValueError(f"{index}: {name} must be in a .safetensors file beside it, got {shard!r}")
    shards = {shard: SafetensorsFile(folder / shard) for shard in sorted(set(files.values()))}
    for name, shard in files.items():
        if name not in shards[shard].sizes:
            raise ValueError(f"{folder / shard}: must hold {name}, as {INDEX} says")
    return index, {name: shards[shard] for name, shard in files.items()}


def _read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. ValueError, naming the file, for anything else."""
    try:
        values = json.loads(path.read_bytes())
        if not isinstance(values, dict):
            raise ValueError(f"must hold an object, got {type(values).__name__}")
        return values
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from None
