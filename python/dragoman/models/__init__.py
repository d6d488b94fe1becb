"""Models: configuration, forward pass and loss, and the folder of a model."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dragoman.models.base import Model, register
from dragoman.models.config import BlockConfig, ModelConfig, TextConfig
from dragoman.models.decoder import DecoderConfig, TextDecoder
from dragoman.models.encoder_decoder import EncoderDecoder, Transformer
from dragoman.models.folder import freeze_folder, load
from dragoman.models.transformer_config import TransformerConfig

if TYPE_CHECKING:
    from dragoman.models.body import BodyReport, load_body
    from dragoman.models.encoder import EncoderConfig, TextEncoder
    from dragoman.models.speech import SpeechConfig, SpeechTransformer
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

# What is imported at its first use, which makes the import of the package faster.
_LATER = {
    "body": ("BodyReport", "load_body"),
    "encoder": ("EncoderConfig", "TextEncoder"),
    "speech": ("SpeechConfig", "SpeechTransformer"),
    "vision": ("VisionConfig", "VisionTransformer"),
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return import_module(f"dragoman.models.{name}")
    for module, names in _LATER.items():
        if name in names:
            value = globals()[name] = getattr(import_module(f"dragoman.models.{module}"), name)
            return value
    raise AttributeError(f"module 'dragoman.models' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
