"""WordCache: remembers the token ids of words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dragoman.data.encodings import encodings

MAXIMUM = 1 << 20  # characters of the words that are kept


class WordCache:
    """Token ids of texts, word by word. Few words of a text are new, and only these go through `backend`.

    Any number of threads may use it.

    Args:
        backend: a `tokenizers.Tokenizer` for which the ids of a text are the ids of its words, split at single
            spaces, end to end. It has no empty words, so texts with two spaces in a row go through it whole.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._ids: dict[str, list[int]] = {}
        self._size = 0

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, a list for each."""
        split = [text.split(" ") for text in texts]
        ids = self._ids_with(set().union(*split))
        return [
            self._backend.encode(text, add_special_tokens=False).ids
            if "" in words
            else [id for word in words for id in ids[word]]
            for text, words in zip(texts, split, strict=True)
        ]

    def _ids_with(self, words: set[str]) -> dict[str, list[int]]:
        """A dict that holds the ids of `words` and of other words."""
        ids = self._ids
        new = list(words.difference(ids))
        self._size += sum(map(len, new))
        if self._size > MAXIMUM:  # start again with a new dict; another thread may still read the old one
            ids, new = {}, list(words)
            self._ids, self._size = ids, sum(map(len, new))
        found = encodings(self._backend, new)
        ids.update((word, encoding.ids) for word, encoding in zip(new, found, strict=True))
        return ids
