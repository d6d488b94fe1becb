"""What serves models of text has in common: the model, the tokenizer, and batches of similar length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from dragoman import arguments
from dragoman.data.batches import cut_batches
from dragoman.data.texts import check_text, check_texts
from dragoman.data.tokenizer import Tokenizer
from dragoman.models.encoder import TextEncoder
from dragoman.models.folder import read_config
from dragoman.predict.loading import load_with_tokenizer
from dragoman.predict.predictor import Predictor

BATCH_TOKENS = 4096  # tokens read together


class TextPredictor(Predictor):
    """Base of what serves a model of text.

    Args:
        model: of the class's `kind`.
        tokenizer: the one that the model was trained with.

    Raises:
        TypeError: another kind of model or tokenizer.
        ValueError: the tokenizer has more tokens than the model.
    """

    kind: ClassVar[type[Any]]  # of the model

    def __init__(self, model: Any, tokenizer: Tokenizer) -> None:
        name = type(self).__name__
        arguments.check_types(name, self.kind, model=model)
        arguments.check_types(name, Tokenizer, tokenizer=tokenizer)
        if tokenizer.vocab_size > model.config.vocab_size:
            raise ValueError(
                f"{name}: tokenizer must have at most {model.config.vocab_size} tokens, as the model, "
                f"got {tokenizer.vocab_size}"
            )
        self.model = model
        self.tokenizer = tokenizer
        super().__init__(model, tokenizer)

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> Self:
        """Reads model.safetensors, config.json and tokenizer.json.

        Args:
            folder: written by `Trainer` or `dragoman train`.
            device: where the model computes, "cpu" or "cuda".

        Raises:
            OSError: a file is missing.
            TypeError: the folder holds another kind of model.
            ValueError: a file that cannot be used, naming it; a device that is not there.
        """
        arguments.check_path(cls.__name__, "folder", folder)
        model_class, _ = read_config(Path(folder))
        if not issubclass(model_class, cls.kind):
            raise TypeError(
                f"{cls.__name__}: model must be {arguments.with_article(cls.kind.__name__)}, got {model_class.__name__}"
            )
        return cls(*load_with_tokenizer(cls.__name__, folder, device))


def checked_texts(op: str, text: object) -> list[str]:
    """One text or several as a list. TypeError, ValueError as in `check_text`, naming the index."""
    if isinstance(text, str):
        check_text(op, "text", text)
        return [text]
    if not isinstance(text, list | tuple):
        raise TypeError(f"{op}: text must be a str or a list of them, got {type(text).__name__}")
    return check_texts(op, "text", text)


class EncoderPredictor(TextPredictor):
    """Base of what serves a TextEncoder. ValueError for a model with another head than the class's."""

    kind = TextEncoder
    head: ClassVar[str | None] = None  # that the model must have; None for any

    def __init__(self, model: TextEncoder, tokenizer: Tokenizer) -> None:
        super().__init__(model, tokenizer)
        if self.head is not None and model.config.head != self.head:
            raise ValueError(
                f"{type(self).__name__}: model must have the head {self.head!r}, got {model.config.head!r}"
            )

    def _in_batches(
        self, items: Sequence[Any], length: Callable[[Any], int], run: Callable[[list[Any]], Sequence[Any]]
    ) -> list[Any]:
        """The result of each item, in their order; `run` gets items of similar length and returns one result each."""
        lengths = [length(item) for item in items]
        order = sorted(range(len(items)), key=lengths.__getitem__)
        results: list[Any] = [None] * len(items)
        with self._running:
            for batch in cut_batches(order, lengths, BATCH_TOKENS):
                for i, result in zip(batch, run([items[i] for i in batch]), strict=True):
                    results[i] = result
        return results
