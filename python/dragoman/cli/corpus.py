"""The files of a corpus, as options name them: pipes are copied, columns of a table are chosen."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from dragoman.data.spool import pipes_among, spooled
from dragoman.data.text import Column, File
from dragoman.distributed import this_process
from dragoman.train.progress import tell

Corpus = dict[str, list[File]]  # by the name of a side


@contextmanager
def corpora(
    options: argparse.Namespace, sides: Sequence[str], chosen: str | None
) -> Iterator[tuple[Corpus, Corpus | None]]:
    """The files of training and of validation, with the columns `chosen` of --columns; None without the latter.

    Raises:
        OSError: a pipe cannot be read.
        ValueError: naming the option; a pipe on several ranks, which it cannot all reach.
    """
    training, held_out = ({side: getattr(options, f"{kind}{side}") for side in sides} for kind in ("", "valid_"))
    if len({files is None for files in held_out.values()}) > 1:
        raise ValueError(f"{' and '.join(f'--valid-{side}' for side in sides)} must be given together")
    if options.valid_fraction is not None and held_out[sides[0]] is not None:
        raise ValueError(f"--valid-fraction and --valid-{sides[0]} must not be given together")
    names = [name for files in (training, held_out) for side in sides for name in files[side] or ()]
    _columns(chosen, sides)  # an error comes before the pipes are read
    if this_process().size > 1 and (pipes := pipes_among(names)):
        raise ValueError(f"{next(iter(pipes))}: a pipe gives its text to one process; for several ranks, name files")
    with spooled(names, tell) as copies:

        def opened(files: dict[str, list[str]]) -> Corpus:
            found = {side: [copies.get(name, name) for name in files[side]] for side in sides}
            return choose_columns(found, chosen)

        yield opened(training), None if None in held_out.values() else opened(held_out)


def add_columns_argument(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    parser.add_argument(
        "--columns",
        metavar="S,T",
        help="the files hold tab-separated columns: S are the sources, T the targets. Either is a number, from 1, or a "
        "name in the first line; the same file may be --source and --target. For labelled texts the label's column "
        "and the text's; of text alone, one column",
    )


def choose_columns(files: Mapping[str, Sequence[str]], columns: str | None) -> Corpus:
    """The files of each side, or one column of each, as --columns says. ValueError, naming the option."""
    chosen = _columns(columns, [*files])
    return {side: [Column(name, chosen[side]) if chosen else name for name in names] for side, names in files.items()}


def _columns(text: str | None, sides: Sequence[str]) -> dict[str, int | str]:
    """The column of each side: `1,2` or `de,en`."""
    if text is None:
        return {}
    names = [name.strip() for name in text.split(",")]
    if len(names) != len(sides) or not all(names) or "0" in names:
        expected = f"{len(sides)} names, or numbers from 1, with a comma between" if len(sides) > 1 else "one column"
        raise ValueError(f"--columns must be {expected}, got {text!r}")
    return {side: int(name) if name.isdecimal() else name for side, name in zip(sides, names, strict=True)}
