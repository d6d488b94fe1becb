"""The tasks that the command line knows by name."""

from __future__ import annotations

from pathlib import Path

from dragoman.arguments import shown
from dragoman.json_file import read_object
from dragoman.models.folder import model_folder
from dragoman.train.classification import Classification
from dragoman.train.denoising import Denoising
from dragoman.train.image_classification import ImageClassification
from dragoman.train.language_modelling import LanguageModelling
from dragoman.train.masked_lm import MaskedLM
from dragoman.train.summarisation import Summarisation
from dragoman.train.tagging import Tagging
from dragoman.train.task import TASK, Task
from dragoman.train.translation import Translation

_ALL: tuple[type[Task], ...] = (
    Translation, Summarisation, Classification, Tagging, LanguageModelling, MaskedLM, Denoising, ImageClassification,
)  # fmt: skip

TASKS: dict[str, type[Task]] = {task.name: task for task in _ALL}


def load_task(folder: str | Path) -> Task:
    """The task that the model in a folder was trained for.

    Raises:
        OSError: a file is missing.
        ValueError: naming the file, if it is damaged or the task unknown.
    """
    with model_folder(Path(folder)):
        return TASKS[task_name(folder)].load(Path(folder))


def task_name(folder: str | Path) -> str:
    """The name of the task that the model in a folder was trained for. ValueError as in `load_task`."""
    path = Path(folder) / TASK
    name = read_object(path).get("task") if path.exists() else Translation.name
    if not isinstance(name, str) or name not in TASKS:
        raise ValueError(f"{path}: task must be one of {', '.join(TASKS)}, got {shown(name)}")
    return name
