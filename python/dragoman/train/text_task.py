"""What tasks on text have in common: a tokenizer, its files, and checks of examples."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt

from dragoman import arguments
from dragoman.data.columns import Columns, Ids, columns_of
from dragoman.data.text import Files, sample_texts
from dragoman.data.tokenizer import Tokenizer
from dragoman.data.vocabulary import Kind
from dragoman.files import atomic_write
from dragoman.json_file import read_object
from dragoman.models.base import TOKENIZER, Model
from dragoman.models.encoder import TextEncoder
from dragoman.nn.module import Module
from dragoman.train.options import TrainingOptions
from dragoman.train.task import TASK, Task

SAMPLE_BYTES = 1 << 25  # of text, from which a vocabulary is learnt


class TextTask(Task):
    """A task whose examples hold text; encoded ones are tuples of ids in the order of `columns`.

    Args:
        tokenizer: needed for examples of text; saved with the model.
    """

    unit = "text"
    files = ("data",)

    def __init__(self, tokenizer: Tokenizer | None = None) -> None:
        if tokenizer is not None:
            arguments.check_types(type(self).__name__, Tokenizer, tokenizer=tokenizer)
        self.tokenizer = tokenizer

    @abstractmethod
    def encode_text(self, examples: Sequence[Any]) -> Columns:
        """The columns of examples of text."""

    @abstractmethod
    def is_text(self, example: Any) -> bool:
        """Whether an example is of text. TypeError for one that is neither text nor ids."""

    @classmethod
    def texts(cls, examples: Iterable[Any]) -> Iterator[str]:
        """The texts of examples, for a vocabulary."""
        return iter(examples)

    def check_model(self, model: Module) -> None:
        arguments.check_types("Trainer", Model, model=model)

    def check(self, name: str, examples: Any) -> None:
        if not isinstance(examples, Sequence) or isinstance(examples, str | bytes):
            raise TypeError(f"Trainer: {name} must be a list of {self.unit}s, got {type(examples).__name__}")
        if not len(examples):
            raise ValueError(f"Trainer: {name} must hold at least one {self.unit}, got none")
        try:
            text = self.is_text(examples[0])
        except TypeError as error:
            raise TypeError(f"Trainer: {name}[0] {error}, got {examples[0]!r}") from None
        if text and self.tokenizer is None:
            raise ValueError(f"Trainer: {name} of text needs a tokenizer, got none")

    def encode(self, examples: Sequence[Any]) -> Columns:
        if self.is_text(examples[0]):
            return self.encode_text(examples)
        return columns_of(self.columns, examples)

    @property
    def vocab_size(self) -> int:
        return self._tokenizer().vocab_size

    def cut(self, tokens: Sequence[Ids], model: TextEncoder) -> list[Ids]:
        """What the model reads of framed texts that may be too long for it, in training as in use."""
        frame = (Tokenizer if self.tokenizer is None else self.tokenizer).text_frame
        return [frame.cut(ids, model.config.max_length) for ids in tokens]

    def settings(self) -> dict[str, Any]:
        """The other arguments that the task was made with, as JSON values."""
        return {}

    def save(self, folder: Path) -> None:
        if self.tokenizer is not None:
            self.tokenizer.save(folder / TOKENIZER)
        atomic_write(folder / TASK, json.dumps({"task": self.name, **self.settings()}, ensure_ascii=False).encode())

    @classmethod
    def load(cls, folder: Path) -> Self:
        settings = read_object(folder / TASK)
        if (name := settings.pop("task", None)) != cls.name:
            raise ValueError(f"{folder / TASK}: task must be {cls.name}, got {name!r}")
        return cls(Tokenizer.load(folder / TOKENIZER), **settings)

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
        if tokenizer is None:
            texts = sample_texts(cls.texts(cls.examples(files, **settings)), files["data"], SAMPLE_BYTES)
            tokenizer = Tokenizer.train(texts, vocab_size, cast(Kind, tokenizer_kind), lowercase=lowercase)
        return cls(tokenizer, **settings)

    @classmethod
    @abstractmethod
    def examples(cls, files: Mapping[str, Files], **settings: Any) -> Iterable[Any]:
        """The examples in files, read as `settings` say."""

    def read(self, files: Mapping[str, Files]) -> Iterable[Any]:
        return self.examples(files, **self.settings())

    def made_of(self) -> dict[str, Any]:
        return {"tokenizer": self._tokenizer().digest(), **self.settings()}

    def _tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise ValueError(f"{type(self).__name__}: text needs a tokenizer, got none")
        return self.tokenizer


def is_text(example: Any) -> bool:
    """Whether an example is a text, and not a tuple of lists of ids. TypeError for one that is neither."""
    if isinstance(example, str):
        return True
    if isinstance(example, tuple | list) and all(isinstance(cell, Sequence | np.ndarray) for cell in example):
        return False
    raise TypeError("must be a text, or lists of ids")


def text_costs(
    lengths: npt.NDArray[np.integer[Any]], longest: int, options: TrainingOptions
) -> npt.NDArray[np.integer[Any]]:
    """The cost of texts that are cut to `longest` tokens; 0 for those that the options leave out."""
    costs = np.minimum(lengths, longest)
    return np.where((costs <= options.max_length) & (costs >= options.min_length), costs, 0)
