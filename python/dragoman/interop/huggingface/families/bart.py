"""BART (Lewis et al. 2020, arXiv:1910.13461) and its kin: Marian, mBART, M2M100 with NLLB, Pegasus.

All are encoder-decoders with the names of BART. They differ in the place of norms and in their positions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from dragoman.interop.huggingface.family import ACTIVATION_NAMES, ACTIVATIONS, ROW, Family, Layout
from dragoman.interop.huggingface.fields import Fields
from dragoman.interop.huggingface.special_tokens import eos_field, eos_id, start_id
from dragoman.interop.huggingface.ties import embeddings
from dragoman.interop.huggingface.weights import Tensors
from dragoman.models import Transformer, TransformerConfig
from dragoman.models.special_ids import start_ids
from dragoman.nn.positional import sinusoidal_table


@dataclass(frozen=True)
class _Kind:
    """What a model_type fixes, and the defaults of its fields."""

    architecture: str
    positions: Literal["learned", "halves", "fairseq"]
    norm_first: bool = False
    embedding_norm: bool = False
    activation: Any = "gelu"
    scale: bool = False
    vocab_size: int = 50265
    pad: int = 1
    bos: int | None = 0
    eos: int = 2
    start: int | None = None


_KINDS = {
    "bart": _Kind("BartForConditionalGeneration", "learned", embedding_norm=True, start=2),
    "marian": _Kind("MarianMTModel", "halves", vocab_size=58101, pad=58100, bos=None, eos=0),
    "mbart": _Kind("MBartForConditionalGeneration", "learned", norm_first=True, embedding_norm=True),
    "m2m_100": _Kind(
        *("M2M100ForConditionalGeneration", "fairseq"),
        norm_first=True,
        activation="relu",
        scale=True,
        vocab_size=128112,
        start=2,
    ),
    "pegasus": _Kind("PegasusForConditionalGeneration", "halves", norm_first=True, pad=0, bos=None, eos=1),
}

# Of layers and stacks; Whisper has them, too.
STACK_NAMES = (
    (r"^(encoder|decoder)\.norm\.", r"model.\1.layer_norm."),
    (r"^(encoder|decoder)\.layers\.", r"model.\1.layers."),
    (r"\.norm1\.", ".self_attn_layer_norm."),
    (r"(decoder\.layers\.\d+)\.norm2\.", r"\1.encoder_attn_layer_norm."),
    (r"\.norm[23]\.", ".final_layer_norm."),
    (r"\.self_attention\.", ".self_attn."),
    (r"\.cross_attention\.", ".encoder_attn."),
    (r"\.feed_forward\.linear([12])\.", r".fc\1."),
)

_NAMES = (
    (r"^src_positions\.", "model.encoder.embed_positions."),
    (r"^tgt_positions\.", "model.decoder.embed_positions."),
    (r"^src_embedding\.norm\.", "model.encoder.layernorm_embedding."),
    (r"^tgt_embedding\.norm\.", "model.decoder.layernorm_embedding."),
    (r"^output\.bias$", "final_logits_bias"),
    *STACK_NAMES,
)

_SHARED, _HEAD = "model.shared.weight", "lm_head.weight"
_ENCODER, _DECODER = "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"

_TABLES = ("model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight")

# A model without a head, as facebook/bart-base has it.
_ALIASES = ((r"^(shared|encoder|decoder)\.", r"model.\1."),)

_IGNORED = (
    r"model\.(encoder|decoder)\.version",
    r"model\.(encoder|decoder)\.embed_positions\._float_tensor",
    r"model\.(encoder|decoder)\.embed_positions\.weights",  # of M2M100, which are computed
)


def _layout(fields: Fields, tensors: Tensors) -> Layout:
    kind = _KINDS[fields.text("model_type")]
    fields.only("is_encoder_decoder", True)
    fields.only("is_causal", True)
    d_model = fields.size("d_model", 1024)
    pad, bos = fields.count("pad_token_id", kind.pad), fields.count("bos_token_id", kind.bos)
    separate = not fields.flag("share_encoder_decoder_embeddings", True)
    tied = embeddings(tensors, _ENCODER if separate else _SHARED, _ENCODER, _DECODER, _HEAD)
    # Without ties, transformers 5 reads each of them from the file.
    apart = not separate and not fields.flag("tie_word_embeddings", True)
    copies = ((_ENCODER, _SHARED), (_DECODER, _SHARED), (_HEAD, _DECODER)) if apart else ()
    vocab_size = fields.size("vocab_size", kind.vocab_size)
    dropout = fields.rate("dropout", 0.1)
    heads, d_ff = fields.size("decoder_attention_heads", 16), fields.size("decoder_ffn_dim", 4096)
    encoder = {
        "num_heads": fields.size("encoder_attention_heads", 16),
        "d_ff": fields.size("encoder_ffn_dim", 4096),
    }
    positions = _positions(kind, tensors, d_model)
    config = TransformerConfig(
        vocab_size=vocab_size,
        tgt_vocab_size=fields.size("decoder_vocab_size", vocab_size) if separate else None,
        d_model=d_model,
        num_heads=heads,
        d_ff=d_ff,
        encoder=encoder if encoder != {"num_heads": heads, "d_ff": d_ff} else None,
        num_encoder_layers=fields.size("encoder_layers", 12),
        num_decoder_layers=fields.size("decoder_layers", 12),
        norm_first=kind.norm_first,
        embedding_norm=kind.embedding_norm,
        activation=fields.choice("activation_function", ACTIVATIONS, kind.activation),
        scale_embeddings=fields.flag("scale_embedding", kind.scale),
        **positions,
        position_offset={"learned": 2, "fairseq": pad + 1}.get(kind.positions, 0),
        max_length=fields.size("max_position_embeddings", 1024),
        dropout=dropout,
        embedding_dropout=dropout,
        attention_dropout=fields.rate("attention_dropout", 0.0),
        activation_dropout=fields.rate("activation_dropout", 0.0),
        tie_embeddings=tied.tie_embeddings,
        output_bias="final_logits_bias" in tensors,
        pad_id=pad,
        bos_id=bos,
        eos_id=eos_id(fields, kind.eos),
        unk_id=None,  # transformers writes it like any other token
        start_id=start_id(fields, pad if kind.bos is None else kind.start),
    )
    computed = () if positions["positions"] == "learned" else _TABLES
    return Layout(
        config,
        names=(*tied.names, *_NAMES),
        forms=((r"output\.bias", ROW),),
        ignored=(*tied.ignored, *_IGNORED, *map(re.escape, computed)),
        copies=copies,
    )


def _positions(kind: _Kind, tensors: Tensors, d_model: int) -> dict[str, Any]:
    """Fields of TransformerConfig. A stored table that is not the computed one is a learned one."""
    if kind.positions == "learned":
        return {"positions": "learned"}
    for name in _TABLES:
        if kind.positions == "halves" and name in tensors:
            rows = tensors[name].shape[0] if tensors[name].shape[1:] == (d_model,) else 0
            if not np.allclose(tensors.array(name), sinusoidal_table(rows, d_model, "halves"), rtol=0, atol=1e-6):
                return {"positions": "learned"}
    return {"positions": "sinusoidal", "position_layout": kind.positions}


def written_stacks(config: TransformerConfig) -> dict[str, Any]:
    """The fields of theirs that Whisper has, too: about the vocabulary, the layers and special tokens."""
    encoder, decoder = config.encoder_side, config.decoder_side
    return {
        "is_encoder_decoder": True,
        "vocab_size": config.vocab_size,
        "d_model": config.d_model,
        "encoder_layers": config.num_encoder_layers,
        "decoder_layers": config.num_decoder_layers,
        "encoder_attention_heads": encoder.num_heads,
        "decoder_attention_heads": decoder.num_heads,
        "encoder_ffn_dim": encoder.d_ff,
        "decoder_ffn_dim": decoder.d_ff,
        "activation_function": ACTIVATION_NAMES[config.activation],
        "scale_embedding": config.scale_embeddings,
        "dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "activation_dropout": config.activation_dropout,
        "pad_token_id": config.pad_id,
        "bos_token_id": config.bos_id,
        "eos_token_id": eos_field(config),
    }


def _fields(model_type: str, model: Transformer) -> dict[str, Any]:
    kind, config = _KINDS[model_type], model.config
    values = {
        "model_type": model_type,
        "architectures": [kind.architecture],
        **written_stacks(config),
        "max_position_embeddings": config.max_length,
        "tie_word_embeddings": config.tie_embeddings == "three",
        "decoder_start_token_id": None if config.start_id is None else start_ids(config)[0],
    }
    if model_type == "marian":
        values["decoder_vocab_size"] = config.output_size
        values["share_encoder_decoder_embeddings"] = config.ties_inputs
        values["tie_word_embeddings"] = config.ties_output
    return values


FAMILIES = tuple(
    Family((model_type,), _layout, partial(_fields, model_type), aliases=_ALIASES) for model_type in _KINDS
)
