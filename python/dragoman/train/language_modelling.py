"""LanguageModelling: the task of predicting each token of a text from those before it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from dragoman import arguments
from dragoman.data.columns import Columns, Ids, Lengths
from dragoman.data.framing import documents
from dragoman.data.text import Files, iter_texts
from dragoman.data.tokenizer import Tokenizer
from dragoman.models.config import ModelConfig
from dragoman.models.decoder import DecoderConfig, TextDecoder
from dragoman.nn.module import Module
from dragoman.tensor import Tensor
from dragoman.train.callbacks import Record
from dragoman.train.options import TrainingOptions
from dragoman.train.task import Batch, Score
from dragoman.train.text_task import TextTask, is_text


class LanguageModelling(TextTask):
    """Texts, each begun by <s> and ended by </s>: examples are texts, or ([token ids],).

    A text longer than the model's `max_length` is read in pieces of that length, so that each of its tokens is learnt.
    The score "bits_per_character" counts </s> as one character, as the end of a line is; the log has the perplexity
    of a token, too.

    Args:
        tokenizer: needed for examples of text and for the score; saved with the model.
    """

    name = "lm"
    columns = ("tokens",)
    config_class: ClassVar[type[ModelConfig]] = DecoderConfig
    scores: ClassVar[Mapping[str, Score]] = {"bits_per_character": Score("bits per character", larger_is_better=False)}
    defaults: ClassVar[Mapping[str, Any]] = {"label_smoothing": 0.0}

    def check_model(self, model: Module) -> None:
        arguments.check_types("Trainer", TextDecoder, model=model)

    def is_text(self, example: Any) -> bool:
        return is_text(example)

    def encode_text(self, examples: Sequence[str]) -> Columns:
        return {"tokens": documents(self._tokenizer(), examples)}

    def costs(self, lengths: Lengths, model: TextDecoder, options: TrainingOptions) -> npt.NDArray[np.integer[Any]]:
        predicted = lengths["tokens"] - 1
        return np.where(predicted >= options.min_length, predicted, 0)

    def batch(self, rows: Columns, model: TextDecoder, seed: Sequence[int]) -> Batch:
        pieces = [piece for ids in rows["tokens"] for piece in pieces_of(ids, model.config.max_length)]
        count = sum(map(len, pieces)) - len(pieces)
        return Batch({"tokens": pieces}, count, count)

    def loss(self, model: TextDecoder, batch: Batch, num_targets: int, options: TrainingOptions) -> Tensor:
        return model.loss(batch.columns["tokens"], options.label_smoothing, num_targets)

    def scorer(self, model: Any, options: TrainingOptions) -> CharacterScorer | None:
        return None if self.tokenizer is None else CharacterScorer(self.tokenizer)

    @classmethod
    def examples(cls, files: Mapping[str, Files], **settings: Any) -> Iterable[str]:
        return iter_texts(files["data"])


class CharacterScorer:
    """The bits that the model needs for a character."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._nats, self._characters = 0.0, 0

    def measure(self, model: TextDecoder, batch: Batch, examples: Sequence[Any], loss: float) -> tuple[float, int]:
        texts = [each if isinstance(each, str) else self._tokenizer.decode(each[0]) for each in examples]
        return loss, sum(len(text.strip()) + 1 for text in texts)

    def add(self, measured: tuple[float, int]) -> None:
        nats, characters = measured
        self._nats += nats
        self._characters += characters

    def record(self) -> Record:
        return {"bits_per_character": self._nats / math.log(2) / max(self._characters, 1)}


def pieces_of(ids: Ids, length: int) -> list[Ids]:
    """Pieces in which `length` tokens or fewer are predicted; each begins with the last token of the one before."""
    return [ids[first : first + length + 1] for first in range(0, max(len(ids) - 1, 1), length)]
