"""SentenceEncoder: vectors of texts."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman import arguments
from dragoman.data.texts import check_text
from dragoman.models.encoder import TextEncoder
from dragoman.predict.text_predictor import EncoderPredictor, checked_texts


class SentenceEncoder(EncoderPredictor):
    """Vectors of texts by a trained model: its rows, pooled, as the config says (Reimers & Gurevych 2019,
    arXiv:1908.10084). Made by `SentenceEncoder.load`.

    Any number of threads may call it or `submit`: what waits is merged into batches.

    Args:
        model: with any head, which is not read.
        tokenizer: the one that the model was trained with.

    Raises:
        TypeError, ValueError: another kind of model or tokenizer.
    """

    def __call__(self, text: str | list[str], prompt: str | None = None) -> npt.NDArray[np.float32]:
        """The vector of a text, float32 (vector_size of the config,), or of each of several, (texts, vector_size).

        A vector does not depend on the texts beside it. A text longer than the config's `max_length` is cut.

        Args:
            text: one text or several.
            prompt: the name of one of the config's `prompts`, which is written before each text, as models for search
                want it before questions; by default the `default_prompt` of the config, if any.

        Raises:
            TypeError, ValueError: naming the argument, and the index of a text that is none.
        """
        first = self._prompt(prompt)
        texts = checked_texts("SentenceEncoder", text)
        found = self._executor.run(self._framed([first + each for each in texts] if first else texts))
        vectors = np.array(found, np.float32).reshape(len(found), self.model.config.vector_size)
        return vectors[0] if isinstance(text, str) else vectors

    def submit(self, text: str, prompt: str | None = None) -> Future[npt.NDArray[np.float32]]:
        """Queues a text and returns at once; `.result()` waits for its vector. TypeError, ValueError at once."""
        first = self._prompt(prompt)
        check_text("SentenceEncoder", "text", text)
        return self._executor.submit(self._framed([first + text]), itemgetter(0))

    def _prompt(self, name: str | None) -> str:
        """What stands before each text."""
        prompts: dict[str, str] = self.model.config.prompts or {}
        if name is None:
            name = self.model.config.default_prompt
        if name is None:
            return ""
        return prompts[arguments.choice("SentenceEncoder", "prompt", name, tuple(prompts))]

    @staticmethod
    def _answer(model: TextEncoder, values: list[Any]) -> Sequence[Any]:
        return [vector.copy() for vector in model.vectors(values)]
