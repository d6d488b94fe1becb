"""The parts that models of text are built of: embeddings, positions, layers and the last norm, from a config."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dragoman.models.config import BlockConfig, TextConfig
from dragoman.nn import (
    Alibi,
    AttentionPositions,
    Embedding,
    LayerNorm,
    LearnedPositionalEncoding,
    Parameter,
    RelativeBias,
    RelativeKeysValues,
    RMSNorm,
    RotaryPositions,
    SinusoidalPositionalEncoding,
    make_norm,
)


def embedding(
    config: TextConfig, vocab_size: int, weight: Parameter | None = None, token_types: int | None = None
) -> Embedding:
    """The embedding of `vocab_size` tokens, with the weight given or one of its own, and of types of tokens."""
    return Embedding(
        vocab_size,
        config.d_model,
        weight=weight,
        token_types=token_types,
        norm=make_norm(config.norm, config.d_model, eps=config.norm_eps) if config.embedding_norm else None,
        scale=config.d_model**0.5 if config.scale_embeddings else 1.0,
        dropout=config.embedding_dropout,
    )


def positions(config: TextConfig) -> SinusoidalPositionalEncoding | LearnedPositionalEncoding | None:
    """The table that is added to embeddings, if any."""
    if config.positions == "learned":
        rows = config.position_rows or config.max_length
        return LearnedPositionalEncoding(rows, config.d_model, config.position_offset)
    if config.positions == "sinusoidal":
        return SinusoidalPositionalEncoding(config.d_model, config.position_layout, config.position_offset)
    return None


def _attention_positions(
    config: TextConfig, causal: bool, shared: dict[str, AttentionPositions]
) -> AttentionPositions | None:
    """What a layer's self-attention knows about positions. Layers with the same fields share it, but for Shaw's and
    where the config says so."""
    head_dim = config.head_dim or config.d_model // config.num_heads
    kind, heads, distance = config.positions, config.num_heads, config.position_distance
    if kind == "shaw":
        return RelativeKeysValues(head_dim, max_distance=distance or 16)
    features, base, scaling = config.rotary_features or head_dim, config.rotary_base, config.rotary_scaling
    fields = {
        "relative": (heads, config.position_buckets, distance),
        "alibi": (heads,),
        "rotary": (features, base, scaling),
    }
    key = f"{kind} {fields.get(kind)}"
    if not config.position_sharing:
        shared.pop(key, None)
    if key not in shared and kind == "relative":
        shared[key] = RelativeBias(
            heads, num_buckets=config.position_buckets, max_distance=distance or 128, bidirectional=not causal
        )
    elif key not in shared and kind == "alibi":
        shared[key] = Alibi(heads)
    elif key not in shared and kind == "rotary":
        shared[key] = RotaryPositions(features, base=base, scaling=scaling)
    return shared.get(key)


def final_norm(config: BlockConfig) -> LayerNorm | RMSNorm | None:
    """The norm that ends a stack."""
    return make_norm(config.norm, config.d_model, eps=config.norm_eps) if config.ends_in_norm else None


def layers(config: BlockConfig, count: int, *, causal: bool = False) -> Iterator[dict[str, Any]]:
    """The arguments of each of `count` TransformerLayers of a stack, but for `causal`."""
    shared: dict[str, AttentionPositions] = {}
    for place in range(count):
        layer = config.of_layer(place)
        options = _layer_options(layer)
        if isinstance(layer, TextConfig):
            options["positions"] = _attention_positions(layer, causal, shared)
        yield options


def _layer_options(config: BlockConfig) -> dict[str, Any]:
    return {
        "d_model": config.d_model,
        "num_heads": config.num_heads,
        "d_ff": config.d_ff,
        "norm_first": config.norm_first,
        "sandwich_norm": config.sandwich_norm,
        "norm": config.norm,
        "residual": config.residual,
        "activation": config.activation,
        "gated": config.gated,
        "feed_forward_bias": config.feed_forward_bias,
        "norm_eps": config.norm_eps,
        "dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "activation_dropout": config.activation_dropout,
        "kv_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "scale": config.attention_scale,
        "score_cap": config.score_cap,
        "bias": config.attention_bias,
        "qk_norm": None if config.qk_norm == "none" else config.qk_norm,
        "window": config.window,
    }
