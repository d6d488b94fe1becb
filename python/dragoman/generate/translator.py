"""Translator: text in, text out, from a folder that training wrote."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast, overload

from dragoman import arguments
from dragoman.arrays import check_device
from dragoman.data.batches import cut_batches
from dragoman.data.pairs import cut_source, source_ids
from dragoman.data.tokenizer import Tokenizer
from dragoman.generate.search import generate
from dragoman.models.encoder_decoder import EncoderDecoder
from dragoman.models.folder import load

BATCH_TOKENS = 2048  # source tokens translated together


class Translator:
    """Translates texts with a trained model. Made by `Translator.load`.

    Any number of threads may call it or `submit`: one translation runs at a time, on all the library's threads.

    Args:
        model: the model.
        tokenizer: the one that the model was trained with.

    Raises:
        TypeError: another kind of model or tokenizer.
        ValueError: the tokenizer has more tokens than the model.
    """

    def __init__(self, model: EncoderDecoder, tokenizer: Tokenizer) -> None:
        arguments.check_types("Translator", EncoderDecoder, model=model)
        arguments.check_types("Translator", Tokenizer, tokenizer=tokenizer)
        if tokenizer.vocab_size > model.config.vocab_size:
            raise ValueError(
                f"Translator: tokenizer must have at most {model.config.vocab_size} tokens, "
                f"as the model, got {tokenizer.vocab_size}"
            )
        self.model = model
        self.tokenizer = tokenizer
        self._running = threading.Lock()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="dragoman-translator")

    def __reduce__(self) -> tuple[Any, ...]:
        """For `copy` and `pickle`: the model and the tokenizer; the copy has a lock and a thread of its own."""
        return type(self), (self.model, self.tokenizer)

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu", compute_type: str = "float32") -> Translator:
        """Reads model.safetensors, config.json and tokenizer.json.

        Args:
            folder: written by `Trainer` or `dragoman train`.
            device: where the model computes, "cpu" or "cuda".
            compute_type: "float32".

        Raises:
            OSError: a file is missing.
            ValueError: a file that cannot be used, naming it; a device that is not there; another compute type.
        """
        check_device("Translator", device)
        if compute_type != "float32":
            raise ValueError(f"Translator: compute_type must be 'float32', got {compute_type!r}")
        return cls(cast(EncoderDecoder, load(folder).to(device)), Tokenizer.load(Path(folder) / "tokenizer.json"))

    @overload
    def __call__(self, text: str, beam: int = 5, length_penalty: float = 0.6, max_length: int | None = None) -> str: ...

    @overload
    def __call__(
        self, text: list[str], beam: int = 5, length_penalty: float = 0.6, max_length: int | None = None
    ) -> list[str]: ...

    def __call__(
        self,
        text: str | list[str],
        beam: int = 5,
        length_penalty: float = 0.6,
        max_length: int | None = None,
    ) -> str | list[str]:
        """Translates a text, or each of several.

        Texts are translated in batches of similar length; a translation does not depend on the texts beside
        it. A text longer than the config's `max_source_length` is cut; one without a token (empty, or of spaces)
        becomes "".

        Args:
            text: one text or several.
            beam: hypotheses followed side by side; 1 is greedy search.
            length_penalty: exponent that favours longer translations (Wu et al. 2016), at least 0.
            max_length: maximum number of tokens of a translation. None for twice the source's plus 10.

        Returns:
            A str for a str, else a list in the order of the texts.

        Raises:
            TypeError, ValueError: naming the argument.
        """
        if not isinstance(text, str | list | tuple):
            raise TypeError(f"Translator: text must be a str or a list of them, got {type(text).__name__}")
        if not isinstance(text, str):
            arguments.check_types("Translator", str, **{f"text[{i}]": item for i, item in enumerate(text)})
        with self._running:
            outputs = self._translate([text] if isinstance(text, str) else list(text), beam, length_penalty, max_length)
        return outputs[0] if isinstance(text, str) else outputs

    def submit(
        self, text: str, beam: int = 5, length_penalty: float = 0.6, max_length: int | None = None
    ) -> Future[str]:
        """Queues a text, with the arguments of a call, and returns at once; `.result()` waits for the translation."""
        return self._executor.submit(self, text, beam, length_penalty, max_length)

    def _translate(self, texts: list[str], beam: int, length_penalty: float, max_length: int | None) -> list[str]:
        maximum = self.model.config.max_source_length
        ids = [cut_source(source, maximum) for source in source_ids(self.tokenizer, texts)]
        lengths = [len(source) for source in ids]
        order = sorted((i for i, length in enumerate(lengths) if length > 1), key=lengths.__getitem__)
        outputs = [""] * len(texts)
        for batch in cut_batches(order, lengths, BATCH_TOKENS):
            found = generate(
                self.model,
                [ids[i] for i in batch],
                beam=beam,
                length_penalty=length_penalty,
                max_length=max_length,
            )
            for i, hypotheses in zip(batch, found, strict=True):
                outputs[i] = self.tokenizer.decode(hypotheses[0].ids)
        return outputs
