"""dragoman freeze: a model for use alone, smaller and faster."""

from __future__ import annotations

import argparse

from dragoman.frozen import FROZEN_DTYPES
from dragoman.models.folder import freeze_folder

DESCRIPTION = """\
Writes a trained model as a folder for use alone: its weights are int8, bfloat16 or float32, and cannot be trained on.
int8 makes the folder about a quarter as large, and translations faster. All commands that use a model read it, on every
machine.

example:
  dragoman freeze en-de --compute-type int8 --output en-de-int8
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="a trained model")
    parser.add_argument("--compute-type", choices=FROZEN_DTYPES, required=True, help="of the weights")
    parser.add_argument("--output", metavar="OUT", required=True, help="the folder to write, another one")


def command(options: argparse.Namespace) -> None:
    """Freezes the model of a folder into another one, with its tokenizer and its task."""
    freeze_folder(options.folder, options.output, options.compute_type)
