"""Training: Trainer, tasks, callbacks, and averages of weights."""

from dragoman.train.averaging import ExponentialAverage, average_checkpoints
from dragoman.train.callbacks import Callback, Record
from dragoman.train.classification import Classification
from dragoman.train.denoising import Denoising
from dragoman.train.fine_tuning import layer_groups
from dragoman.train.image_classification import ImageClassification
from dragoman.train.label_scores import LabelScores
from dragoman.train.language_modelling import LanguageModelling
from dragoman.train.masked_lm import MaskedLM
from dragoman.train.options import TrainingOptions
from dragoman.train.summarisation import Summarisation
from dragoman.train.tagging import Tagging
from dragoman.train.task import Batch, Later, Score, Task
from dragoman.train.trainer import Trainer
from dragoman.train.translation import Translation

__all__ = [
    "Batch",
    "Callback",
    "Classification",
    "Denoising",
    "ExponentialAverage",
    "ImageClassification",
    "LabelScores",
    "LanguageModelling",
    "Later",
    "MaskedLM",
    "Record",
    "Score",
    "Summarisation",
    "Tagging",
    "Task",
    "Trainer",
    "TrainingOptions",
    "Translation",
    "average_checkpoints",
    "layer_groups",
]
