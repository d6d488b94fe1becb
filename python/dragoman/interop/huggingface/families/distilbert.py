"""DistilBERT (Sanh et al. 2019, arXiv:1910.01108)."""

from __future__ import annotations

from typing import Any

from dragoman.interop.huggingface.families.text_encoder import (
    BUFFERS,
    EMBEDDED,
    OLD_NAMES,
    common_fields,
    head_of,
    id_fields,
    is_tied,
    label_fields,
    row_fields,
)
from dragoman.interop.huggingface.family import ACTIVATION_NAMES, ACTIVATIONS, Family, Layout
from dragoman.interop.huggingface.fields import Fields
from dragoman.interop.huggingface.weights import Tensors
from dragoman.models import EncoderConfig, TextEncoder

_EPS = 1e-12  # of its norms: no field says so

_NAMES = (
    (r"^embedding\.weight", "distilbert.embeddings.word_embeddings.weight"),
    (r"^embedding\.norm", "distilbert.embeddings.LayerNorm"),
    (r"^positions", "distilbert.embeddings.position_embeddings"),
    (r"^encoder\.layers", "distilbert.transformer.layer"),
    (r"self_attention\.([qkv])_proj", r"attention.\1_lin"),
    (r"self_attention\.out_proj", "attention.out_lin"),
    (r"norm1", "sa_layer_norm"),
    (r"norm2", "output_layer_norm"),
    (r"feed_forward\.linear([12])", r"ffn.lin\1"),
    (r"^head\.transform", "vocab_transform"),
    (r"^head\.norm", "vocab_layer_norm"),
    (r"^pooler", "pre_classifier"),
)


def layout(fields: Fields, tensors: Tensors) -> Layout:
    head = head_of(fields, tensors, "vocab_transform.weight", "pre_classifier.weight")
    activation = fields.choice("activation", ACTIVATIONS, "gelu")
    tied = is_tied(fields, tensors, "distilbert.embeddings.word_embeddings.weight", "vocab_projector.weight")
    dropout = fields.rate("dropout", 0.1)
    config = EncoderConfig(
        vocab_size=fields.size("vocab_size", 30522),
        d_model=fields.size("dim", 768),
        num_layers=fields.size("n_layers", 6),
        num_heads=fields.size("n_heads", 12),
        d_ff=fields.size("hidden_dim", 3072),
        activation=activation,
        norm_eps=_EPS,
        dropout=dropout,
        embedding_dropout=dropout,
        attention_dropout=fields.rate("attention_dropout", 0.1),
        **EMBEDDED,
        **row_fields(fields, 0, 512),
        **id_fields(fields, fields.count("pad_token_id", 0)),
        **label_fields(fields, head),
        pooler=head == "classify",
        head=head,
        head_activation={"mlm": activation, "classify": "relu"}.get(head),
        tie_embeddings=tied or head != "mlm",
    )
    output = "vocab_projector" if head == "mlm" else "classifier"
    ignored = [*BUFFERS, r"vocab_projector\.weight"] if head == "mlm" and tied else BUFFERS
    return Layout(config, (*_NAMES, (r"^head\.output", output)), ignored=ignored)


def written(model: TextEncoder) -> dict[str, Any]:
    config = model.config
    return {
        **common_fields("distilbert", "DistilBert", config),
        "dim": config.d_model,
        "n_layers": config.num_layers,
        "n_heads": config.num_heads,
        "hidden_dim": config.d_ff,
        "activation": ACTIVATION_NAMES[config.activation],
        "dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "sinusoidal_pos_embds": False,  # the table is in the file either way
    }


FAMILY = Family(
    ("distilbert",),
    layout,
    written,
    aliases=(*OLD_NAMES, (r"^(embeddings|transformer)\.", r"distilbert.\1.")),
)
