"""Steps: what a search asks of a model, row by row: an encoder-decoder that translates, a decoder that goes on."""

from __future__ import annotations

from collections.abc import Sequence as List
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dragoman import _core, functional
from dragoman._core import Sequences
from dragoman.generate.recorded import replayed_steps
from dragoman.models.batch import IdBatch
from dragoman.models.decoder import TextDecoder
from dragoman.models.encoder_decoder import EncoderDecoder
from dragoman.models.special_ids import start_ids
from dragoman.nn import KVCache
from dragoman.nn.lora import rows_of
from dragoman.tensor import Tensor


class Steps(Protocol):
    """The steps of a batch; a row of the logits belongs to one hypothesis of one sentence."""

    def first(self) -> Tensor:
        """The logits of the first token, (sentences, vocabulary), a row a sentence."""

    def next(self, ids: List[int], parents: List[int], sentences: List[int]) -> Tensor:
        """The logits of the token after `ids`, (rows, vocabulary).

        Args:
            ids: the token that each row has taken.
            parents: the row before that each row goes on from.
            sentences: the sentence of each row.
        """


def steps_of(op: str, model: EncoderDecoder | TextDecoder, batch: IdBatch) -> Steps:
    """The steps of a batch of sources, or of texts to go on from. TypeError, ValueError for ids in the name of `op`."""
    ids, sequences = model.pack_source(op, batch)
    translates = isinstance(model, EncoderDecoder)
    for i, length in enumerate(sequences.lengths):
        if not (length or translates):
            raise ValueError(
                f"{op}: src_batch[{i}] must hold at least one token, such as the config's bos_id, got none"
            )
    native = replayed_steps(model)
    if native is not None:
        texts = [text.tolist() for text in np.split(ids, np.cumsum(sequences.lengths)[:-1])] if len(sequences) else []
        start = start_ids(model.config) if translates else ()
        return _Native(native, [_core.Entry(t, start) if translates else _core.Entry([], t) for t in texts])
    if isinstance(model, EncoderDecoder):
        return _Translation(model, ids, sequences)
    return _Continuation(model, ids, sequences)


class _Native:
    """Steps that run without Python."""

    def __init__(self, steps: _core.Steps, entries: list[_core.Entry]) -> None:
        self._steps, self._entries = steps, entries

    def first(self) -> Tensor:
        return Tensor(self._steps.add(self._entries))

    def next(self, ids: List[int], parents: List[int], sentences: List[int]) -> Tensor:
        return Tensor(self._steps.next(ids, parents))


class _Cached:
    """Rows that go on in a cache."""

    def __init__(self, count: int) -> None:
        self._rows = count
        self._cache = KVCache(count)

    def next(self, ids: List[int], parents: List[int], sentences: List[int]) -> Tensor:
        if parents != list(range(self._rows)):
            self._cache.reorder(parents)
        self._rows = len(parents)
        with rows_of(sentences):
            return self._step(np.array(ids, np.int32), Sequences([1] * len(ids)), sentences)

    def _step(self, ids: npt.NDArray[np.int32], one_each: Sequences, sentences: List[int]) -> Tensor:
        raise NotImplementedError


class _Translation(_Cached):
    def __init__(self, model: EncoderDecoder, ids: npt.NDArray[np.int32], sequences: Sequences) -> None:
        super().__init__(len(sequences.lengths))
        self._model, self._source = model, sequences
        self._memory = model.encode(ids, sequences)

    def first(self) -> Tensor:
        rows = list(range(self._rows))
        for id in start_ids(self._model.config):
            logits = self.next([id] * self._rows, rows, rows)
        return logits

    def _step(self, ids: npt.NDArray[np.int32], one_each: Sequences, sentences: List[int]) -> Tensor:
        everyone = list(sentences) == list(range(len(self._source.lengths)))
        read = self._source if everyone else self._source.select(list(sentences))
        return self._model.project(self._model.decode(ids, one_each, self._memory, read, self._cache), one_each)


class _Continuation(_Cached):
    def __init__(self, model: TextDecoder, ids: npt.NDArray[np.int32], sequences: Sequences) -> None:
        super().__init__(len(sequences.lengths))
        self._model, self._ids, self._sequences = model, ids, sequences

    def first(self) -> Tensor:
        hidden = self._model.decode(self._ids, self._sequences, self._cache)
        last = np.cumsum(self._sequences.lengths) - 1
        return self._model.project(functional.gather(hidden, last), Sequences([1] * len(last)))

    def _step(self, ids: npt.NDArray[np.int32], one_each: Sequences, sentences: List[int]) -> Tensor:
        return self._model.project(self._model.decode(ids, one_each, self._cache), one_each)
