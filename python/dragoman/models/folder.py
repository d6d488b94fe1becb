"""Loading a model from the folder that `Model.save` wrote, or from one of sharded weights."""

from __future__ import annotations

import errno
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from dragoman import arguments
from dragoman.arguments import shown
from dragoman.files import SafetensorsFile, atomic_write_all
from dragoman.frozen import FROZEN_DTYPES, Filler
from dragoman.json_file import parse_object, read_bytes, read_object
from dragoman.models.base import (
    CONFIG,
    FROZEN,
    ORIGIN,
    TOKENIZER,
    WEIGHTS,
    Model,
    check_replaceable,
    digest_field,
    huggingface,
    registered_class,
)
from dragoman.models.config import ModelConfig
from dragoman.models.freezing import check_frozen_state, fill_frozen
from dragoman.nn.init import skip_init

INDEX = WEIGHTS + ".index.json"  # of weights in several files, as transformers and safetensors write them

COMPUTE_TYPES = ("default", *FROZEN_DTYPES)

_OLDEST_MODEL = "encoder_decoder"  # of a config.json from before it named its model
_MAXIMUM = {CONFIG: 1 << 20, TOKENIZER: 1 << 26}  # bytes
_BESIDE = {TOKENIZER: _MAXIMUM[TOKENIZER], "task.json": 1 << 26}  # files that freezing copies


@contextmanager
def model_folder(folder: Path) -> Iterator[None]:
    """Inside, a missing file is a FileNotFoundError that names the folder and says what it lacks."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        if folder.is_dir() and Path(str(error.filename)) == folder:
            raise  # it says what the folder lacks
        lacks = f" (it has no {Path(str(error.filename)).name})" if folder.is_dir() else ""
        raise FileNotFoundError(errno.ENOENT, f"not a model folder{lacks}", str(folder)) from None


def is_theirs(values: Mapping[str, Any]) -> bool:
    """Whether a config.json is one of the Hugging Face libraries, not of ours."""
    return "model_type" in values and "format" not in values


def load(folder: str | Path, compute_type: str = "default") -> Model:
    """The model that `Model.save` wrote, or one in the layout of the Hugging Face libraries, in inference mode.

    Of ours, config.json names the kind of model, of those that `dragoman.models.register` knows. Weights may be
    float32, float16 or bfloat16, which are widened, in model.safetensors or in the files that
    model.safetensors.index.json lists. Every name and shape is compared with the config before weights are read.

    Of theirs, config.json names the family in "model_type"; docs/guide/checkpoints.md lists what opens. Weights may be
    safetensors or files of torch.save, of which nothing but tensors is read. A field that asks for something that is
    not there, and a tensor without a place, are errors.

    Args:
        folder: of the model.
        compute_type: "int8", "bfloat16" or "float32" for a model that is frozen in it (`Model.freeze`); "default" for
            one as it was saved, which can be trained unless it was frozen.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: naming the file and what in it does not fit. Weights that were saved with another config.json or
            tokenizer.json, by their SHA-256, do not fit either: a save may have been interrupted, or a file edited.
    """
    arguments.check_path("load", "folder", folder)
    return load_with("load", Path(folder), {}, compute_type=compute_type)


def load_with(
    op: str, folder: Path, contents: Mapping[str, bytes], device: str = "cpu", compute_type: str = "default"
) -> Model:
    """As `load` in the name of `op`, where the `contents` of files in the folder, by name, are known: they are what
    weights must fit."""
    arguments.choice(op, "compute_type", compute_type, COMPUTE_TYPES)
    if compute_type == "int8" and device != "cpu":
        raise ValueError(f'{op}: compute_type must be "bfloat16" or "float32" on {device}, got "int8"')
    with model_folder(folder):
        content = read_bytes(folder / CONFIG, _MAXIMUM[CONFIG])
        values = parse_object(content, str(folder / CONFIG))
        if is_theirs(values):
            model: Model = huggingface("loading").load(op, folder, values, device, compute_type)
            return model
        model_class, config, frozen, origin = _parse_config(folder / CONFIG, values)
        path, weights = open_weights(folder)
    # The weights say how large the model can be: twice as large leaves room for a parameter that is made, then tied.
    held = sum(math.prod(file.headers[name].shape) for name, file in weights.items())
    try:
        with skip_init(max_parameters=2 * len(weights), max_values=2 * held):
            model = model_class(config)
        model.origin, model.origin_folder = origin, folder if origin else None
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{folder / CONFIG}: does not fit {path.name}: {error}") from error
    if frozen is not None and compute_type not in ("default", frozen):
        raise ValueError(f'{op}: compute_type must be "{frozen}", which {folder} is frozen in, got "{compute_type}"')
    if frozen == "int8" and device != "cpu":
        raise ValueError(f'{op}: device must be "cpu" for {folder}, which is frozen in int8, got "{device}"')
    headers = {name: file.headers[name] for name, file in weights.items()}
    try:
        if frozen is None:
            model.check_state(headers)
        else:
            check_frozen_state(model, frozen, headers)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    _check_digests(folder, {CONFIG: content, **contents}, weights)
    if frozen is None and compute_type == "default":
        for name, parameter in model.named_parameters():
            weights[name].fill(name, 0, parameter.data)
        return model.to(device).eval()

    def filler(name: str) -> Filler | None:
        return partial(weights[name].fill, name) if frozen is None else None

    fill_frozen(model, frozen or compute_type, lambda name: weights[name].array(name), device, path, filler)
    return model


def load_theirs(op: str, folder: Path) -> Model | None:
    """The model in a folder of the Hugging Face libraries; None for another folder. Errors as of `load`."""
    path = folder / CONFIG
    return load_with(op, folder, {}) if path.exists() and is_theirs(read_object(path)) else None


def freeze_folder(folder: str | Path, output: str | Path, compute_type: str) -> Model:
    """Writes the model of a folder, frozen, to another folder, with its tokenizer.json and task.json.

    Of a folder of the Hugging Face libraries, the tokenizer becomes one tokenizer.json.

    Args:
        folder: of the model.
        output: made where missing.
        compute_type: "int8", "bfloat16" or "float32", as of `Model.freeze`.

    Returns:
        The frozen model.

    Raises:
        OSError: a file is missing, or cannot be read or written.
        ValueError: another compute type; `output` is `folder`, or holds a model that is not frozen, which would be
            lost; a file that does not fit, as in `load`; the model is frozen in another type.
    """
    arguments.check_path("freeze", "folder", folder)
    arguments.check_path("freeze", "output", output)
    folder, output = Path(folder), Path(output)
    arguments.choice("freeze", "compute_type", compute_type, FROZEN_DTYPES)
    if output.exists() and output.samefile(folder):
        raise ValueError(f"freeze: output must be another folder than {folder}, got {output}")
    check_replaceable("freeze", "output", output)
    model = load_with("freeze", folder, {}, compute_type=compute_type)
    theirs = is_theirs(read_object(folder / CONFIG))
    copied = {} if theirs else _BESIDE
    beside = {name: read_bytes(folder / name, size) for name, size in copied.items() if (folder / name).exists()}
    output.mkdir(parents=True, exist_ok=True)
    atomic_write_all({output / name: [content] for name, content in beside.items()})
    saved = huggingface("saving").save_tokenizer(folder, output / TOKENIZER) if theirs else TOKENIZER in beside
    model.save(output, beside=[TOKENIZER] if saved else [])
    return model


def read_config(folder: Path) -> tuple[type[Model], ModelConfig]:
    """The class and the config of the model in a folder. OSError, ValueError as in `load`."""
    with model_folder(folder):
        values = parse_object(read_bytes(folder / CONFIG, _MAXIMUM[CONFIG]), str(folder / CONFIG))
        if is_theirs(values):
            found: tuple[type[Model], ModelConfig] = huggingface("loading").read_config(folder, values)
            return found
        return _parse_config(folder / CONFIG, values)[:2]


def _parse_config(
    path: Path, values: dict[str, Any]
) -> tuple[type[Model], ModelConfig, str | None, dict[str, Any] | None]:
    """Class, config, the dtype in which the model is frozen, and the config.json of theirs that it came from."""
    try:
        model_class = registered_class(values.pop("model", _OLDEST_MODEL))
        frozen, origin = values.pop(FROZEN, None), values.pop(ORIGIN, None)
        if frozen is not None:
            arguments.choice("config", FROZEN, frozen, FROZEN_DTYPES)
        if origin is not None:
            arguments.check_types("config", dict, **{ORIGIN: origin})
        return model_class, model_class.config_class.from_dict(values), frozen, origin
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
