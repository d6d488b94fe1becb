"""What an encoder of text reads: <s>, the ids of a text or of its words, and </s>."""

from __future__ import annotations

from collections.abc import Sequence

from dragoman.data.columns import Ids
from dragoman.data.tokenizer import BOS, EOS, UNK, Tokenizer


def framed_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """<s>, the ids and </s> of each text, in training and in use."""
    return [[BOS, *ids, EOS] for ids in tokenizer.encode_batch([text.strip() for text in texts])]


def framed_words(tokenizer: Tokenizer, sentences: Sequence[Sequence[str]]) -> tuple[list[list[int]], list[list[int]]]:
    """For each sentence <s>, the ids of its words and </s>; and how many ids each word has, at least one."""
    words = [word for sentence in sentences for word in sentence]
    spelt = iter(tokenizer.encode_batch(words))
    ids, counts = [], []
    for sentence in sentences:
        parts = [next(spelt) or [UNK] for _ in sentence]
        ids.append([BOS, *(id for part in parts for id in part), EOS])
        counts.append([len(part) for part in parts])
    return ids, counts


def cut(ids: Ids, maximum: int) -> Ids:
    """The first `maximum` ids, of which the last stays the last."""
    return ids if len(ids) <= maximum else [*ids[: maximum - 1], ids[-1]]


def words_within(counts: Sequence[int], maximum: int) -> int:
    """How many of the first words, with these numbers of ids, fit into `maximum` ids with one on either side."""
    room, words = maximum - 2, 0
    for count in counts:
        room -= count
        if room < 0:
            break
        words += 1
    return words
