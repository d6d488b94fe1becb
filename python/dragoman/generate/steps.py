"""Steps: what a search asks of a model, row by row: an encoder-decoder that translates, a decoder that goes on."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as List
from itertools import chain

import numpy as np
import numpy.typing as npt

from dragoman import _core, functional
from dragoman._core import Sequences
from dragoman.generate.aligning import covering_attention
from dragoman.generate.recorded import replayed_steps
from dragoman.models.decoder import TextDecoder
from dragoman.models.encoder_decoder import EncoderDecoder
from dragoman.nn import KVCache, MultiHeadAttention, record_attention
from dragoman.nn.kv_cache import cache_dtype
from dragoman.nn.lora import rows_of
from dragoman.tensor import Tensor

Projection = Callable[[Tensor, Sequences], Tensor]


def steps_of(model: EncoderDecoder | TextDecoder) -> _core.Steps:
    """The steps of a model: recorded ones that run without Python, or else calls of the model."""
    return replayed_steps(model) or _core.PythonSteps(EagerSteps(model))


class EagerSteps:
    """Calls the model, which is in inference, at every step. Requests that came together share a cache."""

    def __init__(self, model: EncoderDecoder | TextDecoder) -> None:
        self._model = model
        self._groups: list[_Group] = []
        self._covering: MultiHeadAttention | None = None
        self._attention: list[list[float]] = []

    def keep_attention(self, kept: bool) -> None:
        """Whether the calls that follow keep where their rows look. TypeError for a model that is no Transformer."""
        self._covering = covering_attention("keep_attention", self._model) if kept else None

    def attention(self) -> list[list[float]]:
        """How much each row of the last call looks at each token of its source."""
        return self._attention

    def add(self, entries: list[_core.Entry]) -> _core.Tensor:
        """The logits after the prefix of each entry, (entries, vocabulary)."""
        group = _group_of(self._model, entries)
        self._groups.append(group)
        self._attention = []
        return self._keep(group.first).data

    def next(self, ids: list[int], parents: list[int]) -> _core.Tensor:
        """The logits after `ids`, (rows, vocabulary), where row i goes on from row parents[i]."""
        logits: list[Tensor] = []
        self._attention = []
        first = taken = 0  # rows of the groups so far, before and after the step
        for group in self._groups:
            end = first + group.rows
            own = [parent - first for parent in parents[taken:] if parent < end]
            if own:
                logits.append(self._keep(group.next, ids[taken : taken + len(own)], own))
            group.rows = len(own)
            first, taken = end, taken + len(own)
        self._groups = [group for group in self._groups if group.rows]
        if not logits:
            return _core.Tensor.empty([0, 0])
        return (functional.concat(logits) if len(logits) > 1 else logits[0]).data

    def _keep(self, call: Callable[..., Tensor], *arguments: List[int]) -> Tensor:
        """What the call of a group returns. Where its rows look is added to the others, if it is kept."""
        if self._covering is None:
            return call(*arguments)
        with record_attention([self._covering]) as record:
            logits = call(*arguments)
        self._attention += [weights.numpy()[:, -1].mean(axis=0).tolist() for weights in record[self._covering]]
        return logits


class _Group:
    """Rows that go on in one cache."""

    def __init__(self, model: EncoderDecoder | TextDecoder, entries: list[_core.Entry]) -> None:
        self.rows = len(entries)
        self._project: Projection = model.project
        self._prefixes, self._places = [entry.prefix for entry in entries], [entry.place for entry in entries]
        self._entries: List[int] = range(self.rows)  # of each row
        self._cache = KVCache(self.rows, cache_dtype(model))

    def first(self) -> Tensor:
        lengths = [len(prefix) for prefix in self._prefixes]
        ids = np.fromiter(chain.from_iterable(self._prefixes), np.int32)
        return self._logits(ids, Sequences(lengths))

    def next(self, ids: List[int], parents: List[int]) -> Tensor:
        if parents != list(range(self.rows)):
            self._cache.reorder(parents)
            self._entries = [self._entries[parent] for parent in parents]
        return self._logits(np.array(ids, np.int32), Sequences([1] * len(ids)))

    def _logits(self, ids: npt.NDArray[np.int32], sequences: Sequences) -> Tensor:
        """The logits after the last token of each row, (rows, vocabulary)."""
        with rows_of([self._places[entry] for entry in self._entries]):
            hidden = self._decode(ids, sequences)
            rows = len(sequences.lengths)
            if len(ids) > rows:
                hidden = functional.gather(hidden, np.cumsum(sequences.lengths) - 1)
            return self._project(hidden, Sequences([1] * rows))

    def _decode(self, ids: npt.NDArray[np.int32], sequences: Sequences) -> Tensor:
        raise NotImplementedError


class _Translation(_Group):
    def __init__(self, model: EncoderDecoder, entries: list[_core.Entry]) -> None:
        super().__init__(model, entries)
        self._model = model
        memories = [Tensor(entry.memory) for entry in entries if entry.memory is not None]
        if memories:
            self._source = Sequences([memory.shape[0] for memory in memories])
            self._memory = functional.concat(memories)
            return
        sources = [entry.source for entry in entries]
        self._source = Sequences([len(source) for source in sources])
        with rows_of(self._places):
            self._memory = model.encode(np.fromiter(chain.from_iterable(sources), np.int32), self._source)

    def _decode(self, ids: npt.NDArray[np.int32], sequences: Sequences) -> Tensor:
        everyone = list(self._entries) == list(range(len(self._places)))
        read = self._source if everyone else self._source.select(list(self._entries))
        return self._model.decode(ids, sequences, self._memory, read, self._cache)


class _Continuation(_Group):
    def __init__(self, model: TextDecoder, entries: list[_core.Entry]) -> None:
        super().__init__(model, entries)
        self._model = model

    def _decode(self, ids: npt.NDArray[np.int32], sequences: Sequences) -> Tensor:
        return self._model.decode(ids, sequences, self._cache)


def _group_of(model: EncoderDecoder | TextDecoder, entries: list[_core.Entry]) -> _Group:
    if isinstance(model, EncoderDecoder):
        return _Translation(model, entries)
    return _Continuation(model, entries)
