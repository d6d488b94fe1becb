"""What models read of texts and words: their ids in the tokenizer's frames."""

from __future__ import annotations

from collections.abc import Sequence

from dragoman.data.tokenizer import Tokenizer


def framed_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """What an encoder reads of each text, in training and in use: <s>, its ids and </s>, or the tokenizer's frame."""
    return [tokenizer.text_frame.around(ids) for ids in tokenizer.encode_batch(tokenizer.trimmed(texts))]


def documents(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """What a language model learns from each text: as of `framed_texts`, in the tokenizer's frame for it."""
    return [tokenizer.document_frame.around(ids) for ids in tokenizer.encode_batch(tokenizer.trimmed(texts))]


def prompts(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """What a language model goes on from, for each text; without any id, what begins a document."""
    frame, beginning = tokenizer.prompt_frame, [*tokenizer.document_frame.prefix]
    return [frame.around(ids) or beginning for ids in tokenizer.encode_batch(texts)]


def framed_words(tokenizer: Tokenizer, sentences: Sequence[Sequence[str]]) -> tuple[list[list[int]], list[list[int]]]:
    """For each sentence the ids of its words in the frame of a text; and how many ids each word has, at least one."""
    words = [word for sentence in sentences for word in sentence]
    spelt = iter(tokenizer.encode_words(words))
    ids, counts = [], []
    for sentence in sentences:
        parts = [next(spelt) or [tokenizer.unk_id] for _ in sentence]
        ids.append(tokenizer.text_frame.around([id for part in parts for id in part]))
        counts.append([len(part) for part in parts])
    return ids, counts


def words_within(counts: Sequence[int], maximum: int) -> int:
    """How many of the first words, with these numbers of ids, fit into `maximum` ids with one on either side."""
    room, words = maximum - 2, 0
    for count in counts:
        room -= count
        if room < 0:
            break
        words += 1
    return words
