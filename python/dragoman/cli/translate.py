"""dragoman translate: translates standard input to standard output."""

from __future__ import annotations

import argparse
import re
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, closing
from itertools import islice, repeat
from queue import SimpleQueue
from threading import Semaphore, Thread
from typing import Any

from dragoman.cli.input_lines import arriving_lines, count_lines
from dragoman.cli.numbers import COUNT
from dragoman.cli.output_file import OutputFile
from dragoman.cli.search_options import (
    add_draw_arguments,
    add_search_arguments,
    add_text_arguments,
    search_options,
    text_options,
)
from dragoman.cli.served import add_language_arguments, load_served
from dragoman.data.text import decode_line
from dragoman.predict import Candidate, Translator

DESCRIPTION = """\
Translates standard input, line by line, to standard output; an empty line stays empty. A line is answered when it
comes: lines that wait are translated together. A line of more than 10,000 tokens ends the command with
its number, unless the model was trained to cut its sources.

example:
  dragoman translate en-de < test.en > test.de
"""


BLOCK = 256  # most lines that are asked for together
AHEAD = 4  # blocks that are read before the first of them is answered
INPUT = "standard input"
ERRORS = (ValueError, FloatingPointError, MemoryError)  # of an answer

Submit = Callable[[int, list[str]], Future[list[list[Candidate]]]]  # the number of the first line, lines
Written = Callable[[int, list[str], list[list[Candidate]]], list[str]]  # likewise, and their candidates


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
    parser.add_argument(
        "--alignments",
        action="store_true",
        help="end each translation with a tab and the words that the model looked at: 0-0 1-2 means that the first "
        "word of the line became the first of the translation, and the second the third",
    )
    add_batch_argument(parser)
    add_language_arguments(parser)
    add_search_arguments(parser)
    content = parser.add_argument_group("what translations contain")
    add_text_arguments(content)
    content.add_argument(
        "--prefix-column",
        action="store_true",
        help="what follows a tab in a line is what its translation begins with, and is not translated",
    )
    add_draw_arguments(parser.add_argument_group("drawn translations"))


def add_batch_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--batch-tokens",
        type=COUNT,
        metavar="N",
        help="tokens of texts that are read together; more need more memory (default: 2048, for encoders 4096)",
    )


def command(options: argparse.Namespace) -> None:
    """Translates what comes on standard input, as soon as it comes."""
    search = search_options(options)
    most = 1000 if search.get("temperature") else search.get("beam", 5)
    if options.n_best is not None and options.n_best > most:
        raise ValueError(f"--n-best must be at most --beam {most}, got {options.n_best}")
    search["count"] = options.n_best or 1
    if options.prefix_column and options.prefix is not None:
        raise ValueError("--prefix must not be given with --prefix-column")
    with ExitStack() as stack:
        file = None if options.output is None else stack.enter_context(OutputFile(options.output))
        write = standard_output() if file is None else file.write
        translator: Translator = load_served(Translator, options, batch_tokens=options.batch_tokens)
        search |= text_options(options, translator)
        source = sys.stdin.fileno()
        progress = _progress(source, file is not None)
        if progress is not None:
            stack.enter_context(closing(progress))

        def submit(number: int, lines: list[str]) -> Future[list[list[Candidate]]]:
            chosen = dict(search)
            if options.prefix_column:
                chosen["prefix"] = [line.partition("\t")[2] for line in lines]
            return translator.submit_candidates(texts_in(lines), place=number - 1, **chosen)

        def texts_in(lines: list[str]) -> list[str]:
            return [line.partition("\t")[0] for line in lines] if options.prefix_column else lines

        def written(number: int, lines: list[str], found: list[list[Candidate]]) -> list[str]:
            ends = _alignments(translator, texts_in(lines), found) if options.alignments else repeat(repeat(""))
            return [_lines(options, i, *each) for i, each in enumerate(zip(found, ends, strict=False), number)]

        for lines in stack.enter_context(closing(_in_order(submit, written, source))):
            write("".join(lines).encode())
            if progress is not None:
                progress.update(len(lines))
        if file is not None:
            file.commit()


def _in_order(submit: Submit, written: Written, source: int) -> Generator[list[str], None, None]:
    """What is written for lines, in their order; more lines are read meanwhile."""
    news: SimpleQueue[tuple[int, list[str]] | Exception | None] = SimpleQueue()  # None: a future has ended
    room = Semaphore(AHEAD)

    def read() -> None:
        try:
            for block in texts_of(source):
                room.acquire()
                news.put(block)
            news.put(EOFError())
        except Exception as error:
            news.put(error)

    Thread(target=read, daemon=True).start()
    end: Exception | None = None
    pending: deque[tuple[int, list[str], Future[list[list[Candidate]]]]] = deque()
    try:
        while pending or end is None:
            event = news.get()
            if isinstance(event, Exception):
                end = event
            elif event is not None:
                future = _started(submit, *event)
                pending.append((*event, future))
                future.add_done_callback(lambda _: news.put(None))
            while pending and pending[0][2].done():
                yield from _answered(submit, written, *pending.popleft())
                room.release()
    finally:
        for _, _, future in pending:
            future.cancel()
    if not isinstance(end, EOFError):
        raise end


def _started(submit: Submit, number: int, texts: list[str]) -> Future[list[list[Candidate]]]:
    """The future of `submit`, which fails with its error."""
    try:
        return submit(number, texts)
    except ERRORS as error:
        failed: Future[list[list[Candidate]]] = Future()
        failed.set_exception(error)
        return failed


def _answered(
    submit: Submit, written: Written, first: int, texts: list[str], future: Future[list[list[Candidate]]]
) -> Iterator[list[str]]:
    def answer(number: int, some: list[str]) -> list[str]:
        found = (future if some is texts else submit(number, some)).result()
        return written(number, some, found)

    for _, lines in answers(answer, first, texts):
        yield lines


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
    answer: Callable[[int, list[Any]], list[Any]], first: int, texts: list[Any], name: str = INPUT
) -> Iterator[tuple[int, list[Any]]]:
    """The answers to texts of a file that came together, and the number of the first, which `answer` gets, too. After
    an error, line by line."""
    try:
        found = answer(first, texts)
    except ERRORS:
        for number, text in enumerate(texts, first):
            try:
                found = answer(number, [text])
            except ERRORS as error:
                kind = next(kind for kind in ERRORS if isinstance(error, kind))
                raise kind(f"{name}: line {number}: {_without_place(error)}") from None
            yield number, found
        return
    yield first, found


def _without_place(error: BaseException) -> str:
    """An error of the only text, whose line is named already: without the place in the list."""
    return re.sub(r"^\w+: (text|pairs)\[0\](\[[01]\])? (?=must )", "", str(error))


def _alignments(translator: Translator, texts: list[str], found: list[list[Candidate]]) -> list[list[str]]:
    """For each candidate of each text a tab and its alignment, as Pharaoh writes it."""
    pairs = [(text, each.text) for text, candidates in zip(texts, found, strict=True) for each in candidates]
    ends = iter("\t" + " ".join(f"{i}-{j}" for i, j in alignment) for alignment in translator.align(pairs))
    return [list(islice(ends, len(candidates))) for candidates in found]


def _lines(options: argparse.Namespace, number: int, candidates: list[Candidate], ends: Iterable[str]) -> str:
    """The lines of output for one of input. A translation is one line, whatever it holds."""
    lines = []
    for candidate, end in zip(candidates, ends, strict=False):
        fields = [] if options.n_best is None else [str(number)]
        if options.scores:
            fields.append(f"{candidate.score:.4f}")
        lines.append("\t".join([*fields, " ".join(candidate.text.splitlines())]) + end + "\n")
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
