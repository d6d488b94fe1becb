"""Files of words with tags: a word, a tab and its tag on each line, an empty line between sentences."""

from __future__ import annotations

from collections.abc import Iterator

from dragoman.data.text import Files, as_files, iter_lines

TaggedWords = tuple[list[str], list[str]]  # words, and the tag of each


def iter_conll(files: Files) -> Iterator[TaggedWords]:
    """The sentences of UTF-8 files, plain or `.gz`, as words and tags. Memory holds one sentence.

    A line has a word in its first column and the tag in its last one, both without the spaces around them; columns
    between are passed over, as are lines that begin with "# " and hold no tab.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: naming the file: a line without a tab, an empty word or tag; no sentence; or as in `iter_lines`.
    """
    for path in as_files(files):
        words: list[str] = []
        tags: list[str] = []
        count = 0
        for number, line in enumerate(iter_lines(path), 1):
            if not line.strip():
                if words:
                    count += 1
                    yield words, tags
                words, tags = [], []
            elif "\t" in line or not line.startswith("# "):
                word, tab, rest = line.partition("\t")
                tag = rest.rpartition("\t")[2].strip()
                if not (tab and word.strip() and tag):
                    raise ValueError(f"{path}: line {number} must be a word, a tab and a tag, got {line[:80]!r}")
                words.append(word.strip())
                tags.append(tag)
        if words:
            count += 1
            yield words, tags
        if not count:
            raise ValueError(f"{path} has no sentences")
