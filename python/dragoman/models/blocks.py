"""The parts that models of text are built of: embeddings, positions, layers and the last norm, from a config."""

from __future__ import annotations

from typing import Any

from dragoman.models.config import BlockConfig, TextConfig
from dragoman.nn import (
    Embedding,
    LayerNorm,
    LearnedPositionalEncoding,
    Parameter,
    RMSNorm,
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


def positions(config: TextConfig) -> SinusoidalPositionalEncoding | LearnedPositionalEncoding:
    """The table that is added to embeddings."""
    if config.positions == "learned":
        return LearnedPositionalEncoding(config.max_length, config.d_model)
    return SinusoidalPositionalEncoding(config.d_model)


def final_norm(config: BlockConfig) -> LayerNorm | RMSNorm | None:
    """The norm that ends a stack."""
    return make_norm(config.norm, config.d_model, eps=config.norm_eps) if config.ends_in_norm else None


def layer_options(config: BlockConfig) -> dict[str, Any]:
    """The arguments of a TransformerLayer."""
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
    }
