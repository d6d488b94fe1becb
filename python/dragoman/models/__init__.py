"""Models: configuration, forward pass and loss, and the folder of a model."""

from dragoman.models.base import Model, register
from dragoman.models.body import BodyReport, load_body
from dragoman.models.config import BlockConfig, ModelConfig, TextConfig
from dragoman.models.decoder import DecoderConfig, TextDecoder
from dragoman.models.encoder import EncoderConfig, TextEncoder
from dragoman.models.encoder_decoder import EncoderDecoder, Transformer
from dragoman.models.folder import freeze_folder, load
from dragoman.models.speech import SpeechConfig, SpeechTransformer
from dragoman.models.transformer_config import TransformerConfig
from dragoman.models.vision import VisionConfig, VisionTransformer

__all__ = [
    "BlockConfig",
    "BodyReport",
    "DecoderConfig",
    "EncoderConfig",
    "EncoderDecoder",
    "Model",
    "ModelConfig",
    "SpeechConfig",
    "SpeechTransformer",
    "TextConfig",
    "TextDecoder",
    "TextEncoder",
    "Transformer",
    "TransformerConfig",
    "VisionConfig",
    "VisionTransformer",
    "freeze_folder",
    "load",
    "load_body",
    "register",
]
