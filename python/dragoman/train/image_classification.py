"""ImageClassification: the task of images with labels."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import numpy as np
import numpy.typing as npt

from dragoman import arguments
from dragoman.data.columns import Columns, Lengths, columns_of
from dragoman.data.images import image_files, iter_images
from dragoman.data.shards import Shards, write_shards
from dragoman.data.text import Files, as_files
from dragoman.files import atomic_write
from dragoman.json_file import read_object
from dragoman.models.config import ModelConfig
from dragoman.models.vision import VisionConfig, VisionTransformer
from dragoman.nn.module import Module
from dragoman.tensor import Tensor
from dragoman.train.classification import LabelScorer, learnt_labels
from dragoman.train.label_scores import LABEL_DEFAULTS, LABEL_SCORES, checked_labels, largest
from dragoman.train.options import TrainingOptions
from dragoman.train.task import TASK, Batch, Score, Task


class ImageClassification(Task):
    """Images with a label each: examples are (array, label), or ([values], [number of the label]).

    Arrays are (image_size, image_size, channels), or without the last axis, uint8, or floats in which 0 is black and 1
    white; floats are kept in 8 bits. Scores are "accuracy" and "macro_f1", in percent.

    Args:
        labels: the names of the labels, in the order of their numbers.
        image_size: height and width in pixels. Image files are scaled to it.
        channels: values of a pixel: of image files 1, 3 or 4.
        shift: in training, images are moved by up to so many pixels in each direction; black comes in.
    """

    name = "image"
    unit = "image"
    columns = ("pixels", "label")
    files = ("data",)
    config_class: ClassVar[type[ModelConfig]] = VisionConfig
    scores: ClassVar[Mapping[str, Score]] = LABEL_SCORES
    defaults: ClassVar[Mapping[str, Any]] = LABEL_DEFAULTS

    def __init__(self, labels: Sequence[str], image_size: int = 32, channels: int = 3, shift: int = 0) -> None:
        self.labels = checked_labels("ImageClassification", "labels", labels)
        self.image_size = arguments.size("ImageClassification", "image_size", image_size)
        self.channels = arguments.size("ImageClassification", "channels", channels)
        self.shift = arguments.integer("ImageClassification", "shift", shift)
        if self.shift >= self.image_size:
            expected = f"below image_size = {self.image_size}"
            raise ValueError(f"ImageClassification: shift must be {expected}, got {self.shift}")
        self._numbers = {label: number for number, label in enumerate(self.labels)}

    def check_model(self, model: Module) -> None:
        arguments.check_types("Trainer", VisionTransformer, model=model)
        config = cast(VisionTransformer, model).config
        got = config.labels, config.image_size, config.channels
        if got != (self.labels, self.image_size, self.channels):
            expected = f"labels {self.labels}, image_size {self.image_size}, channels {self.channels}"
            raise ValueError(f"Trainer: model must have {expected}, got {got}")

    def config_fields(self) -> dict[str, Any]:
        return {"labels": self.labels, "image_size": self.image_size, "channels": self.channels}

    def check(self, name: str, examples: Any) -> None:
        if not isinstance(examples, Sequence) or isinstance(examples, str | bytes):
            raise TypeError(f"Trainer: {name} must be a list of images with labels, got {type(examples).__name__}")
        if not len(examples):
            raise ValueError(f"Trainer: {name} must hold at least one image, got none")
        if not isinstance(examples[0], tuple | list) or len(examples[0]) != 2:
            raise TypeError(f"Trainer: {name}[0] must be an image and its label, got {type(examples[0]).__name__}")

    def encode(self, examples: Sequence[Any]) -> Columns:
        if not isinstance(examples[0][1], str):
            return columns_of(self.columns, examples)
        pixels = [self._pixels(image) for image, _ in examples]
        return {"pixels": pixels, "label": [[self._number(label)] for _, label in examples]}

    def augment(self, rows: Columns, seed: Sequence[int]) -> Columns:
        if not self.shift:
            return rows
        images = self._images(rows)
        draw = np.random.default_rng(seed)
        corners = draw.integers(0, 2 * self.shift, (len(images), 2), endpoint=True)
        wide = np.pad(images, [(0, 0), (self.shift,) * 2, (self.shift,) * 2, (0, 0)])
        size = self.image_size
        moved = [image[y : y + size, x : x + size].ravel() for image, (y, x) in zip(wide, corners, strict=True)]
        return {**rows, "pixels": cast(Any, moved)}

    def costs(
        self, lengths: Lengths, model: VisionTransformer, options: TrainingOptions
    ) -> npt.NDArray[np.integer[Any]]:
        return np.full(len(lengths["pixels"]), model.config.num_tokens)

    def batch(self, rows: Columns, model: VisionTransformer, seed: Sequence[int]) -> Batch:
        return Batch(rows, len(rows["label"]), len(rows["label"]) * model.config.num_tokens)

    def loss(self, model: VisionTransformer, batch: Batch, num_targets: int, options: TrainingOptions) -> Tensor:
        return model.loss(self._images(batch.columns), self.truth(batch), options.label_smoothing, num_targets)

    def scorer(self, model: Any, options: TrainingOptions) -> LabelScorer:
        return LabelScorer(self)

    def truth(self, batch: Batch) -> npt.NDArray[np.integer[Any]]:
        """The numbers of the true labels, (images,)."""
        return np.array([cell[0] for cell in batch.columns["label"]], np.int32)

    def predicted(self, model: VisionTransformer, batch: Batch) -> npt.NDArray[np.integer[Any]]:
        """The numbers of the labels that a model finds, (images,)."""
        return largest(model.logits(self._images(batch.columns)))

    def save(self, folder: Path) -> None:
        settings = {**self.made_of(), "shift": self.shift}
        atomic_write(folder / TASK, json.dumps({"task": self.name, **settings}, ensure_ascii=False).encode())

    @classmethod
    def load(cls, folder: Path) -> Self:
        settings = read_object(folder / TASK)
        if (name := settings.pop("task", None)) != cls.name:
            raise ValueError(f"{folder / TASK}: task must be {cls.name}, got {name!r}")
        return cls(**settings)

    @classmethod
    def learn(cls, files: Mapping[str, Files], vocab_size: int = 0, tokenizer_kind: str = "", **settings: Any) -> Self:
        found = (label for path in _sources(files) for label in _labels(path))
        labels = learnt_labels(found, of_lines=False)
        return cls(labels, **settings)

    def read(self, files: Mapping[str, Files]) -> Iterator[tuple[Any, str]]:
        for path in _sources(files):
            yield from iter_images(path, self.image_size, self.channels)

    def made_of(self) -> dict[str, Any]:
        return {"labels": self.labels, "image_size": self.image_size, "channels": self.channels}

    def shards(
        self, files: Mapping[str, Files], folder: str | Path, report: Callable[[str], None] | None = None
    ) -> Shards:
        made_of = {"task": self.name, **self.made_of()}
        named = {"data": [path for source in _sources(files) for path in _files(source)]}
        return write_shards(folder, named, made_of, lambda: self.read(files), self.encode, report, unit=self.unit)

    def _number(self, label: str) -> int:
        if label not in self._numbers:
            raise ValueError(f"image: label must be one of {', '.join(self.labels)}, got {label!r}")
        return self._numbers[label]

    def _pixels(self, image: Any) -> Sequence[int]:
        array = np.asarray(image)
        shape = (self.image_size, self.image_size, self.channels)
        if array.dtype != np.uint8 and array.dtype.kind != "f":
            raise TypeError(f"image: an image must be uint8 or floats, got dtype {array.dtype}")
        if array.shape != shape and (*array.shape, 1) != shape:
            raise ValueError(f"image: an image must have shape {shape}, got {array.shape}")
        if array.dtype.kind == "f":
            array = np.rint(np.clip(array, 0, 1) * 255)
        return cast(Sequence[int], array.astype(np.uint8).ravel())

    def _images(self, rows: Columns) -> npt.NDArray[np.uint8]:
        pixels = np.array(rows["pixels"], np.uint8)
        return pixels.reshape(-1, self.image_size, self.image_size, self.channels)


def _sources(files: Mapping[str, Files]) -> list[str]:
    return [os.fspath(path) for path in as_files(files["data"])]


def _labels(source: str | Path) -> Iterable[str]:
    if Path(source).is_dir():
        return (label for _, label in image_files(source))
    return (label for _, label in iter_images(source, 1, 1))


def _files(source: str | Path) -> list[str | Path]:
    return [path for path, _ in image_files(source)] if Path(source).is_dir() else [source]
