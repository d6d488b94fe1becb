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


def embedding(config: TextConfig, vocab_size: int, weight: Parameter | None = None) -> Embedding:
    """The embedding of `vocab_size` tokens, with the weight given or one of its own."""
    return Embedding(
        vocab_size,
        config.d_model,
        weight=weight,
        norm=make_norm(config.norm, config.d_model, eps=config.norm_eps) if config.embedding_norm else None,
        scale=config.d_model**0.5 if config.scale_embeddings else 1.0,
        dropout=config.embedding_dropout,
    )


def positions(config: TextConfig) -> SinusoidalPositionalEncoding | LearnedPositionalEncoding | None:
    """The table that is added to embeddings, if any."""
    if config.positions == "learned":
        return LearnedPositionalEncoding(config.max_length, config.d_model, config.position_offset)
    if config.positions == "sinusoidal":
        return SinusoidalPositionalEncoding(config.d_model, config.position_layout)
    return None


def _attention_positions(config: TextConfig, count: int, causal: bool) -> Iterator[AttentionPositions | None]:
    """What the self-attention of each of `count` layers knows about positions. Layers share it, but for Shaw's."""
    head_dim = config.head_dim or config.d_model // config.num_heads
    shared: AttentionPositions | None = None
    if config.positions == "relative":
        shared = RelativeBias(
            config.num_heads,
            num_buckets=config.position_buckets,
            max_distance=config.position_distance or 128,
            bidirectional=not causal,
        )
    elif config.positions == "alibi":
        shared = Alibi(config.num_heads)
    elif config.positions == "rotary":
        shared = RotaryPositions(config.rotary_features or head_dim, base=config.rotary_base)
    for _ in range(count):
        if config.positions == "shaw":
            yield RelativeKeysValues(head_dim, max_distance=config.position_distance or 16)
        else:
            yield shared


def final_norm(config: BlockConfig) -> LayerNorm | RMSNorm | None:
    """The norm that ends a stack."""
    return make_norm(config.norm, config.d_model, eps=config.norm_eps) if config.ends_in_norm else None


def layers(config: BlockConfig, count: int, *, causal: bool = False) -> Iterator[dict[str, Any]]:
    """The arguments of each of `count` TransformerLayers of a stack, but for `causal`."""
    if isinstance(config, TextConfig):
        for positions in _attention_positions(config, count, causal):
            yield {**_layer_options(config), "positions": positions}
    else:
        for _ in range(count):
            yield _layer_options(config)


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
        "bias": config.attention_bias,
        "qk_norm": None if config.qk_norm == "none" else config.qk_norm,
        "window": config.window,
    }
