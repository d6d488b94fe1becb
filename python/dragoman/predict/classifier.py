"""Classifier and ImageClassifier: labels with their probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from operator import itemgetter
from pathlib import Path
from typing import Any, cast, overload

import numpy as np
import numpy.typing as npt

from dragoman import arguments
from dragoman.arrays import as_array, check_device
from dragoman.data.images import fit_image
from dragoman.data.texts import check_text, check_texts
from dragoman.models.encoder import TextEncoder
from dragoman.models.folder import load_with
from dragoman.models.vision import VisionTransformer, check_images
from dragoman.predict.batch_executor import BatchExecutor
from dragoman.predict.call import Work
from dragoman.predict.executor import Executor
from dragoman.predict.predictor import Predictor
from dragoman.predict.text_predictor import EncoderPredictor

TextPair = tuple[str, str] | list[str]  # two texts that are read together


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

    Any number of threads may call it or `submit`: what waits is merged into batches.

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
    def __call__(self, text: list[str] | list[TextPair] | list[str | TextPair]) -> list[Labels]: ...

    def __call__(self, text: str | list[str] | list[TextPair] | list[str | TextPair]) -> Labels | list[Labels]:
        """The labels of a text, or of each of several. In a list, two texts may stand in the place of one, for a model
        that reads both, as a reranker does.

        With the config's `label_kind` "several", each label has a probability of its own, and they need not add up to
        one; with "numbers", a number stands in its place.

        A result does not depend on the texts beside it. A text longer than the config's `max_length` is cut; of two
        texts, the longer one first.

        Args:
            text: one text; or a list of texts and of pairs of texts.

        Returns:
            Labels for a str, else a list in the order of the texts.

        Raises:
            TypeError, ValueError: naming the argument, and the index of a text that is none; two texts for a tokenizer
                that says nothing about pairs.
        """
        if not isinstance(text, str | list | tuple):
            raise TypeError(f"Classifier: text must be a str or a list of them, got {type(text).__name__}")
        found: list[Labels] = self._executor.run(self._works([text] if isinstance(text, str) else text))
        return found[0] if isinstance(text, str) else found

    def submit(self, text: str | TextPair) -> Future[Labels]:
        """Queues a text, or two, and returns at once; `.result()` waits for the labels. TypeError, ValueError at
        once."""
        if not _is_pair(text):
            check_text("Classifier", "text", text)
        return self._executor.submit(self._works([text]), itemgetter(0))

    def _works(self, texts: Sequence[Any]) -> list[Work]:
        """Ids and their types, cut to what the model can read. TypeError, ValueError for what is no text and no
        pair."""
        pairs = {i: text for i, text in enumerate(texts) if _is_pair(text)}
        for i, pair in pairs.items():
            check_texts("Classifier", f"text[{i}]", pair)
        alone = check_texts("Classifier", "text", ["" if i in pairs else text for i, text in enumerate(texts)])
        works = self._framed(alone)
        if not pairs:
            return works
        frame, config = self.tokenizer.pair_frame, self.model.config
        if frame is None:
            raise ValueError(f"Classifier: text[{min(pairs)}] must be one text: the tokenizer has no frame of two")
        ids = iter(self.tokenizer.encode_batch([text for pair in pairs.values() for text in pair]))
        typed = config.token_types is not None and config.token_types > frame.second > 0
        for i in pairs:
            both, types = frame.around(next(ids), next(ids), config.max_length)
            works[i] = Work((both, types) if typed else both, len(both))
        return works

    @staticmethod
    def _answer(model: TextEncoder, values: list[Any]) -> Sequence[Labels]:
        if not any(isinstance(value, tuple) for value in values):
            return with_labels(model.logits(values), model.config.labels, model.config.label_kind)
        both = [value if isinstance(value, tuple) else (value, [0] * len(value)) for value in values]
        ids, types = zip(*both, strict=True)
        return with_labels(model.logits(ids, types=types), model.config.labels, model.config.label_kind)


def _is_pair(text: object) -> bool:
    return isinstance(text, list | tuple) and len(text) == 2


class ImageClassifier(Predictor):
    """Labels of images by a trained model. Made by `ImageClassifier.load`.

    Any number of threads may call it or `submit`: what waits is merged into batches.

    Args:
        model: a VisionTransformer.
        limits: `queue_limit` and `batch_tokens`, as of `Predictor`; the tokens of images are patches.

    Raises:
        TypeError: another kind of model.
    """

    def __init__(self, model: VisionTransformer, **limits: int | None) -> None:
        arguments.check_types("ImageClassifier", VisionTransformer, model=model)
        self.model = model
        super().__init__(model, **limits)

    @classmethod
    def load(
        cls, folder: str | Path, device: str = "cpu", compute_type: str = "default", **limits: int | None
    ) -> ImageClassifier:
        """Reads model.safetensors and config.json. Arguments and errors as of `Classifier.load`."""
        check_device("ImageClassifier", device)
        arguments.check_path("ImageClassifier", "folder", folder)
        model = load_with("ImageClassifier", Path(folder), {}, device, compute_type)
        return cls(cast(VisionTransformer, model), **limits)

    @overload
    def __call__(self, images: list[npt.NDArray[Any]]) -> list[Labels]: ...

    @overload
    def __call__(self, images: npt.ArrayLike) -> Any: ...

    def __call__(self, images: npt.ArrayLike) -> Any:
        """The labels of an image, or of each of several.

        Args:
            images: one image (height, width, channels) or several (images, height, width, channels), or a list of
                images; of one channel, the last axis may be left out. uint8, or floats in which 0 is black and 1 white.
                They have the config's `image_size`; if it says how to `resize` images, any size will do, and the images
                of a list may differ (needs the extra `image`).

        Returns:
            Labels for one image, else a list of them.

        Raises:
            TypeError, ValueError: images of another dtype or shape.
        """
        batch, one = self._checked(images)
        found: list[Labels] = self._executor.run(self._works(batch))
        return found[0] if one else found

    def submit(self, image: npt.ArrayLike) -> Future[Any]:
        """Queues an image, or several, and returns at once; `.result()` waits for the labels. TypeError, ValueError at
        once."""
        batch, one = self._checked(image)
        return self._executor.submit(self._works(batch), itemgetter(0) if one else list)

    def _make_executor(self, name: str, batch_tokens: int, queue_limit: int | None) -> Executor:
        model = self.model
        return BatchExecutor(
            lambda images: with_labels(model.logits(np.stack(images)), model.config.labels, model.config.label_kind),
            name, batch_tokens, queue_limit,
        )  # fmt: skip

    def _works(self, batch: npt.NDArray[Any]) -> list[Work]:
        """Images of another dtype are another kind: they would change what a number means."""
        tokens = self.model.config.num_tokens
        return [Work(image, tokens, (image.dtype, image.shape)) for image in batch]

    def _checked(self, images: npt.ArrayLike) -> tuple[npt.NDArray[Any], bool]:
        """The images as one array (images, height, width[, channels]), and whether it is of one image alone."""
        shape = self.model.config.image_shape
        if self.model.config.resize is not None:
            return self._all_fitted(images)
        array = as_array("ImageClassifier", "images", images)
        if isinstance(images, list | tuple) and not images:
            return np.empty((0, *shape), np.uint8), False
        one = array.shape == shape or (*array.shape, 1) == shape
        batch = array[None] if one else array
        check_images("ImageClassifier", batch, self.model.config)
        return batch, one

    def _all_fitted(self, images: npt.ArrayLike) -> tuple[npt.NDArray[Any], bool]:
        """As `_checked`, of images of any size."""
        shape = self.model.config.image_shape
        if isinstance(images, list | tuple):
            several = [as_array("ImageClassifier", f"images[{i}]", image) for i, image in enumerate(images)]
            one = False
        else:
            array = as_array("ImageClassifier", "images", images)
            one = array.ndim == (3 if array.shape[-1:] == shape[2:] else 2)
            several = [array] if one else list(array)
        return np.stack([self._fitted(image) for image in several]) if several else np.empty((0, *shape), np.uint8), one

    def _fitted(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """An image of any size as one that the model reads."""
        config = self.model.config
        if image.ndim == 2 and config.channels == 1:
            image = image[..., None]
        if image.dtype != np.uint8 and image.dtype.kind != "f":
            raise TypeError(f"ImageClassifier: images must be uint8 or floats, got dtype {image.dtype}")
        if image.ndim != 3 or image.shape[2] != config.channels or not image.size:
            raise ValueError(
                f"ImageClassifier: images must have shape (height, width, {config.channels}), got {image.shape}"
            )
        assert config.resize is not None
        return fit_image(image, config.resize, config.image_size, config.resample)


def with_labels(logits: npt.NDArray[Any], labels: tuple[str, ...], kind: str = "one") -> list[Labels]:
    """The labels of each row of logits, with their probabilities, or with numbers, by the kind of labels."""
    double = logits.astype(np.float64)
    if kind == "numbers":
        values = double
    elif kind == "several":
        values = 0.5 * (1 + np.tanh(0.5 * double))  # the sigmoid, without an overflow
    else:
        powers = np.exp(double - double.max(1, keepdims=True, initial=-np.inf))
        values = powers / powers.sum(1, keepdims=True)
    order = np.argsort(-values, axis=1, kind="stable")
    return [Labels((labels[i], float(row[i])) for i in places) for row, places in zip(values, order, strict=True)]
