"""Training: Trainer, tasks, callbacks, and averages of weights."""

from dragoman.train.averaging import ExponentialAverage, average_checkpoints
from dragoman.train.callbacks import Callback, Record
from dragoman.train.options import TrainingOptions
from dragoman.train.task import Batch, Later, Score, Task
from dragoman.train.trainer import Trainer
from dragoman.train.translation import Translation

__all__ = [
    "Batch",
    "Callback",
    "ExponentialAverage",
    "Later",
    "Record",
    "Score",
    "Task",
    "Trainer",
    "TrainingOptions",
    "Translation",
    "average_checkpoints",
]
