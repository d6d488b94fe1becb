"""Generation: many requests decoded side by side, which may come and go between two steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dragoman import _core, arguments
from dragoman.generate.aligning import covering_attention
from dragoman.generate.models import SearchModel, SearchModels, in_inference, limit_of, models_of, output_size
from dragoman.generate.options import SearchOptions
from dragoman.generate.steps import steps_of
from dragoman.models.batch import IdBatch
from dragoman.models.decoder import TextDecoder
from dragoman.models.special_ids import end_ids, start_ids, unwritten_ids
from dragoman.models.speech import SpeechTransformer
from dragoman.nn.lora import rows_of
from dragoman.tensor import Tensor

Start = Callable[[Tensor], Sequence[int]]  # from a source's memory to the ids that the decoder reads first


@dataclass(frozen=True)
class Hypothesis:
    """One output.

    Attributes:
        ids: target ids, without start and eos.
        score: sum_logprob / length penalty; of a draw, sum_logprob.
        sum_logprob: sum of the log probabilities of all tokens, with eos where the output ends in it.
        length: number of tokens that the sum counts.
        token_logprobs: the log probability of each, (length,).
    """

    ids: list[int]
    score: float
    sum_logprob: float = field(default=0.0, compare=False)
    length: int = field(default=0, compare=False)
    token_logprobs: list[float] = field(default_factory=list, compare=False, repr=False)


class Generation:
    """Requests that are decoded side by side: each step of the model takes a token of all of them.

    A request may be added or cancelled between two steps; its result does not depend on the others. One thread at a
    time may use a Generation. Requests that come when no other is decoded see the model as it is then.

    Args:
        model: what decodes; it runs without dropout, in either mode. Several models decode as one: their log
            probabilities are averaged and normalised again. They have one kind, one vocabulary and the same special
            ids.
        op: whose name errors begin with.

    Raises:
        TypeError: another kind of model.
        ValueError: models that do not fit together.
    """

    def __init__(self, model: SearchModels, op: str = "Generation") -> None:
        self._op, self.models = op, models_of(op, model)
        config = self.models[0].config
        self._size = output_size(self.models[0])
        self._ends, self._unwritten = end_ids(config), unwritten_ids(config)
        steps = [steps_of(each) for each in self.models]
        self._forced: dict[int, int] = {}  # by key: how many ids the core puts before the output, as the config says
        # Recorded steps are those of inference.
        self._called = [m for m, s in zip(self.models, steps, strict=True) if isinstance(s, _core.PythonSteps)]
        self._next_key = 0  # of a model that reads sound
        self._data = _core.Generation(
            steps[0] if len(steps) == 1 else _core.EnsembleSteps(steps), self._size, self._ends
        )

    def add(self, source_ids: Sequence[int], options: SearchOptions | None = None, place: int = 0) -> int:
        """Adds a request, which joins at the next step.

        Args:
            source_ids: ids of a source, or its frames; of a decoder-only model the ids to go on from, at least one.
            options: how it is decoded; greedy search by default.
            place: what a request draws depends on the seed and its place, an int of at least 0.

        Returns:
            The request's key: 0, 1, 2 and so on.

        Raises:
            TypeError, ValueError: naming the argument or the option.
        """
        arguments.check_types(self._op, SearchOptions, options=options or SearchOptions())
        place = arguments.integer(self._op, "place", place)
        check_sources(self._op, self.models, [source_ids])
        return self.add_checked(source_ids, options or SearchOptions(), place)

    def add_checked(
        self, source_ids: Sequence[int], options: SearchOptions, place: int, start: Start | None = None
    ) -> int:
        """As `add`, where the types and the source's ids have been checked. Of a model that reads sound, `start` gives
        what the decoder reads first in the place of the config's `start_id`."""
        op = self._op
        options.check_vocabulary(op, self._size, self._ends, self._unwritten)
        if options.coverage_penalty:
            for model in self.models:
                covering_attention(f"{op}: coverage_penalty", model)
        model = self.models[0]
        if isinstance(model, SpeechTransformer):
            return self._add_sound(model, source_ids, options, place, start)
        limit = min(limit_of(op, model, len(source_ids), options.max_length) for model in self.models)
        self._check_prefix(options, limit)
        if isinstance(model, TextDecoder):
            return self._data.add((), source_ids, options.native(limit, place, self._unwritten))
        begin = start_ids(model.config)
        forced = begin[1:] if options.like == "hf" else ()  # transformers counts them in an output's length
        native = options.native(limit, place, self._unwritten, forced)
        key = self._data.add(source_ids, begin[: len(begin) - len(forced)], native)
        if forced:
            self._forced[key] = len(forced)
        return key

    def _add_sound(
        self, model: SpeechTransformer, frames: Any, options: SearchOptions, place: int, start: Start | None
    ) -> int:
        """The encoder runs here: its first rows are no ids. The core gets the memory."""
        with model.inference(), rows_of([self._next_key]):
            memory = model.encode(*model.pack_source(self._op, [frames]))
            begin = start_ids(model.config) if start is None else tuple(start(memory))
        limit = limit_of(self._op, model, len(frames), options.max_length, len(begin))
        self._check_prefix(options, limit)
        key = self._data.add((), begin, options.native(limit, place, self._unwritten), memory.data)
        self._next_key = key + 1
        return key

    def _check_prefix(self, options: SearchOptions, limit: int) -> None:
        if len(options.prefix) > limit:
            got = len(options.prefix)
            raise ValueError(f"{self._op}: prefix must have at most {limit} ids, the limit of the output, got {got}")

    def step(self) -> list[int]:
        """One step of all requests.

        Returns:
            The keys of those that ended, for `take`.

        Raises:
            Exception: what the model raised. Then all requests are gone.
        """
        with in_inference(self._called):
            return self._data.step()

    def run(self) -> dict[int, list[Hypothesis]]:
        """Steps until every request has ended. Returns the outputs of each, by key; raises as `step` and `take`."""
        found: dict[int, list[Hypothesis]] = {}
        with in_inference(self._called):
            while self._data.pending:
                found |= {key: self.take(key) for key in self._data.step()}
        return found

    def take(self, key: int) -> list[Hypothesis]:
        """The outputs of a request that ended, the best first. The request is forgotten.

        Raises:
            FloatingPointError: a logit of this request is NaN or infinite, as where weights are.
            ValueError: its options left no token to choose; or no request with this key ended.
        """
        try:
            found = self._data.take(key)
        except (FloatingPointError, ValueError) as error:
            raise type(error)(f"{self._op}: {error}") from None
        forced = self._forced.pop(key, 0)
        return [
            Hypothesis(h.ids[forced:], h.score, h.sum_logprob, h.length - forced, h.token_logprobs[forced:])
            for h in found
        ]

    def stable(self, key: int) -> list[int]:
        """The ids that a request's result begins with, as far as they are known: the text so far of a stream.

        All hypotheses that are live or finished share them, so they only grow. ValueError for a request that was taken.
        """
        return self._data.stable(key)[self._forced.get(key, 0) :]

    def cancel(self, key: int) -> None:
        """Ends a request; one that is gone already is no error."""
        self._data.cancel(key)
        self._forced.pop(key, None)

    @property
    def pending(self) -> int:
        """Requests that have not ended, or whose end no step has told yet."""
        return self._data.pending

    @property
    def rows(self) -> int:
        """Hypotheses that the next step extends, without the requests that wait."""
        return self._data.rows


def check_sources(op: str, models: Sequence[SearchModel], src_batch: IdBatch) -> None:
    """TypeError, ValueError for ids that a model cannot read."""
    for model in models:
        _, sequences = model.pack_source(op, src_batch)
    if isinstance(models[0], TextDecoder):
        for i, length in enumerate(sequences.lengths):
            if not length:
                raise ValueError(
                    f"{op}: src_batch[{i}] must hold at least one token, such as the config's bos_id, got none"
                )


def run(
    generation: Generation, batch: IdBatch, options: SearchOptions, places: Sequence[int]
) -> list[list[Hypothesis]]:
    """The results of requests that begin together. The ids of `batch` have been checked."""
    keys = [generation.add_checked(ids, options, place) for ids, place in zip(batch, places, strict=True)]
    found = generation.run()
    return [found[key] for key in keys]
