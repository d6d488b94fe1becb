"""ViT (Dosovitskiy et al. 2021, arXiv:2010.11929) and DeiT (Touvron et al. 2021, arXiv:2012.12877)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from dragoman.interop.huggingface.families.text_encoder import (
    label_kind,
    layer_fields,
    read_labels,
    written_labels,
    written_layer_fields,
)
from dragoman.interop.huggingface.family import Array, Family, Form, Layout
from dragoman.interop.huggingface.fields import Fields
from dragoman.interop.huggingface.weights import Tensors
from dragoman.models import VisionConfig, VisionTransformer

_HEADS = {
    "ForImageClassificationWithTeacher": "distilled",
    "ForImageClassification": "classify",
    "Model": "none",
}

_NAMES = (
    (r"^patches", "embeddings.patch_embeddings.projection"),
    (r"^class_token", "embeddings.cls_token"),
    (r"^distillation_token", "embeddings.distillation_token"),
    (r"^positions\.weight", "embeddings.position_embeddings"),
    (r"^encoder\.norm", "layernorm"),
    (r"^encoder\.layers", "encoder.layer"),
    (r"norm1", "layernorm_before"),
    (r"norm2", "layernorm_after"),
    (r"self_attention\.q_proj", "attention.attention.query"),
    (r"self_attention\.k_proj", "attention.attention.key"),
    (r"self_attention\.v_proj", "attention.attention.value"),
    (r"self_attention\.out_proj", "attention.output.dense"),
    (r"feed_forward\.linear1", "intermediate.dense"),
    (r"feed_forward\.linear2", "output.dense"),
    (r"^distillation_head\.output", "distillation_classifier"),
)
# Names that the library has in memory, and that files of others may have.
_NEW_NAMES = (
    (r"^((?:vit|deit)\.)?layers\.", r"\1encoder.layer."),
    (r"attention\.q_proj", "attention.attention.query"),
    (r"attention\.k_proj", "attention.attention.key"),
    (r"attention\.v_proj", "attention.attention.value"),
    (r"attention\.o_proj", "attention.output.dense"),
    (r"mlp\.fc1", "intermediate.dense"),
    (r"mlp\.fc2", "output.dense"),
)


@dataclass(frozen=True)
class Patches(Form):
    """A convolution's weight (d_model, channels, height, width), where ours is a matrix whose inputs are pixels in
    which the channels come last.

    Attributes:
        size: height and width.
    """

    size: int

    def read(self, array: Array) -> Array:
        return array.transpose(0, 2, 3, 1).reshape(len(array), -1)

    def write(self, array: Array) -> Array:
        return array.reshape(len(array), self.size, self.size, -1).transpose(0, 3, 1, 2)


class _Batch(Form):
    """Rows as a batch of one."""

    def read(self, array: Array) -> Array:
        return array.reshape(array.shape[1:])

    def write(self, array: Array) -> Array:
        return array[np.newaxis]


def layout(model_type: str, fields: Fields, tensors: Tensors) -> Layout:
    head = _head(fields, tensors)
    labels = () if head == "none" else read_labels(fields)
    distilled: Literal["none", "token", "head"] = "head" if head == "distilled" else "token"
    size = _side(fields, "image_size", 224)
    patch = _side(fields, "patch_size", 16)
    config = VisionConfig(
        **layer_fields(fields, dropout=0.0),
        attention_bias="qkvo" if fields.flag("qkv_bias", True) else "o",
        image_size=size,
        patch_size=patch,
        channels=fields.size("num_channels", 3),
        labels=labels,
        label_kind=label_kind(fields, labels) if labels else "one",
        distillation="none" if model_type == "vit" else distilled,
    )
    forms = ((r"patches\.weight", Patches(patch)), (r"(class|distillation)_token|positions\.weight", _Batch()))
    names = (
        *_NAMES,
        (r"^(embeddings|encoder|layernorm)\b", rf"{model_type}.\1"),
        (r"^head\.output", "cls_classifier" if head == "distilled" else "classifier"),
    )
    ignored = (rf"{model_type}\.pooler\.dense\.(weight|bias)", rf"{model_type}\.embeddings\.mask_token")
    return Layout(config, names, forms, ignored)


def _head(fields: Fields, tensors: Tensors) -> str:
    """The head, by "architectures", or else by what is in the files."""
    names: Any = fields.values.get("architectures")
    if names is None:
        if "cls_classifier.weight" in tensors:
            return "distilled"
        return "classify" if "classifier.weight" in tensors else "none"
    if isinstance(names, list) and len(names) == 1 and isinstance(names[0], str):
        kind, found, end = names[0].partition("For")
        name = found + end if found else "Model" if kind in ("ViTModel", "DeiTModel") else ""
        if name in _HEADS:
            return _HEADS[name]
    raise fields.error("architectures", f"a list of one name that ends in {', '.join(_HEADS)}")


def _side(fields: Fields, name: str, default: int) -> int:
    """A size of a square: an int, or two that are equal."""
    value: Any = fields.values.get(name)
    if isinstance(value, list):
        if len(value) != 2 or value[0] != value[1]:
            raise fields.error(name, "an int of at least 1, or a list of two that are equal")
        return int(Fields({name: value[0]}, fields.path).size(name))
    return fields.size(name, default)


def written(model_type: str, model: VisionTransformer) -> dict[str, Any]:
    config = model.config
    end = {"none": "Model", "classify": "ForImageClassification", "distilled": "ForImageClassificationWithTeacher"}
    head = "distilled" if config.distillation == "head" else "classify" if config.labels else "none"
    values: dict[str, Any] = {
        "model_type": model_type,
        "architectures": [{"vit": "ViT", "deit": "DeiT"}[model_type] + end[head]],
        **written_layer_fields(config),
        "qkv_bias": config.attention_bias == "qkvo",
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "num_channels": config.channels,
    }
    return values | written_labels(config.labels, config.label_kind) if config.labels else values


def _family(model_type: str) -> Family:
    aliases = (*_NEW_NAMES, (r"^(embeddings|encoder|layernorm|pooler)\b", rf"{model_type}.\1"))
    return Family((model_type,), partial(layout, model_type), partial(written, model_type), aliases=aliases)


FAMILIES = (_family("vit"), _family("deit"))
