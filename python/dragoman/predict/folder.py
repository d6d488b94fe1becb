"""What a folder's model is good for: the class that serves it."""

from __future__ import annotations

from pathlib import Path

from dragoman import arguments
from dragoman.models.decoder import DecoderConfig
from dragoman.models.encoder import EncoderConfig
from dragoman.models.folder import read_config
from dragoman.models.speech import SpeechConfig
from dragoman.models.transformer_config import TransformerConfig
from dragoman.models.vision import VisionConfig
from dragoman.predict.classifier import Classifier, ImageClassifier
from dragoman.predict.language_model import LanguageModel
from dragoman.predict.predictor import Predictor
from dragoman.predict.sentence_encoder import SentenceEncoder
from dragoman.predict.tagger import Tagger
from dragoman.predict.transcriber import Transcriber
from dragoman.predict.translator import Translator

_OF_HEAD: dict[str, type[Classifier] | type[Tagger] | type[SentenceEncoder]] = {
    "classify": Classifier,
    "tag": Tagger,
    "none": SentenceEncoder,
    "mlm": SentenceEncoder,
}


def predictor_class(folder: str | Path) -> type[Predictor]:
    """The class whose `load` serves the model in a folder.

    Raises:
        OSError: config.json is missing or cannot be read.
        ValueError: it is damaged, or of a model that no class of this module serves.
    """
    arguments.check_path("predictor_class", "folder", folder)
    _, config = read_config(Path(folder))
    if isinstance(config, EncoderConfig):
        return _OF_HEAD[config.head]
    if isinstance(config, VisionConfig):
        return ImageClassifier
    if isinstance(config, DecoderConfig):
        return LanguageModel
    if isinstance(config, SpeechConfig):
        return Transcriber
    if isinstance(config, TransformerConfig):
        return Translator
    raise ValueError(
        f"{folder}: must hold an encoder of text or images or a decoder, "
        f"got {arguments.with_article(type(config).__name__)}"
    )
