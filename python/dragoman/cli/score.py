"""dragoman score: the scores of given translations."""

from __future__ import annotations

import argparse
from itertools import islice

from dragoman.cli.device_option import add_compute_type_argument, add_device_argument
from dragoman.cli.search_options import add_score_arguments, score_options
from dragoman.cli.served import add_language_arguments, load_served
from dragoman.cli.translate import standard_output
from dragoman.data.text import iter_parallel
from dragoman.predict.translator import Translator

DESCRIPTION = """\
Scores given translations, line by line. A line of output is the score, a tab, and the log probability of the
translation with its end. A translation that `dragoman translate` found has the score again that the search gave it.

example:
  dragoman score en-de --source test.en --target test.de > scores.tsv
"""

BLOCK = 256  # most pairs scored together


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="a trained model")
    parser.add_argument("--source", metavar="FILE", required=True, help="sentences")
    parser.add_argument("--target", metavar="FILE", required=True, help="their translations")
    add_language_arguments(parser)
    add_score_arguments(parser)
    add_compute_type_argument(parser)
    add_device_argument(parser)


def command(options: argparse.Namespace) -> None:
    """Scores pairs of lines, block after block."""
    translator: Translator = load_served(Translator, options)
    write = standard_output()
    pairs = iter_parallel(options.source, options.target)
    while block := list(islice(pairs, BLOCK)):
        found = translator.score(block, **score_options(options))
        write("".join(f"{each.score:.4f}\t{each.sum_logprob:.4f}\n" for each in found).encode())
