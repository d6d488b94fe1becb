"""dragoman translate: translates standard input to standard output."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

from dragoman.cli.input_lines import arriving_lines, count_lines
from dragoman.cli.numbers import COUNT
from dragoman.cli.output_file import OutputFile
from dragoman.cli.search_options import add_search_arguments, search_options
from dragoman.cli.served import load_served
from dragoman.data.text import decode_line
from dragoman.predict.translator import Candidate, Translator

DESCRIPTION = """\
Translates standard input, line by line, to standard output; an empty line stays empty. A line is answered when it
comes: lines that have come together are translated together. A line of more than 10,000 tokens ends the command with
its number, unless the model was trained to cut its sources.

example:
  dragoman translate en-de < test.en > test.de
"""


BLOCK = 256  # most lines translated together
INPUT = "standard input"
Search = Callable[[list[str]], list[list[Candidate]]]
ERRORS = (ValueError, FloatingPointError, MemoryError)  # of an answer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="a trained model")
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="write to FILE, which grows as FILE.part and gets its name when all is done (default: standard output)",
    )
    parser.add_argument("--scores", action="store_true", help="begin each translation with its score and a tab")
    parser.add_argument(
        "--n-best",
        type=COUNT,
        metavar="N",
        help="up to N translations a line, at most --beam; each begins with the number of its line and a tab",
    )
    add_search_arguments(parser)


def command(options: argparse.Namespace) -> None:
    """Translates what comes on standard input, as soon as it comes."""
    if options.n_best is not None and options.n_best > options.beam:
        raise ValueError(f"--n-best must be at most --beam {options.beam}, got {options.n_best}")
    count = options.n_best or 1
    with ExitStack() as stack:
        file = None if options.output is None else stack.enter_context(OutputFile(options.output))
        write = standard_output() if file is None else file.write
        translator: Translator = load_served(Translator, options.folder, options.device)
        source = sys.stdin.fileno()
        progress = _progress(source, file is not None)
        if progress is not None:
            stack.enter_context(closing(progress))
        search: Search = partial(translator.candidates, count=count, **search_options(options))  # type: ignore[assignment]
        for first, texts in texts_of(source):
            for number, found in answers(lambda _, texts: search(texts), first, texts):
                lines = (_lines(options, i, candidates) for i, candidates in enumerate(found, number))
                write("".join(lines).encode())
                if progress is not None:
                    progress.update(len(found))
        if file is not None:
            file.commit()


def texts_of(source: int) -> Iterator[tuple[int, list[str]]]:
    """Texts that came together, and the number of the first; then the error of a line that is none."""
    number = 1
    for lines in arriving_lines(source, BLOCK):
        texts: list[str] = []
        try:
            for line in lines:
                texts.append(decode_line(line, INPUT, number + len(texts)))
        except ValueError:
            if texts:
                yield number, texts
            raise
        yield number, texts
        number += len(texts)


def answers(
    answer: Callable[[int, list[str]], list[Any]], first: int, texts: list[str]
) -> Iterator[tuple[int, list[Any]]]:
    """The answers to texts that came together, and the number of the first, which `answer` gets, too. After an error,
    line by line."""
    try:
        found = answer(first, texts)
    except ERRORS:
        for number, text in enumerate(texts, first):
            try:
                found = answer(number, [text])
            except ERRORS as error:
                kind = next(kind for kind in ERRORS if isinstance(error, kind))
                raise kind(f"{INPUT}: line {number}: {_without_place(error)}") from None
            yield number, found
        return
    yield first, found


def _without_place(error: BaseException) -> str:
    """An error of the only text, whose line is named already: without the place in the list."""
    return re.sub(r"^\w+: text\[0\] (?=must )", "", str(error))


def _lines(options: argparse.Namespace, number: int, candidates: list[Candidate]) -> str:
    """The lines of output for one of input. A translation is one line, whatever it holds."""
    lines = []
    for candidate in candidates:
        fields = [] if options.n_best is None else [str(number)]
        if options.scores:
            fields.append(f"{candidate.score:.4f}")
        lines.append("\t".join([*fields, " ".join(candidate.text.splitlines())]) + "\n")
    return "".join(lines)


def standard_output() -> Callable[[bytes], None]:
    output = sys.stdout.buffer

    def write(data: bytes) -> None:
        output.write(data)
        output.flush()

    return write


def _progress(source: int, to_file: bool) -> Any:
    """A bar on standard error, if that is a terminal where no translations appear and tqdm is installed."""
    if not sys.stderr.isatty() or (sys.stdout.isatty() and not to_file):
        return None
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        return None
    return tqdm(total=count_lines(source), unit="line", file=sys.stderr, dynamic_ncols=True)
