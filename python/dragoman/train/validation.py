"""Validation: the loss on held-out pairs, and BLEU and chrF of what the decoder makes of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

from dragoman.data.batches import Pair, cut_batches, cut_source, encode_pairs
from dragoman.data.tokenizer import Tokenizer
from dragoman.generate.search import generate
from dragoman.models.encoder_decoder import Transformer
from dragoman.train.callbacks import Record

Pairs = Sequence[tuple[str, str]] | Sequence[Pair]

CHUNK = 1024  # pairs that are held, encoded and sorted by length together


def is_text(pairs: Pairs) -> bool:
    """Whether pairs are of texts, and not of token ids."""
    return isinstance(pairs[0][0], str)


class Validation:
    """Measures a model on pairs; called for a record. Memory does not grow with the number of pairs.

    Args:
        model: what to measure.
        pairs: of texts, or of token ids (the target's without <s> and </s>).
        tokenizer: for texts, and for BLEU and chrF.
        batch_tokens: tokens of a batch, each pair counting its longer side.
        max_length: pairs with more tokens on a side are left out; of targets alone where the model has sources cut.
        beam: of the search for BLEU and chrF; None measures the loss alone.

    Raises:
        ModuleNotFoundError: BLEU and chrF without sacrebleu.
        ValueError: no pair is left; texts, or a beam, without a tokenizer.
    """

    def __init__(
        self,
        model: Transformer,
        pairs: Pairs,
        tokenizer: Tokenizer | None,
        *,
        batch_tokens: int,
        max_length: int,
        beam: int | None = None,
    ) -> None:
        if tokenizer is None and beam is not None:
            raise ValueError("validation: BLEU and chrF need a tokenizer, got none")
        self.model = model
        self.pairs = pairs
        self.tokenizer = tokenizer
        self.batch_tokens = batch_tokens
        self.max_length = max_length
        self.beam = beam
        if beam is not None:
            _metrics()
        if next(self._batches(), None) is None:
            raise ValueError(f"validation: no pairs are left of {len(pairs)} (max_length={max_length})")

    def __call__(self) -> Record:
        """The mean cross entropy per target token, without dropout and label smoothing, its perplexity, and
        BLEU and chrF with their signatures where wanted."""
        total, targets = 0.0, 0
        metrics = {} if self.beam is None else {name: _Metric(metric) for name, metric in _metrics().items()}
        with self.model.inference():
            for batch, references in self._batches():
                src, tgt = [source for source, _ in batch], [target for _, target in batch]
                count = sum(len(ids) + 1 for ids in tgt)
                total += self.model.loss(src, tgt, 0.0).item() * count
                targets += count
                if metrics:
                    outputs = self._decode(src)
                    for metric in metrics.values():
                        metric.add(outputs, references)
        loss = total / targets
        record: Record = {"valid_loss": loss, "valid_perplexity": math.exp(min(loss, 700.0))}
        for name, metric in metrics.items():
            record[f"valid_{name}"] = metric.score()
            record[f"valid_{name}_signature"] = metric.signature()
        return record

    def _batches(self) -> Iterator[tuple[list[Pair], list[str]]]:
        """Batches of token ids of similar length, and the targets' texts where the decoder is to be measured."""
        for first in range(0, len(self.pairs), CHUNK):
            chunk = self.pairs[first : first + CHUNK]
            pairs = cast(Sequence[Pair], chunk)
            if text := is_text(chunk):
                assert self.tokenizer is not None
                pairs = encode_pairs(self.tokenizer, cast(Sequence[tuple[str, str]], chunk))
            most = self.model.config.max_source_length
            pairs = [(cut_source(source, most), target) for source, target in pairs]
            costs = [max(len(source), len(target) + 1) for source, target in pairs]
            limited = costs if most is None else [len(target) + 1 for _, target in pairs]
            kept = sorted((i for i in range(len(costs)) if limited[i] <= self.max_length), key=costs.__getitem__)
            for batch in cut_batches(kept, costs, self.batch_tokens):
                references: list[str] = []
                if self.beam is not None and self.tokenizer is not None:
                    decode = self.tokenizer.decode
                    references = [cast(str, chunk[i][1]) if text else decode(pairs[i][1]) for i in batch]
                yield [pairs[i] for i in batch], references

    def _decode(self, src: list[Sequence[int]]) -> list[str]:
        assert self.tokenizer is not None and self.beam is not None
        found = generate(self.model, src, beam=self.beam)
        return [self.tokenizer.decode(hypotheses[0].ids) for hypotheses in found]


def _metrics() -> dict[str, Any]:
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ModuleNotFoundError:
        raise ModuleNotFoundError("validation: needs the extra: pip install 'dragoman[text]'") from None
    return {"bleu": BLEU(), "chrf": CHRF()}


class _Metric:
    """A sacreBLEU metric of a corpus that comes in parts: its counts are added up, its texts not kept."""

    def __init__(self, metric: Any) -> None:
        self._metric = metric
        self._counts: list[float] = []

    def add(self, outputs: Sequence[str], references: Sequence[str]) -> None:
        for counts in self._metric._extract_corpus_statistics(outputs, [references]):
            self._counts = [a + b for a, b in zip(self._counts or [0] * len(counts), counts, strict=True)]

    def score(self) -> float:
        return float(self._metric._aggregate_and_compute([self._counts]).score)

    def signature(self) -> str:
        return str(self._metric.get_signature())
