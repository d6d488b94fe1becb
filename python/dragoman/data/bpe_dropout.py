"""BpeDropout: words of training text, split at random."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from random import Random

import numpy as np

from dragoman import arguments
from dragoman.data.columns import Ids
from dragoman.data.tokenizer import Tokenizer

VARIANTS = 64  # random splits of a word
MAXIMUM = 1 << 20  # splits that are kept


class BpeDropout:
    """Splits words anew, each time with some merges of byte pairs left out (Provilkov et al. 2020, arXiv:1910.13267).

    Before every merge each pair that could be merged is passed over with probability `rate`. The model so reads a word
    in several forms. The text stays the same. A word has at most 64 such splits, and each of them depends on nothing
    but the word and the rate, so a run that is resumed sees the same tokens.

    Args:
        tokenizer: of the kind "bpe".
        rate: in [0, 1); the paper uses 0.1.
        longest: a row that would become longer keeps its split.

    Raises:
        TypeError: an argument of another type.
        ValueError: a tokenizer of another kind, a rate or a size outside its range.
    """

    def __init__(self, tokenizer: Tokenizer, rate: float, longest: int) -> None:
        arguments.check_types("BpeDropout", Tokenizer, tokenizer=tokenizer)
        self._rate = arguments.rate("BpeDropout", "rate", rate)
        self._longest = arguments.integer("BpeDropout", "longest", longest)
        merges = tokenizer.merges()
        self._merges = {(left, right): (rank, whole) for rank, (left, right, whole) in enumerate(merges)}
        self._parts = {whole: (left, right) for left, right, whole in reversed(merges)}
        names = tokenizer.tokens(range(tokenizer.vocab_size))
        self._first = frozenset(id for id, name in enumerate(names) if name.startswith("\u2581"))
        self._splits: dict[tuple[tuple[int, ...], int], list[int]] = {}

    def __call__(self, rows: Iterable[Ids], seed: Sequence[int]) -> list[list[int]]:
        """The rows, split anew by random numbers from `seed`."""
        draw = np.random.default_rng(seed)
        return [self._row(np.asarray(row, np.int64).tolist(), draw) for row in rows]

    def _row(self, ids: list[int], draw: np.random.Generator) -> list[int]:
        starts = [0, *(place for place, id in enumerate(ids) if place and id in self._first), len(ids)]
        variants = draw.integers(VARIANTS, size=len(starts) - 1).tolist()
        found: list[int] = []
        for (start, end), variant in zip(pairwise(starts), variants, strict=True):
            found += self._split(tuple(ids[start:end]), variant)
        return found if len(found) <= self._longest else ids

    def _split(self, word: tuple[int, ...], variant: int) -> list[int]:
        split = self._splits.get((word, variant))
        if split is None:
            if len(self._splits) >= MAXIMUM:
                self._splits.clear()
            split = self._splits[word, variant] = self._merged(word, Random(repr((word, variant))))
        return split

    def _merged(self, word: Iterable[int], random: Random) -> list[int]:
        ids = [part for id in word for part in self._spelt(id)]
        while True:
            pairs = enumerate(pairwise(ids))
            known = [(*self._merges[pair], place) for place, pair in pairs if pair in self._merges]
            kept = [merge for merge in known if random.random() >= self._rate]
            if not kept:
                return ids
            _, whole, place = min(kept)
            ids[place : place + 2] = [whole]

    def _spelt(self, id: int) -> list[int]:
        """The smallest parts of a token."""
        parts = self._parts.get(id)
        return [id] if parts is None else [small for part in parts for small in self._spelt(part)]
