"""Tables of tab-separated values: some columns of each line, by name or number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dragoman.arguments import shown
from dragoman.data.text import Files, as_files, iter_lines


def iter_tsv(files: Files, columns: Sequence[str], roles: Sequence[str] = ()) -> Iterator[tuple[str, ...]]:
    """Some cells of each line of UTF-8 files, plain or `.gz`. Memory holds one line. Quotes are ordinary characters.
    Where there are several columns, lines without any character are passed over.

    Args:
        files: one or several.
        columns: names from the first line of each file, or numbers from 1 on, of files without a line of names.
        roles: words for the columns. Files whose first line holds none of `columns` have no line of names, if
            `columns` are these words in any order: then the first column is the first of them, and so on.

    Returns:
        For each line its cells, in the order of `columns`.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: naming the file: a column that it has not, a line with fewer cells; or as in `iter_lines`.
    """
    for name, words in (("columns", columns), ("roles", roles)):
        if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
            raise TypeError(f"iter_tsv: {name} must be a list of texts, got {shown(words)}")
    if not columns:
        raise ValueError("iter_tsv: columns must be at least one, got none")
    for path in as_files(files):
        lines = ((number, line) for number, line in enumerate(iter_lines(path), 1) if line or len(columns) == 1)
        first = next(lines, None)
        if first is None:
            raise ValueError(f"{path} has no lines")
        places = _places(first[1].split("\t"), columns, roles)
        if isinstance(places, str):
            raise ValueError(f"{path}: {places}")
        if not _is_header(first[1].split("\t"), columns):
            yield _cells(path, *first, places)
        for number, line in lines:
            yield _cells(path, number, line, places)


def _is_header(cells: list[str], columns: Sequence[str]) -> bool:
    return not all(map(str.isdecimal, columns)) and set(columns) <= set(cells)


def _places(cells: list[str], columns: Sequence[str], roles: Sequence[str]) -> list[int] | str:
    """Where the columns stand in a line; a sentence where they do not."""
    if all(name.isdecimal() and int(name) > 0 for name in columns):
        return [int(name) - 1 for name in columns]
    if _is_header(cells, columns):
        return [cells.index(name) for name in columns]
    if set(columns) == set(roles) and not set(columns) & set(cells):
        return list(range(len(columns)))
    return f"must have the columns {', '.join(columns)} in its first line, got {', '.join(cells)[:200]!r}"


def _cells(path: object, number: int, line: str, places: list[int]) -> tuple[str, ...]:
    cells = line.split("\t")
    if len(cells) <= max(places):
        raise ValueError(f"{path}: line {number} must have at least {max(places) + 1} cells, got {len(cells)}")
    return tuple(cells[place] for place in places)
