"""Translation: the task of sentence pairs, source to target."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import numpy as np
import numpy.typing as npt

from dragoman import arguments
from dragoman.data.bpe_dropout import BpeDropout
from dragoman.data.columns import Columns, Lengths, columns_of
from dragoman.data.pairs import SIDES, Pair, check_pairs, encode_pairs, pair_costs
from dragoman.data.text import Files, as_files, iter_parallel, sample_lines
from dragoman.data.tokenizer import Tokenizer, with_token
from dragoman.data.vocabulary import Kind
from dragoman.generate.search import generate
from dragoman.models.base import TOKENIZER, Model
from dragoman.models.encoder_decoder import EncoderDecoder
from dragoman.nn.module import Module
from dragoman.tensor import Tensor
from dragoman.train import scores
from dragoman.train.callbacks import Record
from dragoman.train.options import TrainingOptions
from dragoman.train.scores import Metric
from dragoman.train.seen_text import SeenText
from dragoman.train.task import Batch, Score, Task
from dragoman.train.text_task import SAMPLE_BYTES

Pairs = Sequence[tuple[str, str]] | Sequence[Pair]


class Translation(Task):
    """Pairs of a source and a target: texts, or lists of token ids (the target's without <s> and </s>).

    If the config has a `max_source_length`, sources are cut to it and `max_length` limits only the targets. Validation
    translates, for the scores "bleu" and "chrf", only if `best_by` names one of them.

    Args:
        tokenizer: needed for pairs of text, BLEU and chrF; saved with the model.
    """

    name = "translate"
    unit = "pair"
    columns = SIDES
    files = SIDES
    scores: ClassVar[Mapping[str, Score]] = {"bleu": Score("BLEU"), "chrf": Score("chrF")}

    def __init__(self, tokenizer: Tokenizer | None = None) -> None:
        if tokenizer is not None:
            arguments.check_types(type(self).__name__, Tokenizer, tokenizer=tokenizer)
        self.tokenizer = tokenizer
        self._seen = SeenText()

    def check_model(self, model: Module) -> None:
        arguments.check_types("Trainer", Model, model=model)

    def check(self, name: str, examples: Any) -> None:
        if not isinstance(examples, Sequence) or isinstance(examples, str | bytes):
            raise TypeError(f"Trainer: {name} must be a list of pairs, got {type(examples).__name__}")
        if not len(examples):
            raise ValueError(f"Trainer: {name} must hold at least one pair, got none")
        check_pairs("Trainer", name, examples)
        if _is_text(examples) and self.tokenizer is None:
            raise ValueError(f"Trainer: {name} of text needs a tokenizer, got none")

    def encode(self, examples: Pairs) -> Columns:
        if not _is_text(examples):
            return columns_of(SIDES, cast(Sequence[Pair], examples))
        texts = cast(Sequence[tuple[str, str]], examples)
        columns = encode_pairs(self._tokenizer(), texts)
        self._seen.add(texts, columns)
        return columns

    def costs(self, lengths: Lengths, model: Model, options: TrainingOptions) -> npt.NDArray[np.integer[Any]]:
        return pair_costs(
            lengths["source"],
            lengths["target"],
            max_length=options.max_length,
            max_source_length=model.config.max_source_length,
            min_length=options.min_length,
            max_ratio=options.max_ratio,
        )

    def batch(self, rows: Columns, model: Model, seed: Sequence[int]) -> Batch:
        frame = (Tokenizer if self.tokenizer is None else self.tokenizer).source_frame
        source = [frame.cut(ids, model.config.max_source_length) for ids in rows["source"]]
        target = rows["target"]
        targets = sum(map(len, target)) + len(target)  # each is followed by </s>
        return Batch({"source": source, "target": target}, targets, targets + sum(map(len, source)))

    def splitter(self, options: TrainingOptions) -> Callable[[Columns, Sequence[int]], Columns]:
        if self.tokenizer is None:
            raise ValueError("Trainer: bpe_dropout needs a tokenizer, got none")
        split = BpeDropout(self.tokenizer, options.bpe_dropout, options.max_length - 1)  # a target's </s> follows

        def rows_anew(rows: Columns, seed: Sequence[int]) -> Columns:
            return {name: split(rows[name], [*seed, place]) for place, name in enumerate(SIDES)}

        return rows_anew

    def loss(self, model: Model, batch: Batch, num_targets: int, options: TrainingOptions) -> Tensor:
        return model.loss(batch.columns["source"], batch.columns["target"], options.label_smoothing, num_targets)

    def scorer(self, model: Model, options: TrainingOptions) -> TranslationScorer | None:
        if options.best_by == "loss":
            return None
        if self.tokenizer is None:
            labels = " and ".join(score.label for score in self.scores.values())
            raise ValueError(f"validation: {labels} need a tokenizer, got none")
        arguments.check_types("validation", EncoderDecoder, model=model)
        return TranslationScorer(self.tokenizer, options.beam, self.metrics(options))

    def metrics(self, options: TrainingOptions) -> dict[str, Metric]:
        """The scores of a validation, by name. ModuleNotFoundError without their library."""
        return {"bleu": scores.bleu(tokenize=options.bleu_tokenize), "chrf": scores.chrf()}

    @property
    def vocab_size(self) -> int:
        return self._tokenizer().vocab_size

    def save(self, folder: Path) -> None:
        if self.tokenizer is not None:
            self.tokenizer.save(folder / TOKENIZER)

    @classmethod
    def load(cls, folder: Path) -> Self:
        return cls(Tokenizer.load(folder / TOKENIZER))

    @classmethod
    def learn(
        cls,
        files: Mapping[str, Files],
        vocab_size: int,
        tokenizer_kind: str,
        tokenizer: Tokenizer | None = None,
        lowercase: bool = False,
        **settings: Any,
    ) -> Self:
        if tokenizer is not None:
            return cls(tokenizer, **settings)
        paths = [path for side in SIDES for path in as_files(files[side])]
        lines = sample_lines(paths, SAMPLE_BYTES)
        return cls(Tokenizer.train(lines, vocab_size, cast(Kind, tokenizer_kind), lowercase=lowercase), **settings)

    def read(self, files: Mapping[str, Files]) -> Iterator[tuple[str, str]]:
        return iter_parallel(files["source"], files["target"])

    def remarks(self) -> list[str]:
        seen, self._seen = self._seen, SeenText()
        return seen.remarks(self.tokenizer)

    def made_of(self) -> dict[str, Any]:
        return {"tokenizer": self._tokenizer().digest()}

    def _tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise ValueError(f"{type(self).__name__}: text needs a tokenizer, got none")
        return self.tokenizer


class TranslationScorer:
    """Scores of what the model writes for each source, by beam search."""

    def __init__(self, tokenizer: Tokenizer, beam: int, metrics: Mapping[str, Metric]) -> None:
        self._tokenizer = tokenizer
        self._beam = beam
        self._metrics = metrics

    def measure(self, model: EncoderDecoder, batch: Batch, examples: Pairs, loss: float) -> list[list[str]]:
        decode = self._tokenizer.decode
        found = generate(model, batch.columns["source"], beam=self._beam)
        outputs = [decode(with_token(hypotheses[0].ids, self._tokenizer)) for hypotheses in found]
        text = _is_text(examples)
        references = [cast(str, target) if text else decode(cast(Sequence[int], target)) for _, target in examples]
        return [outputs, references]

    def add(self, measured: list[list[str]]) -> None:
        for metric in self._metrics.values():
            metric.add(*measured)

    def record(self) -> Record:
        record: Record = {}
        for name, metric in self._metrics.items():
            record |= {name: metric.value(), f"{name}_signature": metric.signature()}
        return record


def _is_text(pairs: Pairs) -> bool:
    """Whether pairs are of texts, and not of token ids."""
    return isinstance(pairs[0][0], str)
