"""Adapter: what CTranslate2's Translator and Generator have in common, a predictor and the names of its tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from dragoman import arguments, cuda
from dragoman.data.tokenizer import Tokenizer
from dragoman.generate import Hypothesis, SearchOptions
from dragoman.interop.ctranslate2.options import check_default, check_known, places, search_options
from dragoman.interop.ctranslate2.results import AsyncResult, ScoringResult, Tokens, collected
from dragoman.interop.ctranslate2.watch import Callback, Watch
from dragoman.models.special_ids import end_ids
from dragoman.predict import predictor_class
from dragoman.predict.executor import result_of
from dragoman.predict.generating import GeneratingPredictor, work_of
from dragoman.runtime import set_num_threads

COMPUTE_TYPES = {
    "default": "default",
    "auto": "default",
    "float32": "float32",
    "bfloat16": "bfloat16",
    "int8": "int8",
    "int8_float32": "int8",
    "int8_bfloat16": "int8",
}


class Adapter:
    """Base of both, with their arguments: see Translator."""

    kind: ClassVar[type[Any]]  # of the predictor

    def __init__(self, model_path: str, device: str = "cpu", **options: Any) -> None:
        name = type(self).__name__
        arguments.choice(name, "device", device, ("cpu", "cuda", "auto"))
        compute_type = options.pop("compute_type", "default")
        arguments.choice(name, "compute_type", compute_type, tuple(COMPUTE_TYPES))
        inter, intra = options.pop("inter_threads", 1), options.pop("intra_threads", 0)
        if intra:
            set_num_threads(arguments.integer(name, "inter_threads", inter, 1) * intra)
        for option, default in {"flash_attention": False, "tensor_parallel": False, "files": None}.items():
            check_default(name, option, options.pop(option, default), default)
        for option in ("device_index", "max_queued_batches"):  # without effect
            options.pop(option, None)
        check_known(name, options)
        self._path = model_path
        self._device = ("cuda" if cuda.is_available() else "cpu") if device == "auto" else device
        self._compute_type = COMPUTE_TYPES[compute_type]
        self._loaded: GeneratingPredictor | None = None
        self.load_model()

    def load_model(self, keep_cache: bool = False) -> None:
        """Reads the model again after `unload_model`."""
        if self._loaded is None:
            self._loaded = self.kind.load(self._path, self._device, self._compute_type)
            tokenizer = self._served.tokenizer
            self._source_ids = _ids_by_name(tokenizer)
            self._target_ids = _ids_by_name(tokenizer.target)
            self._names = {id: token for token, id in self._target_ids.items()}
            self._unknown = tokenizer.unk_id
            self._end = end_ids(self._served.model.config)[0]

    def unload_model(self, to_cpu: bool = False) -> None:
        """Waits for what runs and gives the model's memory back."""
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None

    @property
    def model_is_loaded(self) -> bool:
        """Whether the model can be used."""
        return self._loaded is not None

    @property
    def device(self) -> str:
        """Where the model computes."""
        return self._device

    @property
    def device_index(self) -> list[int]:
        """[0]"""
        return [0]

    @property
    def compute_type(self) -> str:
        """ "int8", "bfloat16" or "float32"; "default" for a model as it was saved."""
        return self._compute_type

    @property
    def tensor_parallel(self) -> bool:
        """False."""
        return False

    @property
    def num_queued_batches(self) -> int:
        """Number of requests that wait."""
        return int(self._served.waiting)

    @property
    def num_active_batches(self) -> int:
        """Number of requests that wait, and 1 for those that run."""
        return int(self._served.waiting + self._served._executor.busy)

    @property
    def _served(self) -> Any:
        if self._loaded is None:
            raise RuntimeError(f"{type(self).__name__}: the model is not loaded")
        return self._loaded

    def _search(
        self,
        batch: Sequence[list[int]],
        options: dict[str, Any],
        changes: Callable[[int, SearchOptions], dict[str, Any]],
        make: Callable[[int, list[Hypothesis]], Any],
        asynchronous: bool,
        callback: Callback | None,
    ) -> list[Any]:
        """The results of a batch of requests, or with `asynchronous` an AsyncResult for each.

        Args:
            changes: gives the options in which the request at an index differs from `options`.
            make: makes the result at an index from the hypotheses.
        """
        chosen = search_options(type(self).__name__, options, self._ids_of, self._unknown)
        each = [replace(chosen, **changes(index, chosen)) for index in range(len(batch))]
        numbers = places(len(batch))
        if callback is None:
            return _results(self._served.submit_ids(batch, each, numbers), len(batch), make, asynchronous)
        name = type(self).__name__
        arguments.check_callable(name, callback=callback)
        if chosen.beam > 1 or chosen.count not in (None, 1):
            raise ValueError(f"{name}: callback needs beam_size and num_hypotheses to be 1")
        watched = [
            self._watched(ids, one, place, Watch(callback, index, self._names, self._end), partial(make, index))
            for index, (ids, one, place) in enumerate(zip(batch, each, numbers, strict=True))
        ]
        return collected(watched, asynchronous)

    def _watched(
        self,
        ids: list[int],
        options: SearchOptions,
        place: int,
        watch: Watch,
        make: Callable[[list[Hypothesis]], Any],
    ) -> AsyncResult:
        """The result of a request with a callback."""
        future = watch.follow(self._served._queue([work_of(ids, options, place, watch)], watch.finish))
        return AsyncResult(future, lambda: make(watch.hypotheses(partial(self._scored, ids, options))))

    def _scored(self, ids: list[int], options: SearchOptions, output: list[int]) -> Hypothesis:
        """An output that was ended by a callback, with its score."""
        found = self._served.submit_scores(
            [ids], [output], like=options.like, length_penalty=options.length_penalty, ended=False
        )
        return found.result()[0]  # type: ignore[no-any-return]

    def _scores(
        self, batch: Sequence[list[int]], outputs: Sequence[list[int]], ended: bool, asynchronous: bool, offset: int = 0
    ) -> list[Any]:
        """A ScoringResult for each output, without its first `offset` tokens; or an AsyncResult for each."""
        future = self._served.submit_scores(batch, outputs, ended=ended)
        names = [self._tokens_of([*ids, self._end] if ended else ids) for ids in outputs]

        def make(index: int, found: Hypothesis) -> ScoringResult:
            return ScoringResult(names[index][offset:], list(found.token_logprobs[offset:]))

        return _results(future, len(batch), make, asynchronous)

    def _batch_of(self, option: str, batch: Any, source: bool = False) -> list[list[int]]:
        """The ids of a batch of tokens, of sources or of targets. TypeError for anything else."""
        name = type(self).__name__
        if isinstance(batch, str) or not isinstance(batch, Sequence):
            raise TypeError(f"{name}: {option} must be a list of lists of tokens, got {arguments.described(batch)}")
        return [self._ids_of(tokens, source) for tokens in batch]

    def _ids_of(self, tokens: Sequence[str], source: bool = False) -> list[int]:
        name = type(self).__name__
        if isinstance(tokens, str) or not isinstance(tokens, Sequence):
            raise TypeError(f"{name}: a text must be a list of tokens, got {arguments.described(tokens)}")
        for token in tokens:
            if not isinstance(token, str):
                raise TypeError(f"{name}: a token must be a str, got {arguments.described(token)}")
        ids = self._source_ids if source else self._target_ids
        return [ids.get(token, self._unknown) for token in tokens]

    def _tokens_of(self, ids: Sequence[int]) -> Tokens:
        return [self._names[id] for id in ids if id in self._names]

    def _with_end(self, found: Hypothesis, wanted: bool) -> list[int]:
        """The ids of an output, with eos where it is wanted and the output ended in it."""
        return [*found.ids, self._end] if wanted and found.length > len(found.ids) else found.ids


def _ids_by_name(tokenizer: Tokenizer) -> dict[str, int]:
    return {token: id for id, token in enumerate(tokenizer.tokens(range(tokenizer.vocab_size)))}


def score_of(found: Hypothesis, length_penalty: float, prefix: int = 0, prompt: int = 0) -> float:
    """The score of an output as CTranslate2 defines it. The output begins with `prefix` tokens of a prefix, whose log
    probabilities do not count. Its length includes `prompt` tokens before it."""
    length = found.length + prompt
    return (found.sum_logprob - sum(found.token_logprobs[:prefix])) / length**length_penalty if length else 0.0


def _results(future: Future[list[Any]], count: int, make: Callable[[int, Any], Any], asynchronous: bool) -> list[Any]:
    """What `make` makes of the index and the value of each of a future's results; or an AsyncResult for each."""

    def result(index: int) -> Any:
        return make(index, result_of(future)[index])

    return collected([AsyncResult(future, partial(result, index)) for index in range(count)], asynchronous)


def contains_model(path: str) -> bool:
    """Whether Translator or Generator can load a folder."""
    try:
        return issubclass(predictor_class(path), GeneratingPredictor)
    except (OSError, ValueError):
        return False


def get_supported_compute_types(device: str, device_index: int = 0) -> set[str]:
    """The compute types that a device has."""
    arguments.choice("get_supported_compute_types", "device", device, ("cpu", "cuda"))
    return {name for name, kind in COMPUTE_TYPES.items() if kind != "default" and (kind != "int8" or device == "cpu")}


def get_cuda_device_count() -> int:
    """1 where tensors can go to "cuda", else 0."""
    return int(cuda.is_available())
