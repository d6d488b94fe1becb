"""Models: configuration, forward pass and loss, and the folder of a model."""

from dragoman.models.config import TransformerConfig
from dragoman.models.encoder_decoder import Transformer
from dragoman.models.folder import load

__all__ = ["Transformer", "TransformerConfig", "load"]
