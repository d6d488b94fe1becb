"""Writes a model as a folder in the layout of the Hugging Face libraries."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman import _core, lora
from dragoman.arguments import shown
from dragoman.data.tokenizer import Tokenizer
from dragoman.files import ArrayHeader, array_parts, atomic_write_all
from dragoman.interop.huggingface.beside import files_beside
from dragoman.interop.huggingface.family import Layout, Part, family_named, joined
from dragoman.interop.huggingface.fields import Fields
from dragoman.interop.huggingface.tokenizers import PretrainedTokenizer, load_tokenizer
from dragoman.interop.huggingface.tokenizers.files import NAMES
from dragoman.interop.huggingface.weights import Tensors
from dragoman.json_file import read_object
from dragoman.models import EncoderConfig, Model, TextConfig, TransformerConfig
from dragoman.models.base import CONFIG, TOKENIZER, WEIGHTS
from dragoman.models.folder import is_theirs

# What lies beside the weights of a checkpoint and goes with them: tokenizers, settings, and the folders of
# sentence-transformers.
_BESIDE = (
    *(name for name in NAMES if name != CONFIG),
    *("normalizer.json", "chat_template.jinja", "preprocessor_config.json", "modules.json"),
    *("sentence_bert_config.json", "config_sentence_transformers.json"),
)
_MODULES = "[0-9]*_*/*"  # files of the modules of sentence-transformers

# Fields of a config that their config.json cannot always hold, and that do not change what the model computes.
_FREE = {
    *("max_length", "max_source_length", "pad_id", "bos_id", "eos_id", "unk_id", "start_id", "mask_id"),
    *("encoder", "decoder", "labels", "normalise", "projections", "prompts", "default_prompt", "position_rows"),
    *("mean", "std", "resize", "resample"),
}


def save(model: Model, folder: Path, model_type: str | None) -> None:
    """As `Model.save_pretrained`."""
    model.check_not_frozen("save_pretrained", "save the model that it was made from")
    origin = model.origin or {}
    kind = model_type or origin.get("model_type")
    if kind is None:
        raise ValueError("save_pretrained: model_type must be given for a model that came from no other library")
    family = family_named(kind)
    kept = origin if kind == origin.get("model_type") else {}
    values = {**kept, **family.fields(model), "dtype": "float32", "torch_dtype": "float32"}
    fields = Fields(values, (model.origin_folder or folder) / CONFIG)
    arrays = _arrays(model, family.layout(fields, Tensors()))
    again = family.layout(fields, Tensors(folder / WEIGHTS, dict.fromkeys(arrays, _Arrays(arrays)), family.aliases))
    _check_same(model, again, kind)
    folder.mkdir(parents=True, exist_ok=True)
    text = (json.dumps(values, indent=2, sort_keys=True) + "\n").encode()
    beside: dict[str | Path, Any] = {folder / name: parts for name, parts in files_beside(model, kind).items()}
    for path in beside:
        Path(path).parent.mkdir(exist_ok=True)
    weights = array_parts(arrays, {"format": "pt"})
    atomic_write_all({**beside, folder / CONFIG: [text], folder / WEIGHTS: weights})
    if model.origin_folder is not None:
        _copy_beside(model.origin_folder, folder)


def save_tokenizer(folder: Path, path: Path) -> bool:
    """Writes the tokenizer of a folder of theirs, if it has one, as one tokenizer.json of ours. Returns whether."""
    try:
        tokenizer = load_tokenizer(folder)
    except FileNotFoundError:
        return False
    tokenizer.save(path)
    return True


def _arrays(model: Model, layout: Layout) -> dict[str, npt.NDArray[Any]]:
    """Their tensors by name."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    parts: dict[str, dict[int, npt.NDArray[Any]]] = {}
    for ours, array in lora.merged_state(model).items():
        theirs, form = layout.name(ours), layout.form(ours)
        if ours.startswith("projections."):  # of sentence-transformers, in files of their own
            continue
        if isinstance(form, Part):
            parts.setdefault(theirs, {})[form.i] = form.write(array)
        elif theirs in arrays:
            raise ValueError(f"save_pretrained: two parameters must not have the name {shown(theirs)}")
        else:
            arrays[theirs] = form.write(array)
    arrays |= {theirs: joined(found) for theirs, found in parts.items()}
    for copy, original in layout.copies:
        if original in arrays:
            arrays.setdefault(copy, arrays[original])
    return arrays


def _check_same(model: Model, layout: Layout, kind: str) -> None:
    """ValueError unless the folder would be read as a model that computes the same."""
    config, again = model.config, layout.config
    if type(again) is not type(config):
        raise ValueError(
            f"save_pretrained: a model of model_type {kind} must have a {type(again).__name__}, "
            f"got a {type(config).__name__}"
        )
    pairs = [(config, again)]
    if isinstance(config, TransformerConfig) and isinstance(again, TransformerConfig):
        pairs += [(config.encoder_side, again.encoder_side), (config.decoder_side, again.decoder_side)]
    free = _FREE | set(config.rates)
    if isinstance(config, EncoderConfig) and config.head != "classify":
        free.add("pooling")  # of vectors, or of words
    for one, other in pairs:
        for field in dataclasses.fields(one):
            expected, got = getattr(other, field.name), getattr(one, field.name)
            if field.name not in free and expected != got and not _same_default(one, field.name, expected, got):
                raise ValueError(
                    f"save_pretrained: a model of model_type {kind} must have {field.name} {shown(expected)}, "
                    f"got {shown(got)}"
                )


def _same_default(config: Any, name: str, expected: Any, got: Any) -> bool:
    """Whether one of two values says by None what the other says by a number."""
    defaults: dict[str, Any] = {}
    if isinstance(config, TextConfig):
        head_dim = config.head_dim or config.d_model // config.num_heads
        defaults = {
            "head_dim": head_dim,
            "kv_heads": config.num_heads,
            "attention_scale": head_dim**-0.5,
            "position_distance": 128,
            "rotary_features": head_dim,
            "final_norm": config.norm_first,
            "tgt_vocab_size": config.vocab_size,
            "head_activation": "tanh" if getattr(config, "head", None) == "classify" else "gelu",
        }
    return name in defaults and {expected, got} <= {None, defaults[name]}


class _Arrays:
    """Arrays in memory, as a file of weights."""

    path = WEIGHTS

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self.headers = {name: ArrayHeader(array.shape, array.dtype) for name, array in arrays.items()}
        self._arrays = arrays

    def values(self, name: str, begin: int, end: int) -> npt.NDArray[Any]:
        return np.ascontiguousarray(self._arrays[name]).reshape(-1)[begin:end]

    def fill(self, name: str, begin: int, out: _core.Tensor) -> None:
        out.copy_(self.values(name, begin, begin + out.numel).astype(np.float32, copy=False).reshape(out.shape))


def _copy_beside(origin: Path, folder: Path) -> None:
    """Copies the files that came with the checkpoint, without those that the folder has already. A folder of ours has
    its tokenizer in one file."""
    if not (origin / CONFIG).exists():
        return
    if not is_theirs(read_object(origin / CONFIG)):
        if (origin / TOKENIZER).exists():
            tokenizer = Tokenizer.load(origin / TOKENIZER)
            if isinstance(tokenizer, PretrainedTokenizer):
                tokenizer.save_files(folder)
        return
    found = [origin / name for name in _BESIDE if (origin / name).is_file()]
    found += [path for path in origin.glob(_MODULES) if path.is_file() and path.suffix == ".json"]
    for path in found:
        target = folder / path.relative_to(origin)
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target)
