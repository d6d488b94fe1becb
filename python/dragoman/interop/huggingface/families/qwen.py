"""Qwen2, whose queries, keys and values have biases, and Qwen3, which normalises the heads of queries and keys."""

from __future__ import annotations

from typing import Any

from dragoman.interop.huggingface.decoders import by_layer
from dragoman.interop.huggingface.families.llama import Sizes, activation, biases, kin, written_activation
from dragoman.interop.huggingface.fields import Fields
from dragoman.interop.huggingface.layer_types import window_size, windows, written_windows
from dragoman.interop.huggingface.rope import read_rope, written_rope
from dragoman.models.decoder import DecoderConfig


def _shared(fields: Fields, sizes: Sizes) -> dict[str, Any]:
    depth = sizes["num_layers"]
    size = window_size(fields, 4096) if fields.flag("use_sliding_window", False) else None
    first = fields.count("max_window_layers", 28)
    seen = windows(fields, size, [size is not None and place >= first for place in range(depth)])
    rope = read_rope(fields, sizes["max_length"])
    return {**activation(fields), "feed_forward_bias": False, **rope, **by_layer(seen)}


def _written(config: DecoderConfig) -> dict[str, Any]:
    slides = written_windows(config)
    types = slides["layer_types"]
    return {
        **written_activation(config),
        **written_rope(config),
        **slides,
        "use_sliding_window": slides["sliding_window"] is not None,
        "max_window_layers": next((i for i, kind in enumerate(types) if kind != "full_attention"), len(types)),
    }


def _qwen2(fields: Fields, sizes: Sizes) -> dict[str, Any]:
    return {**_shared(fields, sizes), "attention_bias": "qkv"}


def _qwen3(fields: Fields, sizes: Sizes) -> dict[str, Any]:
    return {**_shared(fields, sizes), **biases(fields, feed_forward=False), "qk_norm": "rms"}


def _written_qwen3(config: DecoderConfig) -> dict[str, Any]:
    return {**_written(config), "attention_bias": config.attention_bias == "qkvo"}


_QWEN2_SIZES = {
    "vocab_size": 151936,
    "hidden_size": 4096,
    "intermediate_size": 22016,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 32768,
}
_QWEN3_SIZES = {**_QWEN2_SIZES, "head_dim": 128}

FAMILIES = (
    kin(("qwen2",), "Qwen2ForCausalLM", _QWEN2_SIZES, _qwen2, _written),
    kin(("qwen3",), "Qwen3ForCausalLM", _QWEN3_SIZES, _qwen3, _written_qwen3),
)
