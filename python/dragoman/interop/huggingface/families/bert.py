"""BERT (Devlin et al. 2019, arXiv:1810.04805), also as MiniLM and in sentence encoders."""

from __future__ import annotations

import re
from typing import Any

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

# Names inside a body, which RoBERTa has, too.
BODY_NAMES = (
    (r"^embedding\.weight", "embeddings.word_embeddings.weight"),
    (r"^embedding\.type_weight", "embeddings.token_type_embeddings.weight"),
    (r"^embedding\.norm", "embeddings.LayerNorm"),
    (r"^positions", "embeddings.position_embeddings"),
    (r"^encoder\.layers", "encoder.layer"),
    (r"self_attention\.q_proj", "attention.self.query"),
    (r"self_attention\.k_proj", "attention.self.key"),
    (r"self_attention\.v_proj", "attention.self.value"),
    (r"self_attention\.out_proj", "attention.output.dense"),
    (r"(encoder.*)norm1", r"\1attention.output.LayerNorm"),
    (r"(encoder.*)norm2", r"\1output.LayerNorm"),
    (r"feed_forward\.linear1", "intermediate.dense"),
    (r"feed_forward\.linear2", "output.dense"),
)
NAMES = (
    *BODY_NAMES,
    (r"^pooler", "pooler.dense"),
    (r"^(embeddings|encoder|pooler)\.", r"bert.\1."),
    (r"^head\.transform", "cls.predictions.transform.dense"),
    (r"^head\.norm", "cls.predictions.transform.LayerNorm"),
)
MASKED = (r"^head\.output\.weight", "cls.predictions.decoder.weight")
LABELS = ((r"^head\.output", "classifier"),)
POOLER = r"bert\.pooler\.dense\.(weight|bias)"


def layout(fields: Fields, tensors: Tensors) -> Layout:
    head = head_of(fields, tensors, "cls.predictions.transform.dense.weight", "bert.pooler.dense.weight")
    values = bert_fields(fields)
    tied = is_tied(fields, tensors, "bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight")
    config = EncoderConfig(
        **values,
        **row_fields(fields, 0, 512),
        **id_fields(fields, fields.count("pad_token_id", 0)),
        **label_fields(fields, head),
        token_types=fields.size("type_vocab_size", 2),
        pooler=has_pooler(head, tensors, "bert.pooler.dense.weight"),
        head=head,
        head_activation=values["activation"] if head == "mlm" else None,
        tie_embeddings=tied or head != "mlm",
    )
    ignored = [*BUFFERS]
    if not config.pooler:
        ignored.append(POOLER)
    if head != "mlm":
        return Layout(config, (*NAMES, *LABELS), ignored=ignored)
    bias, copy = bias_place(tensors, "cls.predictions.bias", "cls.predictions.decoder.bias")
    ignored += [r"cls\.seq_relationship\.(weight|bias)", re.escape(copy[0])]
    if tied:
        ignored.append(r"cls\.predictions\.decoder\.weight")
    return Layout(config, (*NAMES, MASKED, bias), ignored=ignored, copies=() if tied else (copy,))


def written(model: TextEncoder) -> dict[str, Any]:
    config = model.config
    return {**written_bert_fields("bert", "Bert", config), "type_vocab_size": config.token_types}


FAMILY = Family(
    ("bert",),
    layout,
    written,
    aliases=(*OLD_NAMES, (r"^(embeddings|encoder|pooler)\.", r"bert.\1.")),
)
