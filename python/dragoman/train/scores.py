"""Scores of translations by sacreBLEU (Post 2018, arXiv:1804.08771). No other file imports it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dragoman import arguments

# By name in sacreBLEU, what a tokenizer needs beside it.
_NEEDS = {
    "13a": "", "intl": "", "zh": "", "char": "", "none": "",
    "ja-mecab": "pip install 'sacrebleu[ja]'",
    "ko-mecab": "pip install 'sacrebleu[ko]'",
    "flores101": "pip install sentencepiece, and a model that sacreBLEU downloads once",
    "flores200": "pip install sentencepiece, and a model that sacreBLEU downloads once",
}  # fmt: skip

TOKENIZERS = tuple(_NEEDS)  # of BLEU


def bleu(*, lowercase: bool = False, tokenize: str = "13a") -> CorpusScore:
    """BLEU (Papineni et al. 2002), 0 to 100.

    Args:
        lowercase: compare without case.
        tokenize: one of `TOKENIZERS`, which cuts texts into words; "13a" for most languages, "zh" for Chinese,
            "ja-mecab" for Japanese, "ko-mecab" for Korean, "char" for characters.

    Raises:
        ValueError: another tokenizer.
        ModuleNotFoundError: without sacrebleu, or what the tokenizer needs.
    """
    arguments.choice("scores", "tokenize", tokenize, TOKENIZERS)
    metrics = _metrics()
    try:
        return CorpusScore(metrics.BLEU(lowercase=lowercase, tokenize=tokenize))
    except (ImportError, RuntimeError, OSError) as error:
        if not _NEEDS[tokenize]:
            raise
        reason = f" ({error})" if isinstance(error, OSError) else ""  # of a download that failed
        raise ModuleNotFoundError(f"scores: BLEU's {tokenize} needs {_NEEDS[tokenize]}{reason}") from None


def chrf() -> CorpusScore:
    """chrF (Popović 2015), 0 to 100. ModuleNotFoundError without sacrebleu."""
    return CorpusScore(_metrics().CHRF())


class CorpusScore:
    """A score of a corpus that is added in parts. It keeps counts, no text.

    Translations and references are compared in Unicode form NFC: the same text in another form is no error.
    """

    def __init__(self, metric: Any) -> None:
        self._metric = metric
        self._counts: list[float] = []

    def add(self, outputs: Sequence[str], references: Sequence[str]) -> None:
        """Adds translations and the reference of each. ValueError for different numbers of them."""
        from unicodedata import normalize

        if len(outputs) != len(references):
            raise ValueError(f"scores: references must be {len(outputs)}, as outputs, got {len(references)}")
        outputs, references = ([normalize("NFC", text) for text in texts] for texts in (outputs, references))
        for counts in self._metric._extract_corpus_statistics(outputs, [references]):
            self._counts = [a + b for a, b in zip(self._counts or [0] * len(counts), counts, strict=True)]

    def value(self) -> float:
        """The score of all parts so far, 0 to 100."""
        return float(self._result().score)

    def signature(self) -> str:
        """sacreBLEU's signature: version and settings."""
        return str(self._metric.get_signature())

    def __str__(self) -> str:
        """The score and its parts, for instance the precisions of BLEU."""
        return str(self._result())

    def _result(self) -> Any:
        return self._metric._aggregate_and_compute([self._counts])


def _metrics() -> Any:
    try:
        from sacrebleu import metrics
    except ModuleNotFoundError:
        raise ModuleNotFoundError("scores: needs the extra: pip install 'dragoman[text]'") from None
    return metrics
