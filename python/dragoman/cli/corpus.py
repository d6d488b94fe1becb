"""The files of a corpus, as options name them: pipes are copied, columns of a table are chosen."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dragoman.data.spool import spooled
from dragoman.data.text import Column, File
from dragoman.train.progress import tell

Corpus = dict[str, list[File]]  # by the name of a side


@contextmanager
def corpora(options: argparse.Namespace, sides: Sequence[str]) -> Iterator[tuple[Corpus, Corpus | None]]:
    """The files of training and of validation; None without the latter.

    Raises:
        OSError: a pipe cannot be read.
        ValueError: naming the option.
    """
    columns = _columns(options.columns, sides)
    training, held_out = ({side: getattr(options, f"{kind}{side}") for side in sides} for kind in ("", "valid_"))
    if len({files is None for files in held_out.values()}) > 1:
        raise ValueError(f"{' and '.join(f'--valid-{side}' for side in sides)} go together")
    names = [name for files in (training, held_out) for side in sides for name in files[side] or ()]
    with spooled(names, tell) as copies:

        def opened(files: dict[str, list[str]]) -> Corpus:
            found = {side: [copies.get(name, name) for name in names] for side, names in files.items()}
            return {side: [Column(name, columns[side]) if columns else name for name in found[side]] for side in sides}

        yield opened(training), None if None in held_out.values() else opened(held_out)


def _columns(text: str | None, sides: Sequence[str]) -> dict[str, int | str]:
    """The column of each side: `1,2` or `de,en`."""
    if text is None:
        return {}
    names = [name.strip() for name in text.split(",")]
    if len(names) != len(sides) or not all(names) or "0" in names:
        raise ValueError(f"--columns must be {len(sides)} names, or numbers from 1, with a comma between, got {text!r}")
    return {side: int(name) if name.isdecimal() else name for side, name in zip(sides, names, strict=True)}
