"""The options of every command that translates."""

from __future__ import annotations

import argparse
from typing import Any

from dragoman.cli.device_option import add_device_argument
from dragoman.cli.numbers import Number


def add_search_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--beam", type=Number(int, 1, 1000), default=5, metavar="N", help="beam size; 1 is greedy search (default: 5)"
    )
    parser.add_argument(
        "--length-penalty",
        type=Number(float, 0, 10),
        default=0.6,
        metavar="X",
        help="0 favours short translations, 1 longer ones (default: 0.6)",
    )
    parser.add_argument(
        "--max-length",
        type=Number(int, 1, 100_000),
        metavar="N",
        help="maximum tokens of a translation (default: twice the source plus 10)",
    )
    add_device_argument(parser)


def search_options(options: argparse.Namespace) -> dict[str, Any]:
    """The options of a search by their names in a call of `Translator`."""
    return {name: getattr(options, name) for name in ("beam", "length_penalty", "max_length")}
