"""Layers. Each takes and returns (tokens, features) rows of a ragged batch; `Module` is their base."""

from dragoman.nn.attention import MultiHeadAttention, record_attention
from dragoman.nn.attention_positions import (
    Alibi,
    AttentionPositions,
    RelativeBias,
    RelativeKeysValues,
)
from dragoman.nn.dropout import Dropout
from dragoman.nn.embedding import Embedding
from dragoman.nn.feed_forward import FeedForward
from dragoman.nn.kv_cache import KVCache
from dragoman.nn.linear import Linear
from dragoman.nn.module import Module
from dragoman.nn.norm import LayerNorm, RMSNorm, make_norm
from dragoman.nn.positional import LearnedPositionalEncoding, SinusoidalPositionalEncoding
from dragoman.nn.rotary import RotaryPositions
from dragoman.nn.transformer import (
    Decoder,
    Encoder,
    TransformerDecoderLayer,
    TransformerEncoderLayer,
    TransformerLayer,
    TransformerStack,
)
from dragoman.nn.weight import Parameter

__all__ = [
    "Alibi",
    "AttentionPositions",
    "Decoder",
    "Dropout",
    "Embedding",
    "Encoder",
    "FeedForward",
    "KVCache",
    "LayerNorm",
    "LearnedPositionalEncoding",
    "Linear",
    "Module",
    "MultiHeadAttention",
    "Parameter",
    "RMSNorm",
    "RelativeBias",
    "RelativeKeysValues",
    "RotaryPositions",
    "SinusoidalPositionalEncoding",
    "TransformerDecoderLayer",
    "TransformerEncoderLayer",
    "TransformerLayer",
    "TransformerStack",
    "make_norm",
    "record_attention",
]
