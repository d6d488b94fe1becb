"""Translator and Generator with the signatures of CTranslate2, for programs that were written for it.

`from dragoman.interop import ctranslate2` takes the place of `import ctranslate2`. A model is a folder of this package,
and tokens are those of its tokenizer, with U+2581 for a space. Options that this package has are mapped. Those that say
how a result is computed are accepted and change nothing. Others are refused by their names.

Outputs and scores are CTranslate2's: those of `like="hf"` with `early_stopping` and `renormalize`, without the log
probability of a prefix. With `repetition_penalty` a beam search is that of `like="fairseq"`, and an output of
`max_decoding_length` tokens ends in </s>.
"""

from dragoman.interop.ctranslate2.adapter import contains_model, get_cuda_device_count, get_supported_compute_types
from dragoman.interop.ctranslate2.generator import Generator
from dragoman.interop.ctranslate2.options import set_random_seed
from dragoman.interop.ctranslate2.results import (
    AsyncResult,
    ExecutionStats,
    GenerationResult,
    GenerationStepResult,
    ScoringResult,
    TranslationResult,
)
from dragoman.interop.ctranslate2.translator import Translator

__all__ = [
    "AsyncResult",
    "ExecutionStats",
    "GenerationResult",
    "GenerationStepResult",
    "Generator",
    "ScoringResult",
    "TranslationResult",
    "Translator",
    "contains_model",
    "get_cuda_device_count",
    "get_supported_compute_types",
    "set_random_seed",
]
