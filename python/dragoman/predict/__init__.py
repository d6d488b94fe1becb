"""What a trained model says about texts, words, images and sounds; load a folder, call it, or submit."""

from dragoman.predict.call import QueueFullError
from dragoman.predict.candidate import Candidate
from dragoman.predict.classifier import Classifier, ImageClassifier, Labels
from dragoman.predict.folder import predictor_class
from dragoman.predict.language_model import LanguageModel
from dragoman.predict.predictor import Predictor
from dragoman.predict.sentence_encoder import SentenceEncoder
from dragoman.predict.stream import TextStream
from dragoman.predict.tagger import Tagger
from dragoman.predict.transcriber import Transcriber
from dragoman.predict.translator import Translator

__all__ = [
    "Candidate",
    "Classifier",
    "ImageClassifier",
    "Labels",
    "LanguageModel",
    "Predictor",
    "QueueFullError",
    "SentenceEncoder",
    "Tagger",
    "TextStream",
    "Transcriber",
    "Translator",
    "predictor_class",
]
