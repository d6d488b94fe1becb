"""The sizes of models that commands have names for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dragoman.models.transformer_config import TransformerConfig

PRESETS = {
    "tiny": TransformerConfig.tiny,
    "small": TransformerConfig.small,
    "base": TransformerConfig.base,
    "big": TransformerConfig.big,
}

PAIRS: Mapping[str, Mapping[str, Any]] = {
    "tiny": {
        "vocab_size": 6000,
        "batch_tokens": 1024,
        "lr": 3e-3,
        "warmup": 1000,
    },
}
"""What --task translate takes for options that are not given, where it suits as few pairs as the preset is made for."""
