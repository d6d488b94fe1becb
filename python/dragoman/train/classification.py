"""Classification: the task of texts with labels."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, cast

import numpy as np
import numpy.typing as npt

from dragoman import arguments
from dragoman.data.bpe_dropout import BpeDropout
from dragoman.data.columns import Columns, Ids, Lengths
from dragoman.data.framing import framed_texts
from dragoman.data.text import Files
from dragoman.data.tokenizer import Tokenizer
from dragoman.data.tsv import iter_tsv
from dragoman.data.vocabulary import UNK
from dragoman.models.config import ModelConfig
from dragoman.models.encoder import EncoderConfig, TextEncoder
from dragoman.nn.module import Module
from dragoman.tensor import Tensor
from dragoman.train.callbacks import Record
from dragoman.train.label_scores import LABEL_DEFAULTS, LABEL_SCORES, LabelScores, checked_labels, largest
from dragoman.train.options import TrainingOptions
from dragoman.train.task import Batch, Score
from dragoman.train.text_task import TextTask, text_costs

ROLES = ("label", "text")


class LabelTask(TextTask):
    """A task whose targets are labels.

    Args:
        tokenizer: needed for examples of text; saved with the model.
        labels: the names of the labels, in the order of their numbers.
        token_dropout: in training, this share of the tokens is replaced by <unk> (Iyyer et al. 2015, "Deep unordered
            composition rivals syntactic methods for text classification").
    """

    head: ClassVar[str]
    config_class: ClassVar[type[ModelConfig]] = EncoderConfig
    scores: ClassVar[Mapping[str, Score]] = LABEL_SCORES
    defaults: ClassVar[Mapping[str, Any]] = LABEL_DEFAULTS

    def __init__(
        self, tokenizer: Tokenizer | None = None, labels: Sequence[str] = (), token_dropout: float = 0.0
    ) -> None:
        super().__init__(tokenizer)
        self.token_dropout = arguments.rate(type(self).__name__, "token_dropout", token_dropout)
        self.labels = checked_labels(type(self).__name__, "labels", labels)
        self._numbers = {label: number for number, label in enumerate(self.labels)}

    @classmethod
    def labels_of(cls, examples: Iterable[Any]) -> Iterator[str]:
        """The labels in examples of text."""
        raise NotImplementedError

    @classmethod
    def learn(
        cls,
        files: Mapping[str, Files],
        vocab_size: int,
        tokenizer_kind: str,
        tokenizer: Tokenizer | None = None,
        lowercase: bool = False,
        **settings: Any,
    ) -> Any:
        labels = learnt_labels(cls.labels_of(cls.examples(files, **settings)))
        return super().learn(files, vocab_size, tokenizer_kind, tokenizer, lowercase, labels=labels, **settings)

    def settings(self) -> dict[str, Any]:
        return {"labels": list(self.labels), "token_dropout": self.token_dropout}

    def made_of(self) -> dict[str, Any]:
        return {name: value for name, value in super().made_of().items() if name != "token_dropout"}

    def augment(self, rows: Columns, seed: Sequence[int]) -> Columns:
        if not self.token_dropout:
            return rows
        draw = np.random.default_rng(seed)
        return {**rows, "tokens": [self._dropped(ids, draw) for ids in rows["tokens"]]}

    def _dropped(self, ids: Ids, draw: np.random.Generator) -> Ids:
        """Ids with <unk> at random places, but for the first and the last."""
        gone = draw.random(len(ids)) < self.token_dropout
        gone[[0, -1]] = False
        unknown = UNK if self.tokenizer is None else self.tokenizer.unk_id
        return cast(Ids, np.where(gone, unknown, ids).tolist())

    def splitter(self, options: TrainingOptions) -> Callable[[Columns, Sequence[int]], Columns]:
        split = BpeDropout(self._tokenizer(), options.bpe_dropout, options.max_length)
        return lambda rows, seed: self.split(rows, split, seed)

    def split(self, rows: Columns, split: BpeDropout, seed: Sequence[int]) -> Columns:
        """Rows whose words are split anew."""
        return {**rows, "tokens": split(rows["tokens"], seed)}

    def config_fields(self) -> dict[str, Any]:
        return {**super().config_fields(), "head": self.head, "labels": self.labels}

    def check_model(self, model: Module) -> None:
        arguments.check_types("Trainer", TextEncoder, model=model)
        config = cast(TextEncoder, model).config
        if config.head != self.head or config.labels != self.labels:
            expected = f"{self.head!r} and the labels {self.labels}"
            raise ValueError(f"Trainer: model must have the head {expected}, got {config.head!r}, {config.labels}")

    def number(self, label: str) -> int:
        """The number of a label. ValueError for one that the task has not."""
        try:
            return self._numbers[label]
        except KeyError:
            raise ValueError(f"{self.name}: label must be one of {', '.join(self.labels)}, got {label!r}") from None

    def scorer(self, model: Any, options: TrainingOptions) -> LabelScorer:
        return LabelScorer(self)

    def predicted(self, model: Any, batch: Batch) -> npt.NDArray[np.integer[Any]]:
        """The numbers of the labels that a model finds, (targets,)."""
        raise NotImplementedError

    def truth(self, batch: Batch) -> npt.NDArray[np.integer[Any]]:
        """The numbers of the true labels, (targets,)."""
        raise NotImplementedError


class LabelScorer:
    """Accuracy and macro F1 of a LabelTask."""

    def __init__(self, task: Any) -> None:
        self._task = task
        self._scores = LabelScores(task.labels)

    def measure(self, model: Any, batch: Batch, examples: Sequence[Any], loss: float) -> list[list[int]]:
        return [self._task.truth(batch).tolist(), self._task.predicted(model, batch).tolist()]

    def add(self, measured: list[list[int]]) -> None:
        self._scores.add(*measured)

    def record(self) -> Record:
        return self._scores.record()


class Classification(LabelTask):
    """Texts with a label each: examples are (text, label), or ([token ids], [number of the label]).

    Texts are cut to the `max_length` of the model's config. Scores are "accuracy" and "macro_f1", in percent.

    Args:
        tokenizer: needed for examples of text; saved with the model.
        labels: the names of the labels, in the order of their numbers.
        columns: where files have the label and the text, see `dragoman.data.iter_tsv`.
        token_dropout: in training, this share of the tokens is replaced by <unk>.
    """

    name = "classify"
    head = "classify"
    columns = ("tokens", "label")

    def __init__(
        self,
        tokenizer: Tokenizer | None = None,
        labels: Sequence[str] = (),
        columns: Sequence[str] = ROLES,
        token_dropout: float = 0.0,
    ) -> None:
        super().__init__(tokenizer, labels, token_dropout)
        self.file_columns = checked_labels("Classification", "columns", columns)

    def is_text(self, example: Any) -> bool:
        if isinstance(example, tuple | list) and len(example) == 2:
            if isinstance(example[0], str) and isinstance(example[1], str):
                return True
            if all(isinstance(cell, Sequence | np.ndarray) and not isinstance(cell, str) for cell in example):
                return False
        raise TypeError("must be a text and its label, or two lists of ids")

    def encode_text(self, examples: Sequence[tuple[str, str]]) -> Columns:
        tokens = framed_texts(self._tokenizer(), [text for text, _ in examples])
        return {"tokens": tokens, "label": [[self.number(label)] for _, label in examples]}

    def costs(self, lengths: Lengths, model: TextEncoder, options: TrainingOptions) -> npt.NDArray[np.integer[Any]]:
        return text_costs(lengths["tokens"], model.config.max_length, options)

    def batch(self, rows: Columns, model: TextEncoder, seed: Sequence[int]) -> Batch:
        tokens = self.cut(rows["tokens"], model)
        return Batch({"tokens": tokens, "label": rows["label"]}, len(tokens), sum(map(len, tokens)))

    def loss(self, model: TextEncoder, batch: Batch, num_targets: int, options: TrainingOptions) -> Tensor:
        return model.loss(batch.columns["tokens"], self.truth(batch), options.label_smoothing, num_targets)

    def truth(self, batch: Batch) -> npt.NDArray[np.integer[Any]]:
        return np.array([cell[0] for cell in batch.columns["label"]], np.int32)

    def predicted(self, model: TextEncoder, batch: Batch) -> npt.NDArray[np.integer[Any]]:
        return largest(model.logits(batch.columns["tokens"]))

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "columns": list(self.file_columns)}

    @classmethod
    def examples(cls, files: Mapping[str, Files], **settings: Any) -> Iterator[tuple[str, str]]:
        return iter_labelled(files["data"], settings.get("columns", ROLES))

    @classmethod
    def texts(cls, examples: Iterable[Any]) -> Iterator[str]:
        return (text for text, _ in examples)

    @classmethod
    def labels_of(cls, examples: Iterable[Any]) -> Iterator[str]:
        return (label for _, label in examples)


def iter_labelled(files: Files, columns: Sequence[str] = ROLES) -> Iterator[tuple[str, str]]:
    """(text, label) of each line of `.tsv` files.

    Args:
        files: one or several.
        columns: the label's and the text's column, by name or number, as of `iter_tsv`. Columns named "text" and
            "label" may come in either order.

    Raises:
        OSError, ValueError: as of `iter_tsv`; not two columns.
    """
    if len(columns) != 2:
        raise ValueError(f"columns must be two, of the label and of the text, got {', '.join(columns)!r}")
    label = 1 if tuple(columns) == ROLES[::-1] else 0
    return ((cells[1 - label], cells[label]) for cells in iter_tsv(files, columns, ROLES))


def learnt_labels(labels: Iterable[str], *, of_lines: bool = True) -> list[str]:
    """As `ordered_labels`, of training data. Says by a UserWarning where there is one label alone, and where the first
    of many lines has a label of its own, as a line of names has."""
    counts = Counter(labels)
    first, *others = counts
    if not others:
        warnings.warn(f"all examples have the label {first!r}, so there is nothing to learn", stacklevel=2)
    elif of_lines and counts[first] == 1 and min(counts[label] for label in others) > 1:
        warnings.warn(f"only the first line has the label {first!r}: it looks like a line of names", stacklevel=2)
    return ordered_labels(counts)


def ordered_labels(labels: Iterable[str]) -> list[str]:
    """All different labels: numbers by their values, others by their letters."""
    found = set(labels)
    return sorted(found, key=int) if all(label.isdecimal() for label in found) else sorted(found)
