"""T5 (Raffel et al. 2020, arXiv:1910.10683) and its kin: Flan-T5, ByT5, MADLAD-400, mT5, UMT5; their encoders alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from dragoman.interop.huggingface.family import ACTIVATION_NAMES, ACTIVATIONS, Family, Layout
from dragoman.interop.huggingface.fields import Fields
from dragoman.interop.huggingface.special_tokens import eos_field, eos_id, start_id
from dragoman.interop.huggingface.ties import embeddings
from dragoman.interop.huggingface.weights import Tensors
from dragoman.models import EncoderConfig, TextEncoder, Transformer, TransformerConfig
from dragoman.models.special_ids import start_ids


@dataclass(frozen=True)
class _Kind:
    """What a model_type fixes, and the defaults of its fields."""

    prefix: str  # of the names of classes
    vocab_size: int = 250112
    d_ff: int = 1024
    num_layers: int = 8
    num_heads: int = 6
    feed_forward: str = "gated-gelu"
    scales: bool = True  # the decoder's rows may be scaled
    position_sharing: bool = True


_KINDS = {
    "t5": _Kind("T5", vocab_size=32128, d_ff=2048, num_layers=6, num_heads=8, feed_forward="relu"),
    "mt5": _Kind("MT5", scales=False),
    "umt5": _Kind("UMT5", position_sharing=False),
}

_SHARED = "shared.weight"

_NAMES = (
    (r"^(encoder|decoder)\.norm\.", r"\1.final_layer_norm."),
    (r"^(encoder|decoder)\.layers\.", r"\1.block."),
    (r"\.norm1\.", ".layer.0.layer_norm."),
    (r"\.norm2\.", ".layer.1.layer_norm."),
    (r"\.norm3\.", ".layer.2.layer_norm."),
    (r"\.self_attention\.positions\.", ".layer.0.SelfAttention.relative_attention_bias."),
    (r"\.self_attention\.(q|k|v|o)(ut)?_proj\.", r".layer.0.SelfAttention.\1."),
    (r"\.cross_attention\.(q|k|v|o)(ut)?_proj\.", r".layer.1.EncDecAttention.\1."),
    (r"^(encoder\.block\.\d+)\.feed_forward\.", r"\1.layer.1.DenseReluDense."),
    (r"^(decoder\.block\.\d+)\.feed_forward\.", r"\1.layer.2.DenseReluDense."),
    (r"\.DenseReluDense\.gate\.", ".DenseReluDense.wi_0."),
    (r"\.DenseReluDense\.linear2\.", ".DenseReluDense.wo."),
)

_GATED = ((r"\.DenseReluDense\.linear1\.", ".DenseReluDense.wi_1."),)
_PLAIN = ((r"\.DenseReluDense\.linear1\.", ".DenseReluDense.wi."),)

_IGNORED = (r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",)


def _layout(fields: Fields, tensors: Tensors) -> Layout:
    kind = _KINDS[fields.text("model_type")]
    gated, activation = _feed_forward(fields, kind)
    dropout = fields.rate("dropout_rate", 0.1)
    pad = fields.count("pad_token_id", 0)
    shared: dict[str, Any] = {
        "vocab_size": fields.size("vocab_size", kind.vocab_size),
        "d_model": fields.size("d_model", 512),
        "head_dim": fields.size("d_kv", 64),
        "num_heads": fields.size("num_heads", kind.num_heads),
        "d_ff": fields.size("d_ff", kind.d_ff),
        "gated": gated,
        "activation": activation,
        "norm": "rms",
        "norm_first": True,
        "norm_eps": fields.number("layer_norm_epsilon", 1e-6),
        "attention_scale": 1.0,
        "attention_bias": "",
        "feed_forward_bias": False,
        "scale_embeddings": False,
        "positions": "relative",
        "position_buckets": fields.size("relative_attention_num_buckets", 32),
        "position_distance": fields.size("relative_attention_max_distance", 128),
        "position_sharing": kind.position_sharing,
        "max_length": fields.size("n_positions", 512),
        "dropout": dropout,
        "embedding_dropout": dropout,
        "attention_dropout": dropout,
        "activation_dropout": dropout,
        "pad_id": pad,
        "bos_id": None,
        "eos_id": eos_id(fields, 1),
        "unk_id": None,  # transformers writes it like any other token
    }
    layers = fields.size("num_layers", kind.num_layers)
    tied = embeddings(tensors, _SHARED, "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
    names = (*tied.names, *_NAMES, *(_GATED if gated else _PLAIN))
    ignored = (*tied.ignored, *_IGNORED)
    if _is_encoder(fields, tensors):
        fields.only("is_decoder", False)
        names = ((r"^embedding\.", "src_embedding."), *names)
        return Layout(EncoderConfig(**shared, num_layers=layers), names, ignored=ignored)
    fields.only("is_causal", True)
    scaled = kind.scales and fields.flag("scale_decoder_outputs", fields.flag("tie_word_embeddings", True))
    config = TransformerConfig(
        **shared,
        num_encoder_layers=layers,
        num_decoder_layers=fields.size("num_decoder_layers", layers),
        tie_embeddings=tied.tie_embeddings,
        output_scale=shared["d_model"] ** -0.5 if scaled else 1.0,
        start_id=start_id(fields, pad),
    )
    return Layout(config, names, ignored=ignored)


def _is_encoder(fields: Fields, tensors: Tensors) -> bool:
    """Whether the checkpoint is of an encoder alone: by its tensors, or without any by config.json."""
    if tensors:
        return not any(name.startswith("decoder.") for name in tensors)
    architectures = fields.values.get("architectures")
    return isinstance(architectures, list) and any("EncoderModel" in str(name) for name in architectures)


def _feed_forward(fields: Fields, kind: _Kind) -> tuple[bool, str]:
    """Whether the feed-forward networks have a gate, and their activation. dense_act_fn takes precedence."""
    choices = {name: (False, ours) for name, ours in ACTIVATIONS.items()}
    choices |= {f"gated-{name}": (True, ours) for name, ours in ACTIVATIONS.items()}
    choices["gated-gelu"] = (True, "gelu_tanh")
    gated, activation = fields.choice("feed_forward_proj", choices, choices[kind.feed_forward])
    fields.only("is_gated_act", gated)
    return gated, fields.choice("dense_act_fn", ACTIVATIONS, activation)


def _fields(model_type: str, model: Transformer | TextEncoder) -> dict[str, Any]:
    kind, config = _KINDS[model_type], model.config
    gelu = config.gated and config.activation == "gelu_tanh"
    activation = "gelu" if gelu else ACTIVATION_NAMES[config.activation]
    values: dict[str, Any] = {
        "model_type": model_type,
        "vocab_size": config.vocab_size,
        "d_model": config.d_model,
        "d_kv": config.head_dim or config.d_model // config.num_heads,
        "d_ff": config.d_ff,
        "num_heads": config.num_heads,
        "feed_forward_proj": f"gated-{activation}" if config.gated else activation,
        "is_gated_act": config.gated,
        "dense_act_fn": ACTIVATION_NAMES[config.activation],
        "relative_attention_num_buckets": config.position_buckets,
        "relative_attention_max_distance": config.position_distance or 128,
        "layer_norm_epsilon": config.norm_eps,
        "n_positions": config.max_length,
        "dropout_rate": config.dropout,
        "pad_token_id": config.pad_id,
        "eos_token_id": eos_field(config),
    }
    if isinstance(config, EncoderConfig):
        return values | {
            "architectures": [f"{kind.prefix}EncoderModel"],
            "is_encoder_decoder": False,
            "num_layers": config.num_layers,
            "tie_word_embeddings": True,
        }
    scaled = config.output_scale != 1
    return values | {
        "architectures": [f"{kind.prefix}ForConditionalGeneration"],
        "is_encoder_decoder": True,
        "num_layers": config.num_encoder_layers,
        "num_decoder_layers": config.num_decoder_layers,
        # Up to transformers 4 the first says whether the decoder's rows are scaled, from 5 on the second does.
        "tie_word_embeddings": scaled if kind.scales else config.ties_output,
        **({"scale_decoder_outputs": scaled} if kind.scales else {}),
        "decoder_start_token_id": start_ids(config)[0],
    }


FAMILIES = tuple(Family((model_type,), _layout, partial(_fields, model_type)) for model_type in _KINDS)
