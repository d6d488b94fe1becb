"""dragoman builds, trains and serves Transformers, encoder-decoder first."""

from dragoman import cuda, functional, interop, lora, models, nn, optim
from dragoman._core import (
    OutOfMemoryError,
    cpu_isa,
    cpu_isas,
    num_threads,
)
from dragoman.creation import from_dlpack, tensor
from dragoman.data.tokenizer import Tokenizer
from dragoman.grad_mode import is_grad_enabled, no_grad
from dragoman.models.config import TransformerConfig
from dragoman.models.encoder_decoder import Transformer
from dragoman.models.folder import load
from dragoman.predict import Classifier, ImageClassifier, LanguageModel, SentenceEncoder, Tagger
from dragoman.predict.translator import Translator
from dragoman.random import manual_seed
from dragoman.runtime import empty_cache, memory_stats, reset_peak_memory_stats, set_num_threads
from dragoman.sequences import Sequences
from dragoman.tensor import Tensor
from dragoman.train.trainer import Trainer

__version__ = "0.1.0"

__all__ = [
    "Classifier",
    "ImageClassifier",
    "LanguageModel",
    "OutOfMemoryError",
    "SentenceEncoder",
    "Sequences",
    "Tagger",
    "Tensor",
    "Tokenizer",
    "Trainer",
    "Transformer",
    "TransformerConfig",
    "Translator",
    "cpu_isa",
    "cpu_isas",
    "cuda",
    "empty_cache",
    "from_dlpack",
    "functional",
    "interop",
    "is_grad_enabled",
    "load",
    "lora",
    "manual_seed",
    "memory_stats",
    "models",
    "nn",
    "no_grad",
    "num_threads",
    "optim",
    "reset_peak_memory_stats",
    "set_num_threads",
    "tensor",
]
