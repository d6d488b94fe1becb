"""Scores of translations by sacreBLEU (Post 2018, arXiv:1804.08771). No other file imports it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def bleu(*, lowercase: bool = False) -> CorpusScore:
    """BLEU (Papineni et al. 2002), 0 to 100. ModuleNotFoundError without sacrebleu."""
    return CorpusScore(_metrics().BLEU(lowercase=lowercase))


def chrf() -> CorpusScore:
    """chrF (Popović 2015), 0 to 100. ModuleNotFoundError without sacrebleu."""
    return CorpusScore(_metrics().CHRF())


class CorpusScore:
    """A score of a corpus that is added in parts. It keeps counts, no text."""

    def __init__(self, metric: Any) -> None:
        self._metric = metric
        self._counts: list[float] = []

    def add(self, outputs: Sequence[str], references: Sequence[str]) -> None:
        """Adds translations and the reference of each."""
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
