"""RoBERTa (Liu et al. 2019, arXiv:1907.11692), XLM-RoBERTa and CamemBERT."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

from dragoman.interop.huggingface.families.bert import BODY_NAMES
from dragoman.interop.huggingface.families.text_encoder import (
    BUFFERS,
    OLD_NAMES,
    bert_fields,
    bias_place,
    has_pooler,
    head_of,
    id_fields,
    is_tied,
    label_fields,
    row_fields,
    written_bert_fields,
)
from dragoman.interop.huggingface.family import Family, Layout
from dragoman.interop.huggingface.fields import Fields
from dragoman.interop.huggingface.weights import Tensors
from dragoman.models import EncoderConfig, TextEncoder

Names = Sequence[tuple[str, str]]

# Heads, which MPNet has, too.
MASKED = (
    (r"^head\.transform", "lm_head.dense"),
    (r"^head\.norm", "lm_head.layer_norm"),
    (r"^head\.output\.weight", "lm_head.decoder.weight"),
)
TEXT_LABELS = ((r"^pooler", "classifier.dense"), (r"^head\.output", "classifier.out_proj"))
WORD_LABELS = ((r"^head\.output", "classifier"),)
POOLER = ((r"^pooler", "pooler.dense"),)
HEADS = {"mlm": MASKED, "classify": TEXT_LABELS, "tag": WORD_LABELS, "none": POOLER}

_CLASSES = {"roberta": "Roberta", "xlm-roberta": "XLMRoberta", "camembert": "Camembert"}


def head_config(fields: Fields, tensors: Tensors, prefix: str) -> dict[str, Any]:
    """The fields of a config of ours about the head. `prefix` is that of the body's tensors."""
    head = head_of(fields, tensors, "lm_head.dense.weight", "classifier.dense.weight")
    return {
        **label_fields(fields, head),
        "head": head,
        "pooler": has_pooler(head, tensors, f"{prefix}.pooler.dense.weight"),
        "tie_embeddings": head != "mlm"
        or is_tied(fields, tensors, f"{prefix}.embeddings.word_embeddings.weight", "lm_head.decoder.weight"),
    }


def with_head(config: EncoderConfig, tensors: Tensors, names: Names, prefix: str) -> Layout:
    """The layout of a model with that head. `names` are those of the body, `prefix` is that of its tensors. The body's
    pooler belongs to no head here."""
    names = (*names, *HEADS[config.head], (r"^(embeddings|encoder|pooler)\.", rf"{prefix}.\1."))
    ignored = [*BUFFERS]
    if config.head != "none":
        ignored.append(rf"{prefix}\.pooler\.dense\.(weight|bias)")
    if config.head != "mlm":
        return Layout(config, names, ignored=ignored)
    bias, copy = bias_place(tensors, "lm_head.bias", "lm_head.decoder.bias")
    ignored.append(re.escape(copy[0]))
    if config.tie_embeddings:
        ignored.append(r"lm_head\.decoder\.weight")
    return Layout(config, (bias, *names), ignored=ignored, copies=() if config.tie_embeddings else (copy,))


def layout(fields: Fields, tensors: Tensors) -> Layout:
    pad_id = fields.count("pad_token_id", 1)
    config = EncoderConfig(
        **bert_fields(fields) | {"vocab_size": fields.size("vocab_size", 50265)},
        **row_fields(fields, pad_id + 1, 512),
        **id_fields(fields, pad_id),
        **head_config(fields, tensors, "roberta"),
        token_types=fields.size("type_vocab_size", 2),
    )
    return with_head(config, tensors, BODY_NAMES, "roberta")


def _written(model_type: str, model: TextEncoder) -> dict[str, Any]:
    config = model.config
    fields = written_bert_fields(model_type, _CLASSES[model_type], config)
    return {**fields, "type_vocab_size": config.token_types}


def _family(model_type: str) -> Family:
    aliases = (*OLD_NAMES, (r"^(embeddings|encoder|pooler)\.", r"roberta.\1."))
    return Family((model_type,), layout, partial(_written, model_type), aliases=aliases)


FAMILIES = tuple(map(_family, _CLASSES))
