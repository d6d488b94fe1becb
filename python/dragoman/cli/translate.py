"""dragoman translate: translates standard input to standard output."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import islice

from dragoman.cli.search_options import add_search_arguments
from dragoman.data.text import decode_line
from dragoman.generate.translator import Translator

DESCRIPTION = """\
Translates standard input, line by line, to standard output; an empty line stays empty.

example:
  dragoman translate en-de < test.en > test.de
"""


BLOCK = 256  # lines translated together


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="a trained model")
    add_search_arguments(parser)


def command(options: argparse.Namespace) -> None:
    """Translates standard input to standard output, in blocks of lines; at a terminal, line by line."""
    translator = Translator.load(options.folder, options.device)
    lines = _input_lines()
    size = 1 if sys.stdin.isatty() else BLOCK
    while block := list(islice(lines, size)):
        outputs = translator(block, options.beam, options.length_penalty)
        sys.stdout.buffer.write("".join(f"{output}\n" for output in outputs).encode())
        sys.stdout.buffer.flush()


def _input_lines() -> Iterator[str]:
    for number, line in enumerate(sys.stdin.buffer, 1):
        yield decode_line(line, "standard input", number)
