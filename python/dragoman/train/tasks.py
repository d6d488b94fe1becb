"""The tasks that the command line knows by name."""

from __future__ import annotations

from pathlib import Path

from dragoman.arguments import shown
from dragoman.data.tokenizer import Tokenizer
from dragoman.json_file import read_object
from dragoman.models.decoder import DecoderConfig
from dragoman.models.encoder import EncoderConfig
from dragoman.models.folder import model_folder, read_config
from dragoman.models.speech import SpeechConfig
from dragoman.models.transformer_config import TransformerConfig
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
    """The task that the model in a folder was trained for; of a folder from elsewhere, the one that its model fits.

    Raises:
        OSError: a file is missing.
        ValueError: naming the file, if it is damaged or the task unknown; naming the folder, if its model fits no task.
    """
    folder = Path(folder)
    with model_folder(folder):
        if (folder / TASK).exists():
            return TASKS[task_name(folder)].load(folder)
        return _fitting_task(folder)


def _fitting_task(folder: Path) -> Task:
    """The task of a folder that names none, by its model."""
    _, config = read_config(folder)
    if isinstance(config, EncoderConfig) and config.head in ("classify", "tag") and config.label_kind == "one":
        task = Classification if config.head == "classify" else Tagging
        return task(Tokenizer.load(folder), labels=config.labels)
    if isinstance(config, EncoderConfig) and config.head == "mlm":
        return MaskedLM(Tokenizer.load(folder))
    if isinstance(config, DecoderConfig):
        return LanguageModelling(Tokenizer.load(folder))
    if isinstance(config, TransformerConfig) and not isinstance(config, SpeechConfig):
        return Translation(Tokenizer.load(folder))
    got = f"the head {config.head!r}" if isinstance(config, EncoderConfig) else type(config).__name__
    if isinstance(config, EncoderConfig) and config.label_kind != "one":
        got += f" with the label_kind {config.label_kind!r}"
    raise ValueError(f"{folder}: must hold a model with a task that can be scored, got {got}")


def task_name(folder: str | Path) -> str:
    """The name of the task that the model in a folder was trained for. ValueError as in `load_task`."""
    path = Path(folder) / TASK
    name = read_object(path).get("task") if path.exists() else Translation.name
    if not isinstance(name, str) or name not in TASKS:
        raise ValueError(f"{path}: task must be one of {', '.join(TASKS)}, got {shown(name)}")
    return name
