"""Averages of weights: over the last checkpoints, and a moving average."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dragoman import _core, arguments
from dragoman.nn.module import Module
from dragoman.train.checkpoint import Arrays, CheckpointFile


def average_checkpoints(paths: Sequence[str | Path]) -> Arrays:
    """The mean of the models in several checkpoints. Memory holds one array of each file at a time.

    Args:
        paths: checkpoints of one run, or of runs of the same model.

    Returns:
        A state dict: float32 arrays by the names of the parameters.

    Raises:
        OSError: a file cannot be read.
        ValueError: no paths, a damaged file, or an array that is not in every file; names the file and the array.
    """
    if not isinstance(paths, Sequence) or isinstance(paths, str | bytes):
        raise TypeError(f"average_checkpoints: paths must be a list of paths, got {type(paths).__name__}")
    for i, path in enumerate(paths):
        arguments.check_path("average_checkpoints", f"paths[{i}]", path)
    files = [CheckpointFile(path) for path in paths]
    if not files:
        raise ValueError("average_checkpoints: paths must name at least one file, got none")
    names = files[0].names("model")
    for file in files:
        if different := sorted(set(names) ^ set(file.names("model"))):
            raise ValueError(f"{file.path}: array model.{different[0]} is not in every checkpoint of the average")
    return {name: _mean(files, name) for name in names}


def _mean(files: Sequence[CheckpointFile], name: str) -> np.ndarray[Any, Any]:
    first = files[0].array("model", name)
    total = first.astype(np.float64)
    for file in files[1:]:
        array = file.array("model", name)
        if array.shape != first.shape:
            raise ValueError(f"{file.path}: array model.{name} must have shape {first.shape}, got {array.shape}")
        total += array
    mean: np.ndarray[Any, Any] = (total / len(files)).astype(first.dtype)
    return mean


class ExponentialAverage:
    """A moving average of a model's trainable weights: average += (1 - d) * (weights - average) after every update.

    d is the minimum of `decay` and (1 + count) / (10 + count), so that the random first weights lose their part early.

    Args:
        model: its weights at this moment are the first average. A frozen parameter is its own
            average and takes no memory here.
        decay: in [0, 1), usually near 1. The average covers about 1 / (1 - decay) updates.
    """

    def __init__(self, model: Module, decay: float) -> None:
        arguments.check_types("ExponentialAverage", Module, model=model)
        self.decay = arguments.rate("ExponentialAverage", "decay", decay)
        self._parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._averages = {name: parameter.data.clone() for name, parameter in self._parameters.items()}

    def update(self, count: int) -> None:
        """Adds the present weights of the model to the average, after its update number `count`."""
        count = arguments.integer("ExponentialAverage", "count", count)
        gain = 1.0 - min(self.decay, (1 + count) / (10 + count))
        for name, average in self._averages.items():
            _core.moving_average(average, self._parameters[name].data, gain)

    def state_dict(self, *, copy: bool = True) -> Arrays:
        """The averages, by the names of the trainable parameters; with copy=False, on the CPU, views, which `update`
        changes."""
        arrays = ((name, average.numpy()) for name, average in self._averages.items())
        return {name: array.copy() if copy else array for name, array in arrays}

    def load_state_dict(self, state: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Restores what `state_dict` returned. ValueError when an average is missing or has another shape."""
        arguments.check_arrays("ema", "state", state)
        for name, average in self._averages.items():
            got = state[name].shape if name in state else "none"
            if got != average.shape:
                raise ValueError(f"ema: {name} must have shape {average.shape}, got {got}")
            if state[name].dtype != np.float32:
                raise ValueError(f"ema: {name} must be float32, got {state[name].dtype}")
        for name, average in self._averages.items():
            average.copy_(np.ascontiguousarray(state[name], np.float32).reshape(average.shape))
