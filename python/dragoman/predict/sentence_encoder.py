"""SentenceEncoder: vectors of texts."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

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

    def __call__(self, text: str | list[str]) -> npt.NDArray[np.float32]:
        """The vector of a text, float32 (d_model,), or of each of several, (texts, d_model).

        A vector does not depend on the texts beside it. A text longer than the config's `max_length` is cut.

        Raises:
            TypeError, ValueError: naming the argument, and the index of a text that is none.
        """
        texts = checked_texts("SentenceEncoder", text)
        found = self._executor.run(self._framed(texts))
        vectors = np.array(found, np.float32).reshape(len(found), self.model.config.d_model)
        return vectors[0] if isinstance(text, str) else vectors

    def submit(self, text: str) -> Future[npt.NDArray[np.float32]]:
        """Queues a text and returns at once; `.result()` waits for its vector. TypeError, ValueError at once."""
        check_text("SentenceEncoder", "text", text)
        return self._executor.submit(self._framed([text]), itemgetter(0))

    @staticmethod
    def _answer(model: TextEncoder, values: list[Any]) -> Sequence[Any]:
        return [vector.copy() for vector in model.vectors(values)]
