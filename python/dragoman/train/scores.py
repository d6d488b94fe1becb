"""Scores of translations by sacreBLEU (Post 2018, arXiv:1804.08771), of summaries by rouge-score. No other file imports
these libraries."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Protocol
from unicodedata import normalize

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

ROUGES = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L"}

# Words of letters and digits in any alphabet. In Chinese and Japanese, which have no spaces, each character is a word.
_EACH = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_EACH}]|[^\W_{_EACH}]+")


class Metric(Protocol):
    """A score of a corpus that is added in parts."""

    def add(self, outputs: Sequence[str], references: Sequence[str]) -> None: ...

    def value(self) -> float: ...

    def signature(self) -> str: ...


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


def rouge(kind: str) -> RougeScore:
    """ROUGE (Lin 2004), 0 to 100: the mean over the texts of the F measure of what a summary and its reference share.

    Args:
        kind: one of `ROUGES`: words, pairs of words, or the longest common subsequence of words.

    Raises:
        ValueError: another kind.
        ModuleNotFoundError: without rouge-score.
    """
    arguments.choice("scores", "kind", kind, tuple(ROUGES))
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ModuleNotFoundError:
        raise ModuleNotFoundError("scores: ROUGE needs the extra: pip install 'dragoman[summarise]'") from None
    return RougeScore(RougeScorer([kind], tokenizer=_Words()), kind)


class CorpusScore:
    """A score of a corpus that is added in parts. It keeps counts, no text.

    Translations and references are compared in Unicode form NFC: the same text in another form is no error.
    """

    def __init__(self, metric: Any) -> None:
        self._metric = metric
        self._counts: list[float] = []

    def add(self, outputs: Sequence[str], references: Sequence[str]) -> None:
        """Adds translations and the reference of each. ValueError for different numbers of them."""
        outputs, references = _in_pairs(outputs, references)
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


class RougeScore:
    """ROUGE of a corpus that is added in parts. It keeps a sum, no text.

    The library's own words are of the letters a to z and digits alone. Here they are of any alphabet; for English the
    scores are the library's, without its stemmer.
    """

    def __init__(self, scorer: Any, kind: str) -> None:
        self._scorer = scorer
        self._kind = kind
        self._sum, self._count = 0.0, 0

    def add(self, outputs: Sequence[str], references: Sequence[str]) -> None:
        """Adds summaries and the reference of each. ValueError for different numbers of them."""
        for output, reference in zip(*_in_pairs(outputs, references), strict=True):
            self._sum += self._scorer.score(reference, output)[self._kind].fmeasure
            self._count += 1

    def value(self) -> float:
        """The score of all parts so far, 0 to 100."""
        return 100 * self._sum / max(self._count, 1)

    def signature(self) -> str:
        """The library's version and the settings."""
        from importlib.metadata import version

        return f"f|stem:no|tok:unicode|version:rouge-score-{version('rouge-score')}"

    def __str__(self) -> str:
        return f"{ROUGES[self._kind]} = {self.value():.2f}"


class _Words:
    """The tokenizer of ROUGE."""

    def tokenize(self, text: str) -> list[str]:
        return _WORD.findall(text.lower())


def _in_pairs(outputs: Sequence[str], references: Sequence[str]) -> tuple[list[str], list[str]]:
    """Both in Unicode form NFC. ValueError for different numbers of them."""
    if len(outputs) != len(references):
        raise ValueError(f"scores: references must be {len(outputs)}, as outputs, got {len(references)}")
    return [normalize("NFC", text) for text in outputs], [normalize("NFC", text) for text in references]


def _metrics() -> Any:
    try:
        from sacrebleu import metrics
    except ModuleNotFoundError:
        raise ModuleNotFoundError("scores: needs the extra: pip install 'dragoman[text]'") from None
    return metrics
