"""GeneratingPredictor: what Translator and LanguageModel have in common, an executor that decodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from dragoman import arguments
from dragoman.data.tokenizer import Tokenizer, with_token
from dragoman.generate import Hypothesis, SearchOptions
from dragoman.generate.models import output_size
from dragoman.generate.search import options_of
from dragoman.models.batch import pack_ids
from dragoman.predict.call import Work
from dragoman.predict.defaults import with_defaults
from dragoman.predict.executor import Executor
from dragoman.predict.generation_executor import GenerationExecutor
from dragoman.predict.stream import without_last_bytes
from dragoman.predict.text_predictor import TextPredictor

Result = TypeVar("Result")


class GeneratingPredictor(TextPredictor):
    """Base of what serves a model that writes text. A folder from elsewhere may ask for options of a search, which
    count where a call says nothing else."""

    batch_tokens = 2048

    def __init__(self, model: Any, tokenizer: Tokenizer, **limits: int | None) -> None:
        super().__init__(model, tokenizer, **limits)
        name, rows, size = type(self).__name__, output_size(model), tokenizer.target.vocab_size
        if size > rows:
            raise ValueError(f"{name}: tokenizer must have at most {rows} target tokens, as the model, got {size}")
        self._defaults = dict(tokenizer.search_options(model.config))
        self._total = {name: self._defaults.pop(f"total_{name}", None) for name in ("length", "minimum")}
        self.search_options()  # so that what a folder asks for is checked now

    def search_options(self, **options: Any) -> SearchOptions:
        """What a call with these options searches with: they, and the folder's or the class's own where they say
        nothing. TypeError, ValueError, naming the option."""
        return options_of(type(self).__name__, **with_defaults(self._defaults, options))

    def submit_ids(
        self, ids: Sequence[Sequence[int]], options: Sequence[SearchOptions], places: Sequence[int]
    ) -> Future[list[list[Hypothesis]]]:
        """Queues ids that the model reads, for callers with a tokenizer of their own, and returns at once.

        Args:
            ids: for each request those of a source, with its eos, or of a text to go on from.
            options, places: of each request, as of `dragoman.generate.Generation.add`.

        Returns:
            A future of the hypotheses of each request, the best first.

        Raises:
            TypeError, ValueError: naming the argument, and the place of an id that is none.
            QueueFullError: as many requests wait as `queue_limit` allows.
        """
        name = type(self).__name__
        pack_ids(name, "ids", ids, self.model.config.vocab_size)  # checks them
        arguments.check_types(name, Sequence, options=options)
        arguments.check_types(name, SearchOptions, **{f"options[{i}]": each for i, each in enumerate(options)})
        places = arguments.integers(name, "places", places)
        for argument, values in (("options", options), ("places", places)):
            if len(values) != len(ids):
                raise ValueError(f"{name}: {argument} must hold {len(ids)}, one for each of ids, got {len(values)}")
        for i, each in enumerate(ids):
            if not len(each):
                raise ValueError(f"{name}: ids[{i}] must hold at least one id, got none")
        return self._queue([work_of(*request) for request in zip(ids, options, places, strict=True)], list)

    def _queue(self, works: Sequence[Work], finish: Callable[[list[list[Hypothesis]]], Result]) -> Future[Result]:
        return self._executor.submit(works, finish)

    def _certain(self, ids: Sequence[int]) -> Sequence[int]:
        """The ids of a stream whose text is certain."""
        tokenizer = self.tokenizer.target
        return without_last_bytes(with_token(ids, tokenizer), tokenizer)

    def _make_executor(self, name: str, batch_tokens: int, queue_limit: int | None) -> Executor:
        return GenerationExecutor(self.model, name, batch_tokens, queue_limit)


def work_of(
    ids: Sequence[int],
    options: SearchOptions,
    place: int,
    progress: Callable[[list[int]], None] | None = None,
) -> Work:
    """A request of a GenerationExecutor."""
    rows = max(options.beam, options.outputs)
    return Work((ids, options, place), len(ids), rows=rows, progress=progress)
