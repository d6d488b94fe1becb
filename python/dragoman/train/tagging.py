"""Tagging: the task of words with tags."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman.data.bpe_dropout import BpeDropout
from dragoman.data.columns import Columns, Ids, Lengths
from dragoman.data.conll import TaggedWords, iter_conll
from dragoman.data.framing import framed_words, words_within
from dragoman.data.text import Files
from dragoman.models.encoder import TextEncoder
from dragoman.tensor import Tensor
from dragoman.train.classification import LabelTask
from dragoman.train.label_scores import largest
from dragoman.train.options import TrainingOptions
from dragoman.train.task import Batch
from dragoman.train.text_task import text_costs


class Tagging(LabelTask):
    """Sentences of words, with a tag for each word: examples are ([words], [tags]), or three lists of ids: tokens with
    one before and one after the words, how many tokens each word has, and the number of each word's label.

    What a word's tokens become is the model's `pooling`: with "first" the first token carries the label. Words that do
    not fit into the `max_length` of the model's config are left out of training. Scores are "accuracy" and "macro_f1"
    of words, in percent.

    Args:
        tokenizer: needed for examples of text; saved with the model.
        labels: the names of the labels, in the order of their numbers.
        token_dropout: in training, this share of the tokens is replaced by <unk>.
    """

    name = "tag"
    head = "tag"
    unit = "sentence"
    columns = ("tokens", "words", "labels")

    def is_text(self, example: Any) -> bool:
        if isinstance(example, tuple | list) and all(isinstance(cell, Sequence | np.ndarray) for cell in example):
            if len(example) == 2 and all(isinstance(item, str) for cell in example for item in cell):
                if len(example[0]) == len(example[1]):
                    return True
            elif len(example) == 3:
                return False
        raise TypeError("must be a list of words and one of as many tags, or three lists of ids")

    def encode_text(self, examples: Sequence[TaggedWords]) -> Columns:
        tokens, words = framed_words(self._tokenizer(), [sentence for sentence, _ in examples])
        return {
            "tokens": tokens,
            "words": words,
            "labels": [[self.number(tag) for tag in tags] for _, tags in examples],
        }

    def split(self, rows: Columns, split: BpeDropout, seed: Sequence[int]) -> Columns:
        words = [part for ids, counts in zip(rows["tokens"], rows["words"], strict=True) for part in parts(ids, counts)]
        anew = iter(split(words, seed))
        tokens: list[Ids] = []
        numbers: list[Ids] = []
        for ids, counts in zip(rows["tokens"], rows["words"], strict=True):
            found = [next(anew) for _ in counts]
            tokens.append([ids[0], *chain.from_iterable(found), ids[-1]])
            numbers.append([len(word) for word in found])
        return {**rows, "tokens": tokens, "words": numbers}

    def costs(self, lengths: Lengths, model: TextEncoder, options: TrainingOptions) -> npt.NDArray[np.integer[Any]]:
        costs = text_costs(lengths["tokens"], model.config.max_length, options)
        return np.where(lengths["words"] > 0, costs, 0)

    def batch(self, rows: Columns, model: TextEncoder, seed: Sequence[int]) -> Batch:
        tokens: list[Ids] = []
        words: list[Ids] = []
        labels: list[Ids] = []
        for ids, counts, tags in zip(rows["tokens"], rows["words"], rows["labels"], strict=True):
            kept = words_within(counts, model.config.max_length)
            words.append(counts[:kept])
            labels.append(tags[:kept])
            tokens.append([*ids[: 1 + sum(counts[:kept])], ids[-1]])
        columns = {"tokens": tokens, "words": words, "labels": labels}
        return Batch(columns, sum(map(len, labels)), sum(map(len, tokens)))

    def loss(self, model: TextEncoder, batch: Batch, num_targets: int, options: TrainingOptions) -> Tensor:
        columns = batch.columns
        smoothing = options.label_smoothing
        return model.loss(columns["tokens"], columns["labels"], smoothing, num_targets, columns["words"])

    def truth(self, batch: Batch) -> npt.NDArray[np.integer[Any]]:
        return np.fromiter(chain.from_iterable(batch.columns["labels"]), np.int32)

    def predicted(self, model: TextEncoder, batch: Batch) -> npt.NDArray[np.integer[Any]]:
        return largest(model.logits(batch.columns["tokens"], batch.columns["words"]))

    @classmethod
    def examples(cls, files: Mapping[str, Files], **settings: Any) -> Iterator[TaggedWords]:
        return iter_conll(files["data"])

    @classmethod
    def texts(cls, examples: Iterable[TaggedWords]) -> Iterator[str]:
        return (" ".join(words) for words, _ in examples)

    @classmethod
    def labels_of(cls, examples: Iterable[TaggedWords]) -> Iterator[str]:
        return (tag for _, tags in examples for tag in tags)


def parts(ids: Ids, counts: Sequence[int]) -> list[Ids]:
    """The ids of each word, of ids with one before and one after the words."""
    ends = [1, *(1 + end for end in accumulate(counts))]
    return [ids[start:end] for start, end in pairwise(ends)]
