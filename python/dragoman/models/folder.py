"""Loading a model from the folder that `Model.save` wrote, or from one of sharded weights."""

from __future__ import annotations

import errno
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from dragoman import arguments
from dragoman.arguments import shown
from dragoman.files import SafetensorsFile
from dragoman.json_file import parse_object, read_bytes, read_object
from dragoman.models.base import CONFIG, TOKENIZER, WEIGHTS, Model, digest_field, registered_class
from dragoman.models.config import ModelConfig
from dragoman.nn.init import skip_init

INDEX = WEIGHTS + ".index.json"  # of weights in several files, as transformers and safetensors write them

_OLDEST_MODEL = "encoder_decoder"  # of a config.json from before it named its model
_MAXIMUM = {CONFIG: 1 << 20, TOKENIZER: 1 << 26}  # bytes


@contextmanager
def model_folder(folder: Path) -> Iterator[None]:
    """Inside, a missing file is a FileNotFoundError that names the folder and says what it lacks."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        lacks = f" (it has no {Path(str(error.filename)).name})" if folder.is_dir() else ""
        raise FileNotFoundError(errno.ENOENT, f"not a model folder{lacks}", str(folder)) from None


def load(folder: str | Path) -> Model:
    """The model that `Model.save` wrote, in inference mode.

    config.json names the kind of model, of those that `dragoman.models.register` knows. Weights may be float32, float16
    or bfloat16, which are widened, in model.safetensors or in the files that model.safetensors.index.json lists.
    Every name and shape is compared with the config before weights are read.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: naming the file and what in it does not fit. Weights that were saved with another config.json or
            tokenizer.json, by their SHA-256, do not fit either: a save may have been interrupted, or a file edited.
    """
    arguments.check_path("load", "folder", folder)
    return load_with(Path(folder), {})


def load_with(folder: Path, contents: Mapping[str, bytes]) -> Model:
    """As `load`, where the `contents` of files in the folder, by name, are known: they are what weights must fit."""
    with model_folder(folder):
        content = read_bytes(folder / CONFIG, _MAXIMUM[CONFIG])
        model_class, config = _parse_config(folder / CONFIG, content)
        path, weights = open_weights(folder)
    # The weights say how large the model can be: twice as large leaves room for a parameter that is made, then tied.
    values = sum(math.prod(file.headers[name].shape) for name, file in weights.items())
    try:
        with skip_init(max_parameters=2 * len(weights), max_values=2 * values):
            model = model_class(config)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{folder / CONFIG}: does not fit {path.name}: {error}") from error
    try:
        model.check_state({name: file.headers[name] for name, file in weights.items()})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    _check_digests(folder, {CONFIG: content, **contents}, weights)
    for name, parameter in model.named_parameters():
        parameter.copy_(weights[name].array(name))
    return model.eval()


def read_config(folder: Path) -> tuple[type[Model], ModelConfig]:
    """The class and the config of the model in a folder. OSError, ValueError as in `load`."""
    with model_folder(folder):
        return _parse_config(folder / CONFIG, read_bytes(folder / CONFIG, _MAXIMUM[CONFIG]))


def _parse_config(path: Path, content: bytes) -> tuple[type[Model], ModelConfig]:
    values = parse_object(content, str(path))
    try:
        model_class = registered_class(values.pop("model", _OLDEST_MODEL))
        return model_class, model_class.config_class.from_dict(values)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path}: {error}") from error


def _check_digests(folder: Path, contents: Mapping[str, bytes], weights: Mapping[str, SafetensorsFile]) -> None:
    """ValueError unless the files beside the weights are those that they were saved with. Older weights do not say."""
    for file in set(weights.values()):
        for name, maximum in _MAXIMUM.items():
            expected = file.metadata.get(digest_field(name))
            if expected is None:
                continue
            content = contents[name] if name in contents else read_bytes(folder / name, maximum)
            if sha256(content).hexdigest() != expected:
                raise ValueError(
                    f"{folder / name}: must be the file that {Path(file.path).name} was saved with, got another one; "
                    "save the model again to change it"
                )


def open_weights(folder: Path) -> tuple[Path, dict[str, SafetensorsFile]]:
    """The file that holds or lists the weights, and by the name of each weight the file that holds it."""
    path, index = folder / WEIGHTS, folder / INDEX
    if path.exists() or not index.exists():
        file = SafetensorsFile(path)
        return path, dict.fromkeys(file.headers, file)
    files = read_object(index).get("weight_map")
    if not isinstance(files, dict):
        raise ValueError(f"{index}: weight_map must be an object, got {type(files).__name__}")
    for name, shard in files.items():
        if not isinstance(shard, str) or Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise ValueError(f"{index}: {shown(name)} must be in a .safetensors file beside it, got {shown(shard)}")
    shards = {shard: SafetensorsFile(folder / shard) for shard in sorted(set(files.values()))}
    for name, shard in files.items():
        if name not in shards[shard].headers:
            raise ValueError(f"{folder / shard}: must hold {shown(name)}, as {INDEX} says")
    return index, {name: shards[shard] for name, shard in files.items()}
