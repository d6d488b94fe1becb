"""GeneratingPredictor: what Translator and LanguageModel have in common, an executor that decodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, TypeVar

from dragoman import arguments
from dragoman.data.columns import Ids
from dragoman.data.tokenizer import Tokenizer, with_token
from dragoman.generate import Hypothesis, SearchOptions
from dragoman.generate.models import output_size
from dragoman.generate.scoring import end_of, forced_count, log_probs_of, scored
from dragoman.generate.search import options_of
from dragoman.models.batch import pack_ids
from dragoman.predict.call import Work
from dragoman.predict.defaults import with_defaults
from dragoman.predict.executor import Executor, result_of
from dragoman.predict.generation_executor import GenerationExecutor
from dragoman.predict.stream import without_last_bytes
from dragoman.predict.text_options import with_ids
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
        nothing. Texts become ids. TypeError, ValueError, naming the option."""
        return options_of(type(self).__name__, **with_defaults(self._defaults, self._with_ids(options)))

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
        _check_begun(name, ids)
        return self._queue([work_of(*request) for request in zip(ids, options, places, strict=True)], list)

    def submit_scores(
        self,
        ids: Sequence[Sequence[int]],
        outputs: Sequence[Sequence[int]],
        *,
        like: str = "dragoman",
        length_penalty: float | None = None,
        ended: bool = True,
    ) -> Future[list[Hypothesis]]:
        """Queues given outputs to be scored, for callers with a tokenizer of their own, and returns at once.

        Args:
            ids: as of `submit_ids`.
            outputs: the ids of an output for each, without start and eos.
            like, length_penalty, ended: as of `dragoman.generate.score`.

        Returns:
            A future of a Hypothesis for each.

        Raises:
            TypeError, ValueError: naming the argument, and the place of an id that is none.
            QueueFullError: as many requests wait as `queue_limit` allows.
        """
        name = type(self).__name__
        pack_ids(name, "ids", ids, self.model.config.vocab_size)  # checks them
        pack_ids(name, "outputs", outputs, output_size(self.model))
        if len(outputs) != len(ids):
            raise ValueError(f"{name}: outputs must hold {len(ids)}, one for each of ids, got {len(outputs)}")
        _check_begun(name, ids)
        options = options_of(name, like=like, length_penalty=length_penalty)
        end = end_of(name, self.model, arguments.flag(name, "ended", ended))
        forced = forced_count(self.model, options)
        pairs = [
            (source, [*output, *end], place) for place, (source, output) in enumerate(zip(ids, outputs, strict=True))
        ]
        works = [Work(pair, len(pair[0]) + len(pair[1]), kind=_log_probs) for pair in pairs]
        return self._executor.submit(
            works, lambda found: [scored(ids, each, options, forced) for ids, each in zip(outputs, found, strict=True)]
        )

    def _scores(
        self, ids: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]], options: Mapping[str, Any]
    ) -> list[Hypothesis]:
        """As `submit_scores`, with a caller's options and the folder's. TypeError for one that is none."""
        for option in options:
            if option not in ("like", "length_penalty", "ended"):
                raise TypeError(f"{type(self).__name__}: got an unexpected keyword argument {option!r}")
        known = {name: value for name, value in self._defaults.items() if name in ("like", "length_penalty")}
        return result_of(self.submit_scores(ids, outputs, **with_defaults(known, options)))

    def _queue(self, works: Sequence[Work], finish: Callable[[list[list[Hypothesis]]], Result]) -> Future[Result]:
        return self._executor.submit(works, finish)

    def _requests(self, texts: Sequence[str], options: Mapping[str, Any]) -> list[SearchOptions]:
        """How each text is searched, by the options of a call. TypeError, ValueError naming the option."""
        name = type(self).__name__
        options = self._with_ids(options)
        prefix = options.get("prefix")
        if not (isinstance(prefix, list | tuple) and prefix and isinstance(prefix[0], list | tuple)):
            return [self.search_options(**options)] * len(texts)
        if len(prefix) != len(texts):
            raise ValueError(f"{name}: prefix must hold {len(texts)}, one for each text, got {len(prefix)}")
        chosen = self.search_options(**options | {"prefix": ()})
        return [replace(chosen, prefix=each, op=name) for each in prefix]

    def _with_ids(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return with_ids(type(self).__name__, self.tokenizer.target, options, self._defaults.get("prefix", ()))

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


def _check_begun(name: str, ids: Sequence[Sequence[int]]) -> None:
    for i, each in enumerate(ids):
        if not len(each):
            raise ValueError(f"{name}: ids[{i}] must hold at least one id, got none")


def _log_probs(name: str, model: Any, pairs: Sequence[tuple[Ids, Ids, int]]) -> list[list[float]]:
    """Those of the outputs that are to be scored, for an executor."""
    sources, wanted, places = zip(*pairs, strict=True)
    return log_probs_of(name, [model], sources, wanted, places)


def of_one_output(op: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a call that gives one output. ValueError where more are asked for."""
    count: Any = options.get("count")
    if arguments.is_integer(count) and count > 1:
        raise ValueError(f"{op}: count must be 1 where one output is given, got {count}; `candidates` gives several")
    return {"count": 1, **options}
