"""The options of every command that translates."""

from __future__ import annotations

import argparse
from typing import Any

from dragoman.cli.device_option import add_compute_type_argument, add_device_argument
from dragoman.cli.numbers import COUNT, REAL, SEED, Number
from dragoman.generate.options import RULES, SearchOptions
from dragoman.predict.text_options import with_ids

_SEARCH = ("length_penalty", "max_length", "like", "min_length", "no_repeat_ngram", "repetition_penalty")
TEXTS = ("prefix", "constraint", "suppress")
DRAWS = ("temperature", "top_k", "top_p", "min_p", "seed")


def add_search_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--beam",
        type=Number(int, 1, 1000),
        metavar="N",
        help="beam size; 1 is greedy search (default: 5, or 1 where translations are drawn)",
    )
    add_score_arguments(parser)
    length = Number(int, 1, 100_000)
    parser.add_argument(
        "--max-length",
        type=length,
        metavar="N",
        help="maximum tokens of a translation (default: twice the source plus 10)",
    )
    parser.add_argument("--min-length", type=length, metavar="N", help="minimum tokens of a translation (default: 0)")
    parser.add_argument(
        "--no-repeat-ngram", type=COUNT, metavar="N", help="no sequence of N tokens comes twice in a translation"
    )
    parser.add_argument(
        "--repetition-penalty",
        type=REAL,
        metavar="X",
        help="above 1, tokens that a translation has already are less probable (default: 1)",
    )
    add_compute_type_argument(parser)
    add_device_argument(parser)


def add_text_arguments(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """What an output contains and what not, as text."""
    parser.add_argument("--prefix", metavar="TEXT", help="what every output begins with")
    parser.add_argument(
        "--constraint",
        action="append",
        metavar="TEXT",
        help="a word or a phrase that every output contains; may be given again for others",
    )
    parser.add_argument(
        "--suppress",
        action="append",
        metavar="TEXT",
        help="a word, a phrase or a mark that no output contains; may be given again for others",
    )


def add_score_arguments(parser: argparse.ArgumentParser) -> None:
    """What a score is."""
    parser.add_argument(
        "--length-penalty",
        type=Number(float, 0, 10),
        metavar="X",
        help="0 favours short translations, 1 longer ones (default: 0.6, or 1 with another rule than dragoman)",
    )
    parser.add_argument(
        "--like", choices=tuple(RULES), help="whose rule makes a score and ends a search (default: dragoman)"
    )


def add_draw_arguments(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    parser.add_argument("--temperature", type=REAL, metavar="X", help="0 searches, above 0 draws tokens (default: 0)")
    parser.add_argument("--top-k", type=COUNT, metavar="N", help="draw among the N most probable tokens")
    parser.add_argument(
        "--top-p", type=REAL, metavar="X", help="draw among the tokens that have X of the probability (default: 1)"
    )
    parser.add_argument(
        "--min-p",
        type=REAL,
        metavar="X",
        help="draw among tokens at least X times as probable as the best (default: 0)",
    )
    parser.add_argument("--seed", type=SEED, metavar="N", help="of the draws (default: 0)")


def search_options(options: argparse.Namespace) -> dict[str, Any]:
    """The options of a search, by their names in a call of `Translator`: those that were given. ValueError for some
    that do not go together."""
    given = _given(options, ("beam", *_SEARCH, *DRAWS))
    phrases = [[0]] if getattr(options, "constraint", None) else []  # any ids: the tokenizer is not loaded yet
    SearchOptions(**{"beam": 1 if given.get("temperature") else 5, **given}, constraints=phrases)
    return given


def text_options(options: argparse.Namespace, predictor: Any) -> dict[str, Any]:
    """The options of `add_text_arguments` that were given, by their names in a call. ValueError for a text that no
    output can have."""
    given = _given(options, TEXTS)
    if "constraint" in given:
        given["constraints"] = given.pop("constraint")
    with_ids(options.command, predictor.tokenizer.target, given)
    return given


def score_options(options: argparse.Namespace) -> dict[str, Any]:
    """What a score is, by the names of `Translator.score`: the options that were given."""
    return _given(options, ("length_penalty", "like"))


def draw_options(options: argparse.Namespace) -> dict[str, Any]:
    """The options of draws, by their names in a call: those that were given. ValueError as of `search_options`."""
    given = _given(options, DRAWS)
    SearchOptions(**given)
    return given


def _given(options: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(options, name, None)) is not None}
