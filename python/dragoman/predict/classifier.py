"""Classifier and ImageClassifier: labels with their probabilities."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast, overload

import numpy as np
import numpy.typing as npt

from dragoman import arguments
from dragoman.arrays import as_array, check_device
from dragoman.data.framing import cut, framed_texts
from dragoman.data.texts import check_text
from dragoman.models.folder import load
from dragoman.models.vision import VisionTransformer, check_images
from dragoman.predict.predictor import Predictor
from dragoman.predict.text_predictor import EncoderPredictor, checked_texts

BATCH_ROWS = 4096  # patches read together


class Labels(dict[str, float]):
    """Labels with their probabilities, the most probable first.

    Attributes:
        label: the most probable label.
        probability: its probability.
    """

    @property
    def label(self) -> str:
        return next(iter(self))

    @property
    def probability(self) -> float:
        return self[self.label]


class Classifier(EncoderPredictor):
    """Labels of texts by a trained model. Made by `Classifier.load`.

    Any number of threads may call it or `submit`: one prediction runs at a time, on all the library's threads.

    Args:
        model: with the head "classify".
        tokenizer: the one that the model was trained with.

    Raises:
        TypeError, ValueError: another kind of model or tokenizer.
    """

    head = "classify"

    @overload
    def __call__(self, text: str) -> Labels: ...

    @overload
    def __call__(self, text: list[str]) -> list[Labels]: ...

    def __call__(self, text: str | list[str]) -> Labels | list[Labels]:
        """The labels of a text, or of each of several.

        A result does not depend on the texts beside it. A text longer than the config's `max_length` is cut.

        Args:
            text: one text or several.

        Returns:
            Labels for a str, else a list in the order of the texts.

        Raises:
            TypeError, ValueError: naming the argument, and the index of a text that is none.
        """
        texts = checked_texts("Classifier", text)
        ids = [cut(each, self.model.config.max_length) for each in framed_texts(self.tokenizer, texts)]
        labels = self.model.config.labels
        found = self._in_batches(ids, len, lambda batch: with_labels(self.model.logits(batch), labels))
        return found[0] if isinstance(text, str) else found

    def submit(self, text: str) -> Future[Labels]:
        """Queues a text and returns at once; `.result()` waits for its labels. TypeError, ValueError at once."""
        check_text("Classifier", "text", text)
        return self._submit(lambda: self(text))


class ImageClassifier(Predictor):
    """Labels of images by a trained model. Made by `ImageClassifier.load`.

    Any number of threads may call it or `submit`: one prediction runs at a time, on all the library's threads.

    Args:
        model: a VisionTransformer.

    Raises:
        TypeError: another kind of model.
    """

    def __init__(self, model: VisionTransformer) -> None:
        arguments.check_types("ImageClassifier", VisionTransformer, model=model)
        self.model = model
        super().__init__(model)

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> ImageClassifier:
        """Reads model.safetensors and config.json. Arguments and errors as of `Classifier.load`."""
        check_device("ImageClassifier", device)
        arguments.check_path("ImageClassifier", "folder", folder)
        return cls(cast(VisionTransformer, load(folder).to(device)))

    @overload
    def __call__(self, images: list[npt.NDArray[Any]]) -> list[Labels]: ...

    @overload
    def __call__(self, images: npt.ArrayLike) -> Any: ...

    def __call__(self, images: npt.ArrayLike) -> Any:
        """The labels of an image, or of each of several.

        Args:
            images: one image (height, width, channels) or several (images, height, width, channels), or a list of
                images; of one channel, the last axis may be left out. uint8, or floats in which 0 is black and 1 white.

        Returns:
            Labels for one image, else a list of them.

        Raises:
            TypeError, ValueError: images of another dtype or shape.
        """
        batch, one = self._checked(images)
        size = max(1, BATCH_ROWS // self.model.config.num_tokens)
        labels = self.model.config.labels
        found: list[Labels] = []
        with self._running:
            for first in range(0, len(batch), size):
                found += with_labels(self.model.logits(batch[first : first + size]), labels)
        return found[0] if one else found

    def submit(self, image: npt.ArrayLike) -> Future[Any]:
        """Queues an image, or several, and returns at once; `.result()` waits for the labels. TypeError, ValueError at
        once."""
        self._checked(image)
        return self._submit(lambda: self(image))

    def _checked(self, images: npt.ArrayLike) -> tuple[npt.NDArray[Any], bool]:
        """The images as one array (images, height, width[, channels]), and whether it is of one image alone."""
        array = as_array("ImageClassifier", "images", images)
        shape = self.model.config.image_shape
        if isinstance(images, list | tuple) and not images:
            return np.empty((0, *shape), np.uint8), False
        one = array.shape == shape or (*array.shape, 1) == shape
        batch = array[None] if one else array
        check_images("ImageClassifier", batch, self.model.config)
        return batch, one


def with_labels(logits: npt.NDArray[Any], labels: tuple[str, ...]) -> list[Labels]:
    """The labels of each row of logits, with their probabilities."""
    double = logits.astype(np.float64)
    powers = np.exp(double - double.max(1, keepdims=True, initial=-np.inf))
    probabilities = powers / powers.sum(1, keepdims=True)
    order = np.argsort(-probabilities, axis=1, kind="stable")
    return [
        Labels((labels[i], float(row[i])) for i in places) for row, places in zip(probabilities, order, strict=True)
    ]
