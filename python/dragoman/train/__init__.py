"""Training: the Trainer, what it keeps on the disk and what it tells."""

from dragoman.train.averaging import ExponentialAverage, average_checkpoints
from dragoman.train.callbacks import Callback, Record
from dragoman.train.trainer import Trainer

__all__ = ["Callback", "ExponentialAverage", "Record", "Trainer", "average_checkpoints"]
