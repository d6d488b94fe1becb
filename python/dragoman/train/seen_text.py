"""SeenText: what looks wrong about pairs of text, counted while they are encoded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dragoman.data.columns import Columns
from dragoman.data.tokenizer import Tokenizer
from dragoman.data.vocabulary import BYTES, SPECIALS

_FIRST_BYTE = len(SPECIALS)  # the id of byte 0, in a vocabulary that was trained here
_SHARE = 0.5  # of pairs or characters, above which the user is told


class SeenText:
    """Counts over text pairs and their ids."""

    def __init__(self) -> None:
        self._pairs = self._same = 0
        self._characters = self._spelled = 0

    def add(self, pairs: Sequence[tuple[str, str]], columns: Columns) -> None:
        """Counts some pairs."""
        if not pairs:
            return
        self._pairs += len(pairs)
        self._same += sum(source == target for source, target in pairs)
        self._characters += sum(len(text) for pair in pairs for text in pair)
        for cells in columns.values():
            ids = np.concatenate([np.asarray(cell, np.int64) for cell in cells]) - _FIRST_BYTE
            # Every character begins with one byte that is not of the form 10xxxxxx.
            self._spelled += int(np.count_nonzero((ids >= 0) & (ids < len(BYTES)) & (ids & 0xC0 != 0x80)))

    def remarks(self, tokenizer: Tokenizer | None) -> list[str]:
        """Sentences for the user. The tokenizer is the one that made the ids."""
        said = []
        if self._same > _SHARE * self._pairs:
            said.append(f"in {self._same:,} of {self._pairs:,} pairs, source and target are the same text")
        if tokenizer is not None and self._spelled > _SHARE * self._characters and _has_bytes(tokenizer):
            said.append(
                f"the vocabulary lacks most characters: {self._spelled:,} of {self._characters:,} are spelled in "
                "bytes; a larger vocabulary (--vocab-size) may help"
            )
        return said


def _has_bytes(tokenizer: Tokenizer) -> bool:
    """Whether the ids after the special ones are those of bytes, as in every vocabulary that is trained here."""
    if tokenizer.vocab_size < _FIRST_BYTE + len(BYTES):
        return False
    return tokenizer.decode([_FIRST_BYTE + byte for byte in b"bytes"]) == "bytes"
