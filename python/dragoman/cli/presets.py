"""The sizes of models that commands have names for."""

from __future__ import annotations

from dragoman.models.transformer_config import TransformerConfig

PRESETS = {
    "tiny": TransformerConfig.tiny,
    "small": TransformerConfig.small,
    "base": TransformerConfig.base,
    "big": TransformerConfig.big,
}
