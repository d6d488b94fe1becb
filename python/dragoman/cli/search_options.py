"""The options of every command that translates."""

from __future__ import annotations

import argparse

from dragoman.cli.device_option import add_device_argument
from dragoman.cli.numbers import REAL, Number


def add_search_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--beam", type=Number(int, 1, 1000), default=5, metavar="N", help="beam size; 1 is greedy search (default: 5)"
    )
    parser.add_argument(
        "--length-penalty",
        type=REAL,
        default=0.6,
        metavar="X",
        help="0 favours short translations, 1 longer ones (default: 0.6)",
    )
    add_device_argument(parser)
