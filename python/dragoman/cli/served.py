"""The model of a folder, for a command."""

from __future__ import annotations

import argparse
from typing import Any

from dragoman.arguments import with_article
from dragoman.predict import Translator

LANGUAGES = ("source_language", "target_language")


def add_language_arguments(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """--source-language and --target-language."""
    for name in LANGUAGES:
        side = name.partition("_")[0]
        parser.add_argument(
            f"--{side}-language",
            metavar="CODE",
            help=f"language of the {side}s, for a model that knows several, as its tokenizer calls it",
        )


def load_served(kind: Any, options: argparse.Namespace, **more: Any) -> Any:
    """`kind.load`, of a class in `dragoman.predict`, with what a command's options say of the model, and more.

    ValueError, naming the folder, for another kind of model, too.
    """
    languages = {name: code for name in LANGUAGES if (code := getattr(options, name, None)) is not None}
    if languages and not issubclass(kind, Translator):
        name = next(iter(languages)).replace("_", "-")
        raise ValueError(f"--{name} needs a model that translates, got one for {with_article(kind.__name__)}")
    try:
        return kind.load(options.folder, options.device, options.compute_type, **languages, **more)
    except TypeError as error:
        raise ValueError(f"{options.folder}: {str(error).removeprefix(f'{kind.__name__}: ')}") from None
