"""Tagger: a tag for each word."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import overload

import numpy as np

from dragoman.data.framing import framed_words, words_within
from dragoman.data.texts import check_text, check_texts
from dragoman.models.encoder import TextEncoder
from dragoman.predict.call import Work
from dragoman.predict.text_predictor import EncoderPredictor

Words = str | list[str]  # a sentence
TaggedSentence = list[tuple[str, str]]  # word, tag

_Part = tuple[list[int], list[int]]  # ids with one on either side, and how many each word has


class Tagger(EncoderPredictor):
    """Tags of words by a trained model. Made by `Tagger.load`.

    Any number of threads may call it or `submit`: what waits is merged into batches.

    Args:
        model: with the head "tag".
        tokenizer: the one that the model was trained with.

    Raises:
        TypeError, ValueError: another kind of model or tokenizer.
    """

    head = "tag"

    @overload
    def __call__(self, text: str) -> TaggedSentence: ...

    @overload
    def __call__(self, text: list[str] | list[list[str]] | list[Words]) -> list[TaggedSentence]: ...

    def __call__(self, text: str | list[str] | list[list[str]] | list[Words]) -> TaggedSentence | list[TaggedSentence]:
        """The words of a sentence with their tags, or of each of several sentences.

        A result does not depend on the sentences beside it. A sentence that is longer than the config's `max_length` is
        read in parts.

        Args:
            text: a sentence, as a text with spaces between the words; or a list of sentences, each a text or a list of
                words.

        Returns:
            A list of (word, tag) for a str, else a list of such lists, in the order of the sentences.

        Raises:
            TypeError, ValueError: naming the argument, and the place of a text or word that is none.
        """
        sentences = _checked([text] if isinstance(text, str) else text)
        works, owners = self._parts_of(sentences)
        tagged = self._tagged(sentences, owners, self._executor.run(works))
        return tagged[0] if isinstance(text, str) else tagged

    def submit(self, text: str) -> Future[TaggedSentence]:
        """Queues a sentence and returns at once; `.result()` waits for its words with tags. TypeError, ValueError at
        once."""
        check_text("Tagger", "text", text)
        sentences = _checked([text])
        works, owners = self._parts_of(sentences)
        return self._executor.submit(works, lambda found: self._tagged(sentences, owners, found)[0])

    def _tagged(self, sentences: list[list[str]], owners: list[int], found: list[list[int]]) -> list[TaggedSentence]:
        """The words of each sentence with their tags, from the numbers of the labels of its parts."""
        labels = self.model.config.labels
        tagged: list[TaggedSentence] = [[] for _ in sentences]
        for owner, numbers in zip(owners, found, strict=True):
            words = sentences[owner][len(tagged[owner]) :]
            tagged[owner] += [(word, labels[number]) for word, number in zip(words, numbers, strict=False)]
        return tagged

    @staticmethod
    def _answer(model: TextEncoder, values: list[_Part]) -> Sequence[list[int]]:
        """The numbers of the labels of each part's words."""
        words = [counts for _, counts in values]
        numbers = model.logits([ids for ids, _ in values], words).argmax(1)
        ends = np.cumsum([len(counts) for counts in words])[:-1]
        return [part.tolist() for part in np.split(numbers, ends)]

    def _parts_of(self, sentences: list[list[str]]) -> tuple[list[Work], list[int]]:
        """Sentences cut into parts that the model can read, and the sentence of each part."""
        maximum = self.model.config.max_length
        parts: list[Work] = []
        owners: list[int] = []
        for owner, (ids, counts) in enumerate(zip(*framed_words(self.tokenizer, sentences), strict=True)):
            first, place = 0, 1
            while first < len(counts):
                room = counts[first:]
                if (fit := words_within(room, maximum)) == 0:  # the first word alone is too long: it is cut
                    taken, kept = ids[place : place + maximum - 2], [maximum - 2]
                    fit = 1
                else:
                    kept = room[:fit]
                    taken = ids[place : place + sum(kept)]
                part: _Part = [ids[0], *taken, ids[-1]], kept
                parts.append(Work(part, len(part[0])))
                owners.append(owner)
                place += sum(room[:fit])
                first += fit
        return parts, owners


def _checked(text: object) -> list[list[str]]:
    if not isinstance(text, list | tuple):
        raise TypeError(f"Tagger: text must be a str or a list of sentences, got {type(text).__name__}")
    sentences = []
    for i, sentence in enumerate(text):
        if isinstance(sentence, str):
            check_text("Tagger", f"text[{i}]", sentence)
            sentences.append(sentence.split())
        elif isinstance(sentence, list | tuple):
            sentences.append(check_texts("Tagger", f"text[{i}]", sentence))
        else:
            raise TypeError(f"Tagger: text[{i}] must be a text or a list of words, got {type(sentence).__name__}")
    return sentences
