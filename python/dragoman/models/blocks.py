"""The parts that models of text are built of: embeddings, positions, layers and the last norm, from a config."""

from __future__ import annotations

from functools import partial
from typing import Any

from dragoman.models.config import BlockConfig, TextConfig
from dragoman.nn import Embedding, LayerNorm, LearnedPositionalEncoding, SinusoidalPositionalEncoding


def embedding(config: TextConfig) -> partial[Embedding]:
    """Makes an Embedding from a number of tokens, and a weight to share."""
    return partial(
        Embedding,
        features=config.d_model,
        scale=config.d_model**0.5 if config.scale_embeddings else 1.0,
        dropout=config.embedding_dropout,
    )


def positions(config: TextConfig) -> SinusoidalPositionalEncoding | LearnedPositionalEncoding:
    """The table that is added to embeddings."""
    if config.positions == "learned":
        return LearnedPositionalEncoding(config.max_length, config.d_model)
    return SinusoidalPositionalEncoding(config.d_model)


def final_norm(config: BlockConfig) -> LayerNorm | None:
    """The norm that ends a stack."""
    return LayerNorm(config.d_model, eps=config.norm_eps) if config.ends_in_norm else None


def layer_options(config: BlockConfig) -> dict[str, Any]:
    """The arguments of a TransformerLayer."""
    return {
        "d_model": config.d_model,
        "num_heads": config.num_heads,
        "d_ff": config.d_ff,
        "norm_first": config.norm_first,
        "activation": config.activation,
        "norm_eps": config.norm_eps,
        "dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "activation_dropout": config.activation_dropout,
    }
