"""Transcriber: sound in, text out, by a model of speech."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from itertools import chain
from pathlib import Path
from typing import Any, overload

import numpy as np

from dragoman import arguments
from dragoman.data.audio import Samples, check_samples, cut_pieces
from dragoman.data.log_mel import HOP, SAMPLE_RATE, log_mel
from dragoman.data.tokenizer import Tokenizer, with_token
from dragoman.generate import Hypothesis, SearchOptions
from dragoman.generate.search import options_of
from dragoman.json_file import read_object
from dragoman.models.folder import read_config
from dragoman.models.speech import SpeechTransformer
from dragoman.predict.call import Work
from dragoman.predict.defaults import with_defaults
from dragoman.predict.executor import Executor, result_of
from dragoman.predict.generation_executor import GenerationExecutor
from dragoman.predict.loading import load_with_tokenizer
from dragoman.predict.predictor import Predictor
from dragoman.predict.speech_prompt import SpeechPrompts

GENERATION = "generation_config.json"


class Transcriber(Predictor):
    """Writes what is said in a sound, by a model like Whisper (Radford et al. 2022, arXiv:2212.04356). Made by
    `Transcriber.load`.

    A sound is a NumPy array, float32 (samples,), from -1 to 1, of one channel at 16 kHz. Any number of threads may call
    it or `submit`: what waits is decoded side by side.

    Args:
        model: the model.
        tokenizer: the one that the model was trained with.
        generation: what generation_config.json holds: the ids of languages and tasks, and tokens that a search never
            chooses. None for that of the tokenizer's folder.
        queue_limit, batch_tokens: as of `Predictor`; the tokens of a sound are the encoder's rows, 1500 for each piece
            of 30 seconds in Whisper.

    Raises:
        TypeError: another kind of model or tokenizer.
        ValueError: a field of `generation` that does not fit the model.
    """

    batch_tokens = 12_000

    def __init__(
        self,
        model: SpeechTransformer,
        tokenizer: Tokenizer,
        generation: Mapping[str, Any] | None = None,
        *,
        queue_limit: int | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        arguments.check_types("Transcriber", SpeechTransformer, model=model)
        arguments.check_types("Transcriber", Tokenizer, tokenizer=tokenizer)
        if generation is not None:
            arguments.check_types("Transcriber", Mapping, generation=generation)
        self.model = model
        self.tokenizer = tokenizer
        own = tokenizer.generation_config() if generation is None else generation
        self._prompts = SpeechPrompts.of(model.config, own)
        self._defaults = tokenizer.search_options(model.config) if generation is None else _default_options(own)
        self._options({})  # so that what a folder asks for is checked now
        super().__init__(model, tokenizer, generation, queue_limit=queue_limit, batch_tokens=batch_tokens)

    @property
    def languages(self) -> list[str]:
        """The codes of the languages that the model knows; none for a model of one language."""
        return [*self._prompts.languages]

    @classmethod
    def load(
        cls, folder: str | Path, device: str = "cpu", compute_type: str = "default", **limits: int | None
    ) -> Transcriber:
        """Reads a folder with a model of speech and its tokenizer: Whisper as it is published, or what `Model.save`
        wrote, with tokenizer.json and, for prompts and defaults, generation_config.json beside it.

        Args:
            folder: of the model.
            device: where the model computes, "cpu" or "cuda".
            compute_type: "int8", "bfloat16" or "float32" for weights frozen in it (`Model.freeze`), "default" for the
                model as it was saved.
            limits: `queue_limit` and `batch_tokens` of the constructor.

        Raises:
            OSError: a file is missing.
            TypeError: the folder holds another kind of model.
            ValueError: a file that cannot be used, naming it; a device that is not there; a compute type that does not
                fit.
        """
        arguments.check_path("Transcriber", "folder", folder)
        model_class, _ = read_config(Path(folder))
        if not issubclass(model_class, SpeechTransformer):
            raise TypeError(f"Transcriber: model must be a SpeechTransformer, got {model_class.__name__}")
        model, tokenizer = load_with_tokenizer("Transcriber", folder, device, compute_type)
        path = Path(folder) / GENERATION
        generation = read_object(path) if type(tokenizer) is Tokenizer and path.exists() else None
        try:
            return cls(model, tokenizer, generation, **limits)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    @overload
    def __call__(
        self,
        audio: Samples,
        language: str | None = None,
        task: str = "transcribe",
        *,
        sample_rate: int = SAMPLE_RATE,
        **options: Any,
    ) -> str: ...

    @overload
    def __call__(
        self,
        audio: list[Samples],
        language: str | None = None,
        task: str = "transcribe",
        *,
        sample_rate: int = SAMPLE_RATE,
        **options: Any,
    ) -> list[str]: ...

    def __call__(
        self,
        audio: Samples | list[Samples],
        language: str | None = None,
        task: str = "transcribe",
        *,
        sample_rate: int = SAMPLE_RATE,
        **options: Any,
    ) -> str | list[str]:
        """The text of a sound, or of each of several.

        A sound longer than the model reads, 30 seconds in Whisper, is cut into pieces. Each is as long as possible but
        ends where the sound is quietest in its last 5 seconds. Pieces are transcribed one by one, and their texts are
        joined with a space. A sound without samples becomes "".

        Args:
            audio: float32 (samples,), or a list of such arrays.
            language: the code of what is spoken, one of `languages`. None for the most probable one of each piece, and
                for a model of one language.
            task: "transcribe", or "translate" for a text in English, where the model knows it.
            sample_rate: of the sounds. Models read 16,000 samples a second, so any other is refused.
            options: of SearchOptions, by their names, as `beam`. The defaults are those of generation_config.json, and
                greedy search.

        Raises:
            TypeError, ValueError: a sound of another type, rate or shape, or with a value that is not finite, naming
                its place; a language or a task that the model does not know; an option.
            FloatingPointError: the model's logits are not finite.
        """
        one = isinstance(audio, np.ndarray)
        sounds: Any = [audio] if one else audio
        if not isinstance(sounds, list | tuple):
            raise TypeError(f"Transcriber: audio must be a float32 array or a list of them, got {type(audio).__name__}")
        names = ["audio"] if one else [f"audio[{i}]" for i in range(len(sounds))]
        found: str | list[str] = result_of(self._submit(sounds, names, language, task, sample_rate, options, one))
        return found

    def submit(
        self,
        audio: Samples,
        language: str | None = None,
        task: str = "transcribe",
        *,
        sample_rate: int = SAMPLE_RATE,
        **options: Any,
    ) -> Future[str]:
        """Queues a sound, with the arguments of a call, and returns at once; `.result()` waits for the text.

        `.cancel()` ends it while it waits and while it runs.

        Raises:
            TypeError, ValueError: naming the argument, at once.
            QueueFullError: as many pieces wait as `queue_limit` allows.
        """
        return self._submit([audio], ["audio"], language, task, sample_rate, options, True)

    def prompt(self, language: str | None = None, task: str = "transcribe") -> list[int]:
        """The ids that the decoder reads before a text: to learn from a text, a target is these without the first, and
        the text's ids. ValueError where the language must be given, or is not known."""
        ids = self._prompts.ids("Transcriber", language, task)
        if ids is None:
            raise ValueError(f"Transcriber: language must be one of {', '.join(self.languages)}, got None")
        return [*ids]

    def _submit(
        self,
        sounds: Sequence[Samples],
        names: Sequence[str],
        language: str | None,
        task: str,
        sample_rate: int,
        options: Mapping[str, Any],
        one: bool,
    ) -> Future[Any]:
        """Queues the pieces of all sounds. The future's result is the text of each, or of the only one."""
        rate = arguments.integer("Transcriber", "sample_rate", sample_rate, 1)
        if rate != SAMPLE_RATE:
            raise ValueError(f"Transcriber: sample_rate must be {SAMPLE_RATE}, got {rate}; resample the sound")
        checked = [check_samples("Transcriber", name, each) for name, each in zip(names, sounds, strict=True)]
        chosen = self._options(options)
        start = self._prompts.finder("Transcriber", self.model, language, task)
        config = self.model.config
        frames = 2 * config.encoder_side.max_length
        pieces = [cut_pieces(sound, frames * HOP) for sound in checked]
        works = [
            Work(
                (log_mel(piece, config.mel_bins, frames), chosen, place, start),
                frames // 2,
                rows=max(chosen.beam, chosen.outputs),
            )
            for place, piece in enumerate(chain.from_iterable(pieces))
        ]

        def texts(found: list[list[Hypothesis]]) -> Any:
            each = iter(found)
            joined = [" ".join(filter(None, (self._text(next(each)) for _ in own))) for own in pieces]
            return joined[0] if one else joined

        return self._executor.submit(works, texts)

    def _options(self, options: Mapping[str, Any]) -> SearchOptions:
        """What a call searches with. Without a limit, a text may be as long as the model's positions."""
        defaults = {name: value for name, value in self._defaults.items() if name != "max_length"}
        return options_of("Transcriber", **with_defaults(defaults, {"count": 1, **options}))

    def _text(self, found: Sequence[Hypothesis]) -> str:
        return self.tokenizer.decode(with_token(found[0].ids, self.tokenizer)).strip()

    def _make_executor(self, name: str, batch_tokens: int, queue_limit: int | None) -> Executor:
        return GenerationExecutor(self.model, name, batch_tokens, queue_limit)


def _default_options(generation: Mapping[str, Any]) -> dict[str, Any]:
    """What a search does where a caller says nothing."""
    names = {"suppress_tokens": "suppress", "begin_suppress_tokens": "begin_suppress"}
    return {ours: generation[theirs] for theirs, ours in names.items() if generation.get(theirs)}
