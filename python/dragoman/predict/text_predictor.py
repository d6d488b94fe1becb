"""What serves models of text has in common: the model, the tokenizer, and batches of similar length."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

from dragoman import arguments
from dragoman.data.framing import framed_texts
from dragoman.data.texts import check_text, check_texts
from dragoman.data.tokenizer import Tokenizer
from dragoman.models.encoder import TextEncoder
from dragoman.models.folder import read_config
from dragoman.models.speech import SpeechTransformer
from dragoman.predict.batch_executor import BatchExecutor
from dragoman.predict.call import Work
from dragoman.predict.executor import Executor
from dragoman.predict.loading import load_with_tokenizer
from dragoman.predict.predictor import Predictor


class TextPredictor(Predictor):
    """Base of what serves a model of text.

    Args:
        model: of the class's `kind`.
        tokenizer: the one that the model was trained with.
        queue_limit, batch_tokens: as of `Predictor`.

    Raises:
        TypeError: another kind of model or tokenizer.
        ValueError: the tokenizer has more tokens than the model.
    """

    kind: ClassVar[type[Any]]  # of the model

    def __init__(
        self, model: Any, tokenizer: Tokenizer, *, queue_limit: int | None = None, batch_tokens: int | None = None
    ) -> None:
        name = type(self).__name__
        arguments.check_types(name, self.kind, model=model)
        if isinstance(model, SpeechTransformer):
            raise TypeError(f"{name}: model must read text, got a SpeechTransformer, which is for Transcriber")
        arguments.check_types(name, Tokenizer, tokenizer=tokenizer)
        if tokenizer.vocab_size > model.config.vocab_size:
            raise ValueError(
                f"{name}: tokenizer must have at most {model.config.vocab_size} tokens, as the model, "
                f"got {tokenizer.vocab_size}"
            )
        self.model = model
        self.tokenizer = tokenizer
        super().__init__(model, tokenizer, queue_limit=queue_limit, batch_tokens=batch_tokens)

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu", compute_type: str = "default", **limits: Any) -> Self:
        """Reads a model and its tokenizer.

        Args:
            folder: written by `Trainer` or `dragoman train`, or from elsewhere: see docs/guide/checkpoints.md.
            device: where the model computes, "cpu" or "cuda".
            compute_type: "int8", "bfloat16" or "float32" for weights frozen in it (`Model.freeze`): less memory, and
                with "int8" and "bfloat16" faster. "default" for the model as it was saved.
            limits: `queue_limit` and `batch_tokens` of the constructor.

        Raises:
            OSError: a file is missing.
            TypeError: the folder holds another kind of model.
            ValueError: a file that cannot be used, naming it; a device that is not there; a compute type that is none,
                or that does not fit the device or a frozen folder.
        """
        arguments.check_path(cls.__name__, "folder", folder)
        model_class, _ = read_config(Path(folder))
        if not issubclass(model_class, cls.kind):
            raise TypeError(
                f"{cls.__name__}: model must be {arguments.with_article(cls.kind.__name__)}, got {model_class.__name__}"
            )
        model, tokenizer = load_with_tokenizer(cls.__name__, folder, device, compute_type)
        return cls(model, tokenizer, **limits)


def checked_texts(op: str, text: object) -> list[str]:
    """One text or several as a list. TypeError, ValueError as in `check_text`, naming the index."""
    if isinstance(text, str):
        check_text(op, "text", text)
        return [text]
    if not isinstance(text, list | tuple):
        raise TypeError(f"{op}: text must be a str or a list of them, got {type(text).__name__}")
    return check_texts(op, "text", text)


def check_text_pairs(op: str, pairs: object) -> None:
    """TypeError, ValueError, naming the place, unless these are pairs of texts."""
    if not isinstance(pairs, list | tuple):
        raise TypeError(f"{op}: pairs must be a list of pairs of texts, got {type(pairs).__name__}")
    for i, pair in enumerate(pairs):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise TypeError(f"{op}: pairs[{i}] must be two texts, got {arguments.described(pair)}")
        for side, text in enumerate(pair):
            check_text(op, f"pairs[{i}][{side}]", text)


class EncoderPredictor(TextPredictor):
    """Base of what serves a TextEncoder. ValueError for a model with another head than the class's."""

    kind = TextEncoder
    head: ClassVar[str | None] = None  # that the model must have; None for any

    def __init__(self, model: TextEncoder, tokenizer: Tokenizer, **limits: int | None) -> None:
        super().__init__(model, tokenizer, **limits)
        if self.head is not None and model.config.head != self.head:
            raise ValueError(
                f"{type(self).__name__}: model must have the head {self.head!r}, got {model.config.head!r}"
            )

    def _make_executor(self, name: str, batch_tokens: int, queue_limit: int | None) -> Executor:
        return BatchExecutor(partial(type(self)._answer, self.model), name, batch_tokens, queue_limit)

    @staticmethod
    def _answer(model: TextEncoder, values: list[Any]) -> Sequence[Any]:
        """The result of each value of a batch. It holds the model alone: the thread keeps no predictor alive."""
        raise NotImplementedError

    def _framed(self, texts: list[str]) -> list[Work]:
        """The ids of texts, cut to what the model can read."""
        maximum = self.model.config.max_length
        frame = self.tokenizer.text_frame
        ids = [frame.cut(each, maximum) for each in framed_texts(self.tokenizer, texts)]
        return [Work(each, len(each)) for each in ids]
