"""The options of `train` that belong to some tasks, and the task and the model that they describe."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from dragoman.arguments import did_you_mean, shown
from dragoman.cli.config_file import assigned
from dragoman.cli.numbers import COUNT, REAL
from dragoman.cli.parser import flag_of
from dragoman.cli.presets import PAIRS
from dragoman.cli.served import LANGUAGES, add_language_arguments
from dragoman.data.text import Files
from dragoman.data.tokenizer import Tokenizer
from dragoman.functional.pool import POOLINGS
from dragoman.models.base import Model, class_of_config
from dragoman.models.body import load_body
from dragoman.models.config import ModelConfig
from dragoman.models.folder import model_folder, read_config
from dragoman.models.speech import SpeechConfig
from dragoman.models.vision import VisionConfig
from dragoman.random import manual_seed
from dragoman.train.denoising import NOISES
from dragoman.train.fine_tuning import fine_tuning_defaults
from dragoman.train.folder import OPTIONS
from dragoman.train.image_classification import ImageClassification
from dragoman.train.options import TrainingOptions
from dragoman.train.progress import tell
from dragoman.train.task import Task
from dragoman.train.translation import Translation

_DECIDED = (
    "vocab_size", "tgt_vocab_size", "head", "labels", "mask_id", "image_size", "channels",
    "pad_id", "bos_id", "eos_id", "unk_id",
)  # fmt: skip  # fields that the data and the task decide

_FIELDS = [field.name for field in dataclasses.fields(TrainingOptions)]
LIMITS = ("epochs", "max_steps", "max_minutes")  # of a run

DROPOUTS = ("dropout", "embedding_dropout")  # fields that --dropout sets

PATCHES = 8  # at most so many along a side of an image, where --patch-size is not given; one has 2 pixels or more

_OF_TOKENIZER = ("vocab_size", "tokenizer_kind", "lowercase")  # what only a new one reads, by `dest`
_OF_NEW_MODEL = ("preset", "patch_size")

_TASKS_OF = {  # options of some tasks alone, by their `dest`
    "max_source_length": ("summarise",),
    "pooling": ("classify", "tag"),
    "token_dropout": ("classify", "tag"),
    "mask_ratio": ("mlm",),
    "noise": ("denoise",),
    "image_size": ("image",),
    "channels": ("image",),
    "patch_size": ("image",),
    "shift": ("image",),
}


def add_file_arguments(group: argparse._ArgumentGroup) -> None:
    """--data, --valid and --from."""
    group.add_argument(
        "--data",
        nargs="+",
        metavar="FILE",
        help="training data of other tasks than translate: a table (classify), words with tags (tag), text (lm, "
        "mlm, denoise), a folder of images or a .npz file (image)",
    )
    group.add_argument("--valid", dest="valid_data", nargs="+", metavar="FILE", help="validation data, as --data")
    group.add_argument(
        "--from",
        dest="body",
        metavar="FOLDER",
        help="train a trained model further, or give its sizes, its vocabulary and the weights that fit to another "
        "task; see docs/guide/checkpoints.md",
    )
    add_language_arguments(group)


def add_model_arguments(group: argparse._ArgumentGroup) -> None:
    """What tasks and their models are made with."""
    group.add_argument(
        "--pooling", choices=POOLINGS, help="classify, tag: how the rows of a text or a word become one (default: mean)"
    )
    group.add_argument(
        "--token-dropout",
        type=REAL,
        metavar="X",
        help="classify, tag: share of tokens that become <unk> in training (default: 0)",
    )
    group.add_argument("--mask-ratio", type=REAL, metavar="X", help="mlm: share of chosen tokens (default: 0.15)")
    group.add_argument(
        "--noise", choices=NOISES, help="denoise: spans as in T5, or infilling as in BART (default: spans)"
    )
    group.add_argument("--image-size", type=COUNT, metavar="N", help="image: height and width (default: 32)")
    group.add_argument("--channels", type=COUNT, metavar="N", help="image: 1 grey, 3 colours (default: 3)")
    group.add_argument(
        "--patch-size",
        type=COUNT,
        metavar="N",
        help=f"image: height and width of a patch (default: 2, or more so that at most {PATCHES} fill a side)",
    )
    group.add_argument(
        "--shift", type=COUNT, metavar="N", help="image: in training, move images by up to N pixels (default: 0)"
    )
    group.add_argument(
        "--model-option",
        action="extend",
        nargs="+",
        metavar="NAME=VALUE",
        help="a field of the model's config, as norm=rms, gated=true or d_model=192; wins over --preset and --dropout",
    )


def check_given(options: argparse.Namespace, kind: type[Task]) -> None:
    """ValueError for an option of another task, and for missing files."""
    for name, tasks in _TASKS_OF.items():
        if getattr(options, name) is not None and kind.name not in tasks:
            raise ValueError(f"--{name.replace('_', '-')} needs --task {' or '.join(tasks)}, got {kind.name}")
    if not options.resume:  # a resumed run has what it was begun with
        _check_new(options, kind)
    for name in kind.files:
        if getattr(options, name) is None:
            raise ValueError(f"--task {kind.name} needs {' and '.join(f'--{file}' for file in kind.files)}")
    for name in {"source", "target", "data"}.difference(kind.files):
        for flag, value in ((name, getattr(options, name)), (f"valid-{name}", getattr(options, f"valid_{name}"))):
            if value is not None:
                raise ValueError(f"--{flag.removesuffix('-data')} does not belong to --task {kind.name}")
    if options.columns is not None and kind.name in ("tag", "image"):
        raise ValueError(f"--columns does not belong to --task {kind.name}")
    model_options(options, kind)


def _check_new(options: argparse.Namespace, kind: type[Task]) -> None:
    """ValueError for an option that would have no effect: of a tokenizer or a model where none is made, or of a
    trained model without --from. And for a trained model that does not fit."""
    for name in _OF_TOKENIZER:
        if getattr(options, name) is not None and kind is ImageClassification:
            raise ValueError(f"{flag_of(options, name)} does not belong to --task image")
    languages = [name for name in LANGUAGES if getattr(options, name) is not None]
    if options.body is None:
        if languages:
            raise ValueError(f"{flag_of(options, languages[0])} needs --from, a model that knows several languages")
        return
    if languages and not issubclass(kind, Translation):
        raise ValueError(f"{flag_of(options, languages[0])} does not belong to --task {kind.name}")
    for name in (*_OF_TOKENIZER, *_OF_NEW_MODEL):
        if getattr(options, name) is not None:
            has = "its own vocabulary" if name in _OF_TOKENIZER else "its own sizes"
            raise ValueError(f"{flag_of(options, name)} does not go with --from: the model in {options.body} has {has}")
    _body_config(options, kind)


def model_options(options: argparse.Namespace, kind: type[Task]) -> dict[str, Any]:
    """What --model-option gives, by the names of fields; the last of a name counts. ValueError for no such field."""
    fields = [field.name for field in dataclasses.fields(kind.config_class)]
    chosen: dict[str, Any] = {}
    for text in options.model_option or ():
        chosen |= assigned(text, "--model-option")
    for name in chosen:
        if name not in fields:
            raise ValueError(f"--model-option: unknown name {shown(name)}{did_you_mean(name, fields)}")
        if name in _DECIDED:
            raise ValueError(f"--model-option must not set {name}, which the data and the task decide")
    return chosen


def complete(options: argparse.Namespace, kind: type[Task]) -> None:
    """Puts in defaults for options of a new model and its tokenizer that are not given, where the run makes them."""
    if options.body is not None:
        return
    options.preset = options.preset or "tiny"
    if kind is not ImageClassification:
        options.vocab_size = options.vocab_size or preset_defaults(options, kind).get("vocab_size", 10000)
        options.tokenizer_kind = options.tokenizer_kind or "bpe"


def learn(options: argparse.Namespace, kind: type[Task], files: Mapping[str, Files]) -> Task:
    """The task that the options describe, with what its training data teach: vocabulary and labels."""
    settings: dict[str, Any] = {}
    if kind.name == "classify" and options.columns is not None:
        settings["columns"] = [name.strip() for name in options.columns.split(",")]
    if options.mask_ratio is not None:
        settings["ratio"] = options.mask_ratio
    names = ("noise", "token_dropout", "lowercase", "image_size", "channels", "shift")
    settings |= {name: v for name in names if (v := getattr(options, name)) is not None}
    if options.body is not None and kind is ImageClassification:
        config = cast(VisionConfig, _body_config(options, kind))
        settings = {"image_size": config.image_size, "channels": config.channels} | settings
    elif options.body is not None:
        with model_folder(Path(options.body)):
            tokenizer = Tokenizer.load(Path(options.body))
        if issubclass(kind, Translation):
            tokenizer = tokenizer.with_languages(options.source_language, options.target_language)
        settings["tokenizer"] = tokenizer
    return kind.learn(files, options.vocab_size, options.tokenizer_kind, **settings)


def preset_defaults(options: argparse.Namespace, kind: type[Task]) -> Mapping[str, Any]:
    """What a preset's translator takes for options that are not given. A run that Python began has no preset."""
    known = not options.resume or (Path(options.output) / OPTIONS).exists()
    made_by_preset = kind is Translation and options.body is None and known
    return PAIRS.get(options.preset, {}) if made_by_preset else {}


def training_defaults(
    options: argparse.Namespace, task: Task, model: Model, given: Mapping[str, Any], validated: bool
) -> dict[str, Any]:
    """Defaults for options of training, of the task, and of the preset or of --from. Without those that are given or
    do not go with them."""
    defaults = {**task.defaults, **preset_defaults(options, type(task))}
    if options.body is not None:
        defaults |= fine_tuning_defaults(model.config.d_model)
    limited = not given.keys().isdisjoint(LIMITS)
    without = {*given, *(LIMITS if limited else ()), *(() if validated else ("final",))}
    if limited and given.keys().isdisjoint(("epochs", "max_steps")):
        without.add("schedule")  # one that ends at 0 needs to know the last step
    return {name: value for name, value in defaults.items() if name in _FIELDS and name not in without}


def new_model(options: argparse.Namespace, task: Task) -> Model:
    """An untrained model for the task: of the preset, or with the body of a trained one."""
    manual_seed(getattr(options, "seed", 0))
    fields = task.config_fields()
    if options.dropout is not None:
        fields |= dict.fromkeys(DROPOUTS, options.dropout)
    for name in ("pooling", "max_source_length"):
        if (value := getattr(options, name)) is not None:
            fields[name] = value
    chosen = model_options(options, type(task))
    if options.body is not None:
        config = _changed(_body_config(options, type(task)), task, fields | chosen)
        model = class_of_config(type(config))(config)
        tell(f"{options.body}: {load_body(model, options.body)}")
        return model
    if isinstance(task, ImageClassification):
        size = task.image_size
        fits = [side for side in range(2, size + 1) if size % side == 0 and size // side <= PATCHES]
        fields["patch_size"] = options.patch_size or min(fits, default=size)
    elif cuts_texts(task):
        fields["max_length"] = getattr(options, "max_length", TrainingOptions.max_length)
    preset: Any = getattr(task.config_class, options.preset)
    return class_of_config(task.config_class)(preset(**fields | chosen))


def cuts_texts(task: Task) -> bool:
    """Whether the task cuts texts to its model's max_length."""
    return "head" in task.config_fields()


def _body_config(options: argparse.Namespace, kind: type[Task]) -> ModelConfig:
    """The config of the model that --from names. OSError, ValueError if the task cannot use it."""
    folder = Path(options.body)
    _, config = read_config(folder)
    if not isinstance(config, kind.config_class) or isinstance(config, SpeechConfig):
        expected = f"a model with the config {kind.config_class.__name__}"
        raise ValueError(f"{folder}: must hold {expected} for --task {kind.name}, got {type(config).__name__}")
    return config


def _changed(config: ModelConfig, task: Task, fields: dict[str, Any]) -> ModelConfig:
    """The config of a trained model, changed to fit the task."""
    if "vocab_size" in fields:
        fields["vocab_size"] = max(fields["vocab_size"], getattr(config, "vocab_size", 0))
    changed: ModelConfig = dataclasses.replace(config, **fields)
    tokenizer = getattr(task, "tokenizer", None)
    return changed if tokenizer is None else tokenizer.config_of(changed)
