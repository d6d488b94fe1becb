"""MPNet (Song et al. 2020, arXiv:2004.09297): BERT's body with one relative bias for all layers."""

from __future__ import annotations

from typing import Any

from dragoman.interop.huggingface.families.bert import BODY_NAMES
from dragoman.interop.huggingface.families.roberta import head_config, with_head
from dragoman.interop.huggingface.families.text_encoder import (
    OLD_NAMES,
    bert_fields,
    id_fields,
    row_fields,
    written_bert_fields,
)
from dragoman.interop.huggingface.family import Family, Layout
from dragoman.interop.huggingface.fields import Fields
from dragoman.interop.huggingface.weights import Tensors
from dragoman.models import EncoderConfig, TextEncoder

_OFFSET = 2  # of positions, whatever the padding token
_BUCKETS = 32  # of distances up to 128: their code has both as constants

_NAMES = (
    (r"^encoder\.layers\.0\.self_attention\.positions", "encoder.relative_attention_bias"),
    (r"self_attention\.([qkv])_proj", r"attention.attn.\1"),
    (r"self_attention\.out_proj", "attention.attn.o"),
    (r"^(encoder.*)norm1", r"\1attention.LayerNorm"),
    *BODY_NAMES,
)


def layout(fields: Fields, tensors: Tensors) -> Layout:
    fields.only("relative_attention_num_buckets", _BUCKETS)
    config = EncoderConfig(
        **bert_fields(fields) | {"vocab_size": fields.size("vocab_size", 30527)},
        **row_fields(fields, _OFFSET, 512),
        **id_fields(fields, fields.count("pad_token_id", 1)),
        **head_config(fields, tensors, "mpnet"),
        layers=({"positions": "relative"},),
        position_buckets=_BUCKETS,
    )
    return with_head(config, tensors, _NAMES, "mpnet")


def written(model: TextEncoder) -> dict[str, Any]:
    return {**written_bert_fields("mpnet", "MPNet", model.config), "relative_attention_num_buckets": _BUCKETS}


FAMILY = Family(
    ("mpnet",),
    layout,
    written,
    aliases=(*OLD_NAMES, (r"^(embeddings|encoder|pooler)\.", r"mpnet.\1.")),
)
