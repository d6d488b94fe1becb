"""Folders of sentence-transformers: modules that make a text's vector of an encoder's rows.

modules.json lists them: Transformer, Pooling, any number of Dense, and Normalize.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from dragoman.arguments import shown
from dragoman.files import array_parts
from dragoman.interop.huggingface.family import Layout
from dragoman.interop.huggingface.fields import Fields
from dragoman.interop.huggingface.weights import Tensors, open_tensors
from dragoman.json_file import MAXIMUM, parse_object, read_bytes, read_object
from dragoman.models import EncoderConfig, TextEncoder

MODULES = "modules.json"
_CONFIG = "config.json"  # of a module
_PROMPTS = "config_sentence_transformers.json"

# Of the first module: names of the file by the kind of model, in older folders.
_LENGTHS = tuple(
    f"sentence_{kind}_config.json" for kind in ("bert", "roberta", "distilbert", "camembert", "xlm-roberta", "mpnet")
)

# In the order in which several of them lie side by side.
_POOLINGS = {
    "cls": "first",
    "max": "max",
    "mean": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt",
    "weightedmean": "weighted_mean",
    "lasttoken": "last",
}
_POOLING_NAMES = {ours: theirs for theirs, ours in _POOLINGS.items()}
_POOLING_FLAGS = {  # older files
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}

_ACTIVATIONS = {
    "torch.nn.modules.linear.Identity": "none",
    "torch.nn.modules.activation.Tanh": "tanh",
    "torch.nn.modules.activation.ReLU": "relu",
    "torch.nn.modules.activation.GELU": "gelu",
    "torch.nn.modules.activation.SiLU": "silu",
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
}
_ACTIVATION_NAMES = {ours: theirs for theirs, ours in _ACTIVATIONS.items()}


def with_modules(folder: Path, layout: Layout, tensors: Tensors) -> Layout:
    """The layout of an encoder's folder, one without a head, with what its modules add, if it has a modules.json.

    The tensors of Dense modules are added to `tensors`, each after the name of its folder.

    Raises:
        OSError: a file cannot be read.
        ValueError: naming the file and the module or the field that is not understood.
    """
    assert isinstance(layout.config, EncoderConfig)
    if not (folder / MODULES).exists():
        return layout
    modules = _read_modules(folder)
    found: dict[str, Any] = {}
    names = []
    projections: list[dict[str, Any]] = []
    for kind, path in modules:
        config = folder / path / _CONFIG
        fields = Fields(read_object(config) if config.exists() else {}, config)
        if kind == "Pooling":
            found["pooling"] = _read_pooling(fields)
        elif kind == "Dense":
            names.append((rf"^projections\.{len(projections)}\.", f"{path}/linear."))
            projections.append(_read_dense(fields))
            tensors.add(f"{path}/", open_tensors(folder / path))
        else:
            _only_sentences(fields)
            found["normalise"] = True
    found["projections"] = tuple(projections)
    found |= _read_length(folder, layout.config) | _read_prompts(folder)
    return replace(layout, config=replace(layout.config, **found), names=(*layout.names, *names))


def module_files(model: TextEncoder) -> dict[str, list[Any]]:
    """The files of a sentence encoder's modules beside its encoder's own, in parts, by their names in the folder."""
    config = model.config
    places: list[tuple[str, str]] = [("Transformer", ""), ("Pooling", "1_Pooling")]
    kinds = [config.pooling] if isinstance(config.pooling, str) else config.pooling
    modes = [_POOLING_NAMES[kind] for kind in kinds]
    pooling: dict[str, Any] = {"word_embedding_dimension": config.d_model}
    pooling |= {flag: mode in modes for flag, mode in _POOLING_FLAGS.items()}
    if modes != [mode for mode in _POOLINGS if mode in modes]:  # in an order that the flags cannot tell
        pooling = {"embedding_dimension": config.d_model, "pooling_mode": modes}
    files: dict[str, list[Any]] = {f"1_Pooling/{_CONFIG}": _json(pooling)}
    for projection, fields in zip(model.projections, config.projections, strict=True):
        path = f"{len(places)}_Dense"
        places.append(("Dense", path))
        out, size = projection.weight.shape
        activation = _ACTIVATION_NAMES[fields.get("activation", "none")]
        bias = projection.bias is not None
        dense = {"in_features": size, "out_features": out, "bias": bias, "activation_function": activation}
        files[f"{path}/{_CONFIG}"] = _json(dense)
        state = {f"linear.{name}": array for name, array in projection.state_dict().items()}
        files[f"{path}/model.safetensors"] = array_parts(state, {"format": "pt"})
    if config.normalise:
        places.append(("Normalize", f"{len(places)}_Normalize"))
        files[f"{places[-1][1]}/{_CONFIG}"] = _json({})
    files[_LENGTHS[0]] = _json({"max_seq_length": config.max_length, "do_lower_case": False})
    files[_PROMPTS] = _json({"prompts": config.prompts or {}, "default_prompt_name": config.default_prompt})
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(places)
    ]
    files[MODULES] = _json(listed)
    return files


def _json(value: Any) -> list[bytes]:
    return [(json.dumps(value, indent=2) + "\n").encode()]


def _read_modules(folder: Path) -> list[tuple[str, str]]:
    """The modules after the first, each as its class and its folder."""
    path = folder / MODULES
    content = read_bytes(path, MAXIMUM)
    listed: Any = parse_object(b'{"modules":' + content + b"}", str(path))["modules"]
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise ValueError(f"{path}: must hold a list of modules, got {shown(listed)}")
    modules = list(_places(path, listed))
    kinds = [kind for kind, _ in modules]
    dense = kinds[2:].count("Dense")
    if kinds not in ([*("Transformer", "Pooling"), *["Dense"] * dense, *["Normalize"] * n] for n in (0, 1)):
        expected = "Transformer, Pooling, Dense where there is one, and Normalize, in this order"
        raise ValueError(f"{path}: modules must be {expected}, got {shown(', '.join(kinds))}")
    if modules[0][1]:
        raise ValueError(f"{path}: the path of Transformer must be the folder itself, got {shown(modules[0][1])}")
    return modules[1:]


def _places(path: Path, listed: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for i, module in enumerate(listed):
        kind, place = module.get("type"), module.get("path", "")
        if not isinstance(kind, str) or not kind.startswith("sentence_transformers."):
            raise ValueError(f"{path}: type of module {i} must be of sentence_transformers, got {shown(kind)}")
        if not isinstance(place, str) or place != Path(place).name:
            raise ValueError(f"{path}: path of module {i} must be a folder in this one, got {shown(place)}")
        yield kind.rpartition(".")[2], place


def _read_pooling(fields: Fields) -> str | tuple[str, ...]:
    fields.only("include_prompt", True)
    modes: Any = fields.values.get("pooling_mode")
    if modes is None:
        for name in fields.values:
            if name.startswith("pooling_mode_") and name not in _POOLING_FLAGS:
                fields.only(name, False)
        modes = [mode for flag, mode in _POOLING_FLAGS.items() if fields.flag(flag, False)] or ["mean"]
    modes = [modes] if isinstance(modes, str) else modes
    if not isinstance(modes, list) or not modes or any(mode not in list(_POOLINGS) for mode in modes):
        raise fields.error("pooling_mode", f"one of {', '.join(_POOLINGS)}, or a list of them")
    kinds = tuple(_POOLINGS[mode] for mode in modes)
    return kinds if len(kinds) > 1 else kinds[0]


def _read_dense(fields: Fields) -> dict[str, Any]:
    _only_sentences(fields)
    fields.only("use_residual", False)
    return {
        "features": fields.size("out_features"),
        "activation": fields.choice("activation_function", _ACTIVATIONS, "tanh"),
        "bias": fields.flag("bias", True),
    }


def _only_sentences(fields: Fields) -> None:
    """Refuses a module that reads or writes anything but the text's vector."""
    fields.only("module_input_name", "sentence_embedding")
    fields.only("module_output_name", "sentence_embedding")


def _read_length(folder: Path, config: EncoderConfig) -> dict[str, Any]:
    """Texts may be cut to fewer tokens than there are positions."""
    path = next((folder / name for name in _LENGTHS if (folder / name).exists()), None)
    if path is None:
        return {}
    fields = Fields(read_object(path), path)
    fields.only("do_lower_case", False)
    length = min(fields.size("max_seq_length", config.max_length), config.max_length)
    if config.positions != "learned" or length == config.max_length:
        return {"max_length": length}
    return {"max_length": length, "position_rows": config.position_rows or config.max_length}


def _read_prompts(folder: Path) -> dict[str, Any]:
    path = folder / _PROMPTS
    if not path.exists():
        return {}
    fields = Fields(read_object(path), path)
    fields.only("model_type", "SentenceTransformer")
    named = fields.section("prompts")
    default = fields.text("default_prompt_name", None)
    if named is None:
        return {}
    prompts = {name: named.text(name, "") for name in named.values}
    if default is not None and default not in prompts:
        raise fields.error("default_prompt_name", "the name of a prompt")
    return {"prompts": prompts or None, "default_prompt": default}
