"""CTranslate2's Generator over a folder of this package."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman import arguments
from dragoman.generate import Hypothesis, SearchOptions
from dragoman.interop.ctranslate2.adapter import Adapter, score_of
from dragoman.interop.ctranslate2.batches import answered
from dragoman.interop.ctranslate2.options import check_default, check_known
from dragoman.interop.ctranslate2.results import GenerationResult, GenerationStepResult, ScoringResult, Tokens
from dragoman.interop.ctranslate2.watch import Callback, steps_of
from dragoman.models.batch import pack_ids
from dragoman.predict import LanguageModel
from dragoman.predict.call import Work
from dragoman.predict.executor import result_of


class Generator(Adapter):
    """CTranslate2's Generator over a folder of this package. Any number of threads may use it.

    Args:
        model_path: a folder with a model of this package, or with a checkpoint from elsewhere.
        device: "cpu", "cuda" or "auto".
        options: of CTranslate2's constructor, as of Translator.

    Raises:
        OSError: a file is missing.
        TypeError, ValueError: another kind of model; an option that is not supported, naming it.
    """

    kind = LanguageModel

    @property
    def num_generators(self) -> int:
        """1: what all callers ask for is merged."""
        return 1

    def generate_batch(
        self,
        start_tokens: Sequence[Tokens],
        *,
        asynchronous: bool = False,
        beam_size: int = 1,
        num_hypotheses: int = 1,
        length_penalty: float = 1,
        max_length: int = 512,
        min_length: int = 0,
        include_prompt_in_result: bool = True,
        return_scores: bool = False,
        return_end_token: bool = False,
        callback: Callback | None = None,
        **options: Any,
    ) -> list[Any]:
        """Goes on from prompts, each a list of tokens that begins as the model's texts do, with <s>.

        Args:
            start_tokens: prompts.
            max_length, min_length: tokens of a result. Those of the prompt count where it is in the result.
            include_prompt_in_result: whether a result begins with its prompt, without the prompt's first token.
            callback: is called with each token as soon as it is written, in the thread of the model. If it returns
                True, the output ends. It needs `beam_size` 1.
            options: the others of CTranslate2's method.

        Returns:
            A GenerationResult for each prompt; with `asynchronous`, what waits for it at `.result()`. Scores are log
            probabilities of what follows / number of tokens of the result^length_penalty.

        Raises:
            TypeError, ValueError: an option that is not supported, naming it.
        """
        options |= {
            "beam_size": beam_size,
            "num_hypotheses": num_hypotheses,
            "length_penalty": length_penalty,
            "max_length": max_length,
            "min_length": min_length,
        }
        check_default("Generator", "return_attention", options.pop("return_attention", False), False)
        prompts = self._prompts("start_tokens", start_tokens)
        begins = [ids[1 : 1 + max_length] if include_prompt_in_result else [] for ids in prompts]
        # A beam search compares scores, in which the length of the prompt counts: there it is a prefix.
        forced = beam_size > 1 and length_penalty != 0

        def changes(index: int, chosen: SearchOptions) -> dict[str, Any]:
            begin = begins[index]
            if forced:
                return {"prefix": begin}
            lengths = {"max_length": chosen.max_length, "min_length": chosen.min_length}
            return {name: max((length or 0) - len(begin), 0) for name, length in lengths.items()}

        def make(index: int, found: list[Hypothesis]) -> GenerationResult:
            before = [] if forced else begins[index]
            ids = [[*before, *self._with_end(each, return_end_token)] for each in found]
            scores = [score_of(each, length_penalty, prompt=len(before)) for each in found]
            return GenerationResult([self._tokens_of(each) for each in ids], ids, scores if return_scores else [])

        read = [ids[:1] if forced and include_prompt_in_result else ids for ids in prompts]
        return self._search(read, options, changes, make, asynchronous, callback)

    def generate_iterable(
        self, start_tokens: Iterable[Tokens], max_batch_size: int = 32, batch_type: str = "examples", **options: Any
    ) -> Iterator[GenerationResult]:
        """Goes on from what an iterable gives, while it is read; results come in its order. Options and errors as of
        `generate_batch`."""
        streams = {"start_tokens": start_tokens}
        return answered("Generator", self.generate_batch, streams, max_batch_size, batch_type, options)

    def generate_tokens(
        self,
        prompt: Tokens | Sequence[Tokens],
        max_batch_size: int = 0,
        batch_type: str = "examples",
        *,
        return_log_prob: bool = False,
        callback: Callback | None = None,
        **options: Any,
    ) -> Iterator[GenerationStepResult]:
        """The tokens of what follows one prompt or several, as soon as they are written. Options and errors as of
        `generate_batch`."""
        check_default("Generator", "return_log_prob", return_log_prob, False)
        prompts: Any = [prompt] if len(prompt) and isinstance(prompt[0], str) else prompt
        return steps_of(
            lambda tell: self.generate_batch(
                prompts, asynchronous=True, callback=tell, include_prompt_in_result=False, **options
            ),
            callback,
        )

    async def async_generate_tokens(
        self, prompt: Tokens | Sequence[Tokens], **options: Any
    ) -> AsyncIterator[GenerationStepResult]:
        """As `generate_tokens`, for `async for`."""
        import asyncio  # here, because it takes long to import

        steps = self.generate_tokens(prompt, **options)
        while (step := await asyncio.to_thread(next, steps, None)) is not None:
            yield step

    def score_batch(
        self,
        tokens: Sequence[Tokens],
        *,
        max_input_length: int = 1024,
        asynchronous: bool = False,
        **options: Any,
    ) -> list[Any]:
        """The log probabilities of the tokens of texts, but for the first, <s>, which has none.

        Returns:
            A ScoringResult for each; with `asynchronous`, what waits for it at `.result()`.

        Raises:
            TypeError, ValueError: an option that is not supported, naming it.
        """
        for option in ("max_batch_size", "batch_type"):
            options.pop(option, None)
        check_known("Generator", options)
        texts = [ids[: max_input_length or None] for ids in self._prompts("tokens", tokens)]
        return self._scores([ids[:1] for ids in texts], [ids[1:] for ids in texts], False, asynchronous)

    def score_iterable(
        self, tokens: Iterable[Tokens], max_batch_size: int = 64, batch_type: str = "examples", **options: Any
    ) -> Iterator[ScoringResult]:
        """As `score_batch`, for what an iterable gives, while it is read."""
        return answered("Generator", self.score_batch, {"tokens": tokens}, max_batch_size, batch_type, options)

    def forward_batch(
        self,
        inputs: Sequence[Tokens] | Sequence[Sequence[int]] | npt.NDArray[np.integer[Any]],
        lengths: npt.NDArray[np.integer[Any]] | None = None,
        *,
        return_log_probs: bool = False,
    ) -> npt.NDArray[np.float32]:
        """The logits of the token after each token of texts, or their log probabilities.

        Args:
            inputs: tokens, or ids; also as an array (texts, tokens of the longest text).
            lengths: (texts,), number of tokens of each row of an array.

        Returns:
            float32 (texts, tokens of the longest text, vocabulary), where CTranslate2 gives a StorageView; rows after
            the end of a text are 0.
        """
        if isinstance(inputs, np.ndarray):
            if lengths is None or len(lengths) != len(inputs):
                raise ValueError(f"Generator: lengths must hold a length for each of {len(inputs)} rows")
            inputs = [row[:length].tolist() for row, length in zip(inputs, lengths, strict=True)]
        if not isinstance(inputs, Sequence) or isinstance(inputs, str):
            raise TypeError(f"Generator: inputs must be a list of texts, got {arguments.described(inputs)}")
        texts: Any = inputs
        if any(isinstance(token, str) for text in inputs for token in text):
            texts = self._prompts("inputs", inputs)
        pack_ids("Generator", "inputs", texts, self._served.model.config.vocab_size)  # checks them
        found = result_of(self._served._executor.submit([Work(ids, len(ids), kind=_logits) for ids in texts], list))
        result = np.zeros((len(found), max(map(len, found), default=0), found[0].shape[1] if found else 0), np.float32)
        for row, logits in zip(result, found, strict=True):
            row[: len(logits)] = logits - _logsumexp(logits) if return_log_probs else logits
        return result

    def _prompts(self, option: str, batch: Any) -> list[list[int]]:
        prompts = self._batch_of(option, batch)
        for i, ids in enumerate(prompts):
            if not ids:
                raise ValueError(f"Generator: {option}[{i}] must hold at least one token, such as <s>, got none")
        return prompts


def _logits(name: str, model: Any, batch: list[list[int]]) -> list[npt.NDArray[np.float32]]:
    """The logits of each text, (tokens, vocabulary), for an executor."""
    logits = model.logits(batch)
    return np.split(logits, np.cumsum([len(ids) for ids in batch])[:-1])


def _logsumexp(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    maximum = logits.max(axis=-1, keepdims=True)
    total: npt.NDArray[np.float32] = maximum + np.log(np.exp(logits - maximum).sum(axis=-1, keepdims=True))
    return total
