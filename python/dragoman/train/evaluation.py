"""Scores of a trained model on a test set of its task."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dragoman.data.text import Files
from dragoman.models.folder import load
from dragoman.predict import Classifier, ImageClassifier, Tagger
from dragoman.train.callbacks import Record
from dragoman.train.classification import Classification, ordered_labels
from dragoman.train.image_classification import ImageClassification
from dragoman.train.label_scores import LabelScores
from dragoman.train.options import TrainingOptions
from dragoman.train.tagging import Tagging
from dragoman.train.task import Task
from dragoman.train.text_task import TextTask
from dragoman.train.validation import Validation


def label_scores(task: Task, folder: str | Path, files: Files, device: str = "cpu") -> tuple[int, LabelScores]:
    """The number of examples in files, and the scores of all of them by the model in a folder.

    A label that the model does not know is always wrong, and a UserWarning says how many there are. Long texts count,
    too: they are cut, and long sentences are tagged in parts.

    Raises:
        OSError, ValueError: naming the file; none of the labels is one of the model's.
        TypeError: a task without labels.
    """
    examples = list(task.read({"data": files}))
    truth, found = _labels(task, folder, examples, device)
    known = list(getattr(task, "labels", ()))
    _check_known(truth, known)
    names = [*known, *ordered_labels(label for label in truth if label not in known)]
    numbers = {name: number for number, name in enumerate(names)}
    scores = LabelScores(names)
    scores.add([numbers[label] for label in truth], [numbers[label] for label in found])
    return len(examples), scores


def _check_known(truth: Sequence[str], known: Sequence[str]) -> None:
    """ValueError where the model knows none of the labels; a UserWarning where it knows some."""
    learnt = set(known)
    strange = [label for label in truth if label not in learnt]
    shown = ", ".join(repr(label[:40]) for label in ordered_labels(strange)[:5])
    labels = ", ".join(map(repr, known[:20]))
    if truth and len(strange) == len(truth):
        raise ValueError(f"data must have labels of the model, which are {labels}; got {shown}")
    if strange:
        warnings.warn(f"{len(strange):,} of {len(truth):,} labels are none of the model's: {shown}", stacklevel=3)


def losses(task: Task, folder: str | Path, files: Files, device: str = "cpu") -> tuple[int, Record]:
    """The number of examples in files, and loss, perplexity and other scores of the model in a folder.

    Random choices, such as masks, are always the same. Examples are not left out for their lengths.
    """
    examples = list(task.read({"data": files}))
    model: Any = load(folder).to(device)
    if isinstance(task, TextTask) and task.tokenizer is not None:
        model.config = task.tokenizer.config_of(model.config)
    task.check_model(model)
    longest = model.config.max_length
    options = TrainingOptions(batch_tokens=max(4096, longest), max_length=longest)
    record = Validation(model, task, examples, options)()
    return len(examples), {name.removeprefix("valid_"): value for name, value in record.items()}


def _labels(task: Task, folder: str | Path, examples: Sequence[Any], device: str) -> tuple[list[str], list[str]]:
    """The true labels and those that the model finds."""
    if isinstance(task, Tagging):
        tagged = Tagger.load(folder, device)([words for words, _ in examples])
        return [tag for _, tags in examples for tag in tags], [tag for sentence in tagged for _, tag in sentence]
    if isinstance(task, Classification):
        found = Classifier.load(folder, device)([text for text, _ in examples])
        return [label for _, label in examples], [each.label for each in found]
    if isinstance(task, ImageClassification):
        found = ImageClassifier.load(folder, device)(np.stack([image for image, _ in examples]))
        return [label for _, label in examples], [each.label for each in found]
    raise TypeError(f"label_scores: task must have labels, got {type(task).__name__}")
