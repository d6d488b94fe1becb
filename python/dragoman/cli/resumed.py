"""What a resumed run keeps from its beginning: options of its task, model and vocabulary."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dragoman.cli import config_file
from dragoman.cli.parser import flag_of
from dragoman.train.folder import OPTIONS
from dragoman.train.tasks import task_name

KEPT = (
    "task", "max_source_length", "preset", "vocab_size", "tokenizer_kind", "lowercase", "dropout", "body",
    "source_language", "target_language", "pooling", "token_dropout", "mask_ratio", "noise", "image_size", "channels",
    "patch_size", "shift", "model_option",
)  # fmt: skip


def keep_as_begun(options: argparse.Namespace, tasks: Mapping[str, str]) -> None:
    """Gives the options of KEPT the values that the run in the folder was begun with.

    Args:
        options: of the command.
        tasks: other names of tasks.

    Raises:
        OSError: a file of the run cannot be read.
        ValueError: naming the option that was given with another value; a damaged file.
    """
    path = Path(options.output) / OPTIONS
    begun: dict[str, Any] | None = config_file.read(path, options.define) if path.exists() else None
    values = {"task": task_name(options.output)} if begun is None else begun  # a run from Python leaves no options
    for name in KEPT:
        given, was = getattr(options, name), values.get(name)
        if given is not None and tasks.get(str(given), given) != tasks.get(str(was), was):
            how = "was begun without it" if was is None else f"was begun with{_words(was)}"
            raise ValueError(
                f"{flag_of(options, name)}{_words(given)} does not go with --resume: the run in {options.output} "
                f"{'has its own' if begun is None and was is None else how}"
            )
        setattr(options, name, was)


def _words(value: Any) -> str:
    """An option's value as it is given, after a space; nothing for a flag."""
    if value is True:
        return ""
    return " " + (" ".join(value) if isinstance(value, list) else str(value))
