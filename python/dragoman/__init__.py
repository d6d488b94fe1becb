"""dragoman builds, trains and serves Transformers, encoder-decoder first."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dragoman import cuda, functional, lora, models, nn
from dragoman._core import (
    OutOfMemoryError,
    cpu_isa,
    cpu_isas,
    num_threads,
)
from dragoman.creation import from_dlpack, tensor
from dragoman.grad_mode import is_grad_enabled, no_grad
from dragoman.models.encoder_decoder import Transformer
from dragoman.models.folder import load
from dragoman.models.transformer_config import TransformerConfig
from dragoman.random import manual_seed
from dragoman.runtime import empty_cache, memory_stats, reset_peak_memory_stats, set_num_threads
from dragoman.sequences import Sequences
from dragoman.tensor import Tensor
from dragoman.version import VERSION

if TYPE_CHECKING:
    from dragoman import interop, optim
    from dragoman.data.tokenizer import Tokenizer
    from dragoman.predict import (
        Classifier,
        ImageClassifier,
        LanguageModel,
        SentenceEncoder,
        Tagger,
        Transcriber,
        Translator,
    )
    from dragoman.train.trainer import Trainer

__version__ = VERSION

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
    "Transcriber",
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

# What is imported at its first use, which makes the import of the package faster.
_PREDICTORS = (
    "Classifier",
    "ImageClassifier",
    "LanguageModel",
    "SentenceEncoder",
    "Tagger",
    "Transcriber",
    "Translator",
)
_LATER = {
    **dict.fromkeys(_PREDICTORS, "dragoman.predict"),
    "Tokenizer": "dragoman.data.tokenizer",
    "Trainer": "dragoman.train.trainer",
}
_ROOMS = ("data", "generate", "interop", "optim", "predict", "server", "train")


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"dragoman.{name}")
    if name not in _LATER:
        raise AttributeError(f"module 'dragoman' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_LATER[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
