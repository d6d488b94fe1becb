"""WordCache: the ids of words that came before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MOST = 1 << 20  # characters of the words that are kept


class WordCache:
    """Ids of texts, word by word: few words of a text are new, and only these are spelt by `backend`.

    Any number of threads may use it.

    Args:
        backend: a `tokenizers.Tokenizer` whose ids of a text are those of its words, split at single spaces, end to
            end. An empty word, beside another space, is no word to it.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._ids: dict[str, list[int]] = {}
        self._size = 0

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text."""
        split = [text.split(" ") for text in texts]
        ids = self._with(set().union(*split))
        return [
            self._backend.encode(text, add_special_tokens=False).ids
            if "" in words
            else [id for word in words for id in ids[word]]
            for text, words in zip(texts, split, strict=True)
        ]

    def _with(self, words: set[str]) -> dict[str, list[int]]:
        """The ids of `words`, and of others."""
        ids = self._ids
        new = list(words.difference(ids))
        self._size += sum(map(len, new))
        if self._size > MOST:  # begins anew; another thread may still read the old ones
            ids, new = {}, list(words)
            self._ids, self._size = ids, sum(map(len, new))
        encodings = self._backend.encode_batch_fast(new, add_special_tokens=False)
        ids.update((word, encoding.ids) for word, encoding in zip(new, encodings, strict=True))
        return ids
