"""dragoman score: the scores of given translations and texts."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import islice
from typing import Any

from dragoman.arguments import with_article
from dragoman.cli.device_option import add_compute_type_argument, add_device_argument
from dragoman.cli.search_options import add_score_arguments, score_options
from dragoman.cli.served import add_language_arguments, load_served
from dragoman.cli.translate import add_batch_argument, answers, standard_output
from dragoman.data.text import iter_lines, iter_parallel
from dragoman.predict import LanguageModel, Translator, predictor_class

DESCRIPTION = """\
Scores given translations, or texts with a language model, line by line. A line of output is the score, a tab, and the
log probability of the translation or text with its end. A translation that `dragoman translate` found has the score
again that the search gave it.

examples:
  dragoman score en-de --source test.en --target test.de > scores.tsv
  dragoman score language-model --target test.de > scores.tsv
"""

BLOCK = 256  # most pairs scored together


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="a trained model")
    parser.add_argument("--source", metavar="FILE", help="sentences; not for language models")
    parser.add_argument("--target", metavar="FILE", required=True, help="their translations, or texts")
    add_language_arguments(parser)
    add_score_arguments(parser)
    add_batch_argument(parser)
    add_compute_type_argument(parser)
    add_device_argument(parser)


def command(options: argparse.Namespace) -> None:
    """Scores lines, block after block."""
    kind: Any = predictor_class(options.folder)
    if kind not in (Translator, LanguageModel):
        got = with_article(kind.__name__)
        raise ValueError(f"{options.folder}: must hold a model for a Translator or a LanguageModel, got one for {got}")
    if (options.source is None) != (kind is LanguageModel):
        raise ValueError("--source must be given for a translator, and not for a language model")
    predictor = load_served(kind, options, batch_tokens=options.batch_tokens)
    write = standard_output()
    files = ", ".join(path for path in (options.source, options.target) if path)
    pairs, first = _pairs(options), 1
    while block := list(islice(pairs, BLOCK)):
        for _, found in answers(lambda _, some: predictor.score(some, **score_options(options)), first, block, files):
            write("".join(f"{each.score:.4f}\t{each.sum_logprob:.4f}\n" for each in found).encode())
        first += len(block)


def _pairs(options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    if options.source is None:
        return (("", line) for line in iter_lines(options.target))
    return iter_parallel(options.source, options.target)
