"""RoBERTa (Liu et al. 2019, arXiv:1907.11692), XLM-RoBERTa and CamemBERT."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from dragoman.interop.huggingface.families.bert import BODY_NAMES
from dragoman.interop.huggingface.families.text_encoder import (
    BUFFERS,
    OLD_NAMES,
    bert_fields,
    head_of,
    id_fields,
    is_tied,
    label_fields,
    pooler_fields,
    row_fields,
    written_bert_fields,
)
from dragoman.interop.huggingface.family import Family, Layout
from dragoman.interop.huggingface.fields import Fields
from dragoman.interop.huggingface.weights import Tensors
from dragoman.models import EncoderConfig, TextEncoder

# Heads, which MPNet has, too.
MASKED = (
    (r"^head\.transform", "lm_head.dense"),
    (r"^head\.norm", "lm_head.layer_norm"),
    (r"^head\.output\.bias", "lm_head.bias"),
    (r"^head\.output\.weight", "lm_head.decoder.weight"),
)
TEXT_LABELS = ((r"^pooler", "classifier.dense"), (r"^head\.output", "classifier.out_proj"))
WORD_LABELS = ((r"^head\.output", "classifier"),)
POOLER = ((r"^pooler", "pooler.dense"),)
HEADS = {"mlm": MASKED, "classify": TEXT_LABELS, "tag": WORD_LABELS, "none": POOLER}
HEAD_ALIASES = ((r"^lm_head\.decoder\.bias$", "lm_head.bias"),)

_CLASSES = {"roberta": "Roberta", "xlm-roberta": "XLMRoberta", "camembert": "Camembert"}


def head_config(fields: Fields, tensors: Tensors, prefix: str) -> dict[str, Any]:
    """The fields of a config of ours about the head. `prefix` is that of the body's tensors."""
    head = head_of(fields, tensors, "lm_head.dense.weight", "classifier.dense.weight")
    return {
        **label_fields(fields, head),
        **pooler_fields(head, tensors, f"{prefix}.pooler.dense.weight"),
        "head": head,
        "tie_embeddings": head != "mlm"
        or is_tied(fields, tensors, f"{prefix}.embeddings.word_embeddings.weight", "lm_head.decoder.weight"),
    }


def ignored_names(config: EncoderConfig, prefix: str) -> list[str]:
    """Tensors for which a model with that head has no use. The body's pooler belongs to no head here."""
    names = [*BUFFERS]
    if config.head != "none":
        names.append(rf"{prefix}\.pooler\.dense\.(weight|bias)")
    return [*names, r"lm_head\.decoder\.weight"] if config.head == "mlm" and config.tie_embeddings else names


def layout(fields: Fields, tensors: Tensors) -> Layout:
    pad_id = fields.id("pad_token_id")
    pad_id = 1 if pad_id is None else pad_id
    config = EncoderConfig(
        **bert_fields(fields) | {"vocab_size": fields.size("vocab_size", 50265)},
        **row_fields(fields, pad_id + 1, 512),
        **id_fields(fields, pad_id),
        **head_config(fields, tensors, "roberta"),
        token_types=fields.size("type_vocab_size", 2),
    )
    names = (*BODY_NAMES, *HEADS[config.head], (r"^(embeddings|encoder|pooler)\.", r"roberta.\1."))
    return Layout(config, names, ignored=ignored_names(config, "roberta"))


def _written(model_type: str, model: TextEncoder) -> dict[str, Any]:
    config = model.config
    fields = written_bert_fields(model_type, _CLASSES[model_type], config)
    return {**fields, "type_vocab_size": config.token_types}


def _family(model_type: str) -> Family:
    written: Callable[[TextEncoder], dict[str, Any]] = partial(_written, model_type)
    aliases = (*OLD_NAMES, (r"^(embeddings|encoder|pooler)\.", r"roberta.\1."), *HEAD_ALIASES)
    return Family((model_type,), layout, written, aliases=aliases)


FAMILIES = tuple(map(_family, _CLASSES))
