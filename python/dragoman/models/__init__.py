"""Models: configuration, forward pass and loss, and the folder of a model."""

from dragoman.models.base import Model, register
from dragoman.models.config import BlockConfig, ModelConfig, TextConfig, TransformerConfig
from dragoman.models.encoder_decoder import EncoderDecoder, Transformer
from dragoman.models.folder import load

__all__ = [
    "BlockConfig",
    "EncoderDecoder",
    "Model",
    "ModelConfig",
    "TextConfig",
    "Transformer",
    "TransformerConfig",
    "load",
    "register",
]
