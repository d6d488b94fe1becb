"""Translator: text in, text out, from a folder that training wrote."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, overload

from dragoman import arguments
from dragoman.data.pairs import cut_source, source_ids
from dragoman.data.texts import check_text, is_blank
from dragoman.data.tokenizer import with_token
from dragoman.generate.search import Hypothesis, check_options, generate
from dragoman.models.encoder_decoder import EncoderDecoder
from dragoman.predict.batch_executor import BatchExecutor
from dragoman.predict.call import Work
from dragoman.predict.executor import Executor
from dragoman.predict.loading import load_with_tokenizer
from dragoman.predict.text_predictor import TextPredictor, checked_texts

LONGEST = 10_000  # tokens of a source; time and memory grow with the square


@dataclass(frozen=True)
class Candidate:
    """One translation of a text.

    Attributes:
        text: the translation.
        score: log probability / length penalty; 0 for a text without anything to translate.
    """

    text: str
    score: float


class Translator(TextPredictor):
    """Translates texts with a trained model. Made by `Translator.load`.

    Any number of threads may call it or `submit`: what waits is merged into batches. It works in a forked child too,
    whatever runs at the fork; only the futures of the parent stay the parent's.

    Args:
        model: the model.
        tokenizer: the one that the model was trained with.
        queue_limit, batch_tokens: as of `Predictor`; the tokens are those of sources.

    Raises:
        TypeError: another kind of model or tokenizer.
        ValueError: the tokenizer has more tokens than the model.
    """

    kind = EncoderDecoder
    batch_tokens = 2048

    @classmethod
    def load(
        cls, folder: str | Path, device: str = "cpu", compute_type: str = "default", **limits: int | None
    ) -> Translator:
        """Reads model.safetensors, config.json and tokenizer.json.

        Args:
            folder: written by `Trainer` or `dragoman train`.
            device: where the model computes, "cpu" or "cuda".
            compute_type: "int8", "bfloat16" or "float32" for weights frozen in it (`Model.freeze`): less memory, and
                with "int8" and "bfloat16" faster. "default" for the model as it was saved.
            limits: `queue_limit` and `batch_tokens` of the constructor.

        Raises:
            OSError: a file is missing.
            ValueError: a file that cannot be used, naming it; a device that is not there; a compute type that is none,
                or that does not fit the device or a frozen folder.
        """
        model, tokenizer = load_with_tokenizer("Translator", folder, device, compute_type)
        return cls(model, tokenizer, **limits)

    @overload
    def __call__(self, text: str, beam: int = 5, length_penalty: float = 0.6, max_length: int | None = None) -> str: ...

    @overload
    def __call__(
        self, text: list[str], beam: int = 5, length_penalty: float = 0.6, max_length: int | None = None
    ) -> list[str]: ...

    def __call__(
        self,
        text: str | list[str],
        beam: int = 5,
        length_penalty: float = 0.6,
        max_length: int | None = None,
    ) -> str | list[str]:
        """Translates a text, or each of several.

        Texts are translated in batches of similar length; a translation does not depend on the texts beside
        it. A text longer than the config's `max_source_length` is cut. One longer than its learned positions, or
        without them than 10,000 tokens, is refused. One without a visible character (empty, of spaces, of zero-width
        spaces) becomes "".

        Args:
            text: one text or several.
            beam: hypotheses followed side by side, at most 1000; 1 is greedy search.
            length_penalty: exponent that favours longer translations (Wu et al. 2016), in [0, 10].
            max_length: maximum number of tokens of a translation. None for twice the source's plus 10.

        Returns:
            A str for a str, else a list in the order of the texts.

        Raises:
            TypeError, ValueError: naming the argument, and the index of a text that is none.
            FloatingPointError: the model's logits are not finite.
        """
        found = self._search(text, beam, length_penalty, max_length, 1)
        best = [candidates[0].text for candidates in found]
        return best[0] if isinstance(text, str) else best

    @overload
    def candidates(
        self,
        text: str,
        beam: int = 5,
        length_penalty: float = 0.6,
        max_length: int | None = None,
        count: int | None = None,
    ) -> list[Candidate]: ...

    @overload
    def candidates(
        self,
        text: list[str],
        beam: int = 5,
        length_penalty: float = 0.6,
        max_length: int | None = None,
        count: int | None = None,
    ) -> list[list[Candidate]]: ...

    def candidates(
        self,
        text: str | list[str],
        beam: int = 5,
        length_penalty: float = 0.6,
        max_length: int | None = None,
        count: int | None = None,
    ) -> list[Candidate] | list[list[Candidate]]:
        """The translations that a search ends with, and their scores.

        The first candidate is the result of a call. The other arguments and the errors are those of a call.

        Args:
            count: how many of each text at most. None for all, which are at most `beam`.

        Returns:
            For each text 1 to `count` candidates, the best first; those cut at max_length come after finished ones.
        """
        count = beam if count is None else arguments.integer("Translator", "count", count, 1)
        found = self._search(text, beam, length_penalty, max_length, count)
        return found[0] if isinstance(text, str) else found

    def submit(
        self, text: str, beam: int = 5, length_penalty: float = 0.6, max_length: int | None = None
    ) -> Future[str]:
        """Queues a text, with the arguments of a call, and returns at once; `.result()` waits for the translation.

        Raises:
            TypeError, ValueError: naming the argument, at once.
        """
        check_text("Translator", "text", text)
        works = self._works([text], check_options("Translator", beam, length_penalty, max_length))
        return self._executor.submit([*works.values()], lambda found: self._candidates(found, 1)[0].text)

    def _search(
        self, text: str | list[str], beam: int, length_penalty: float, max_length: int | None, count: int
    ) -> list[list[Candidate]]:
        """The best `count` candidates of each text, or of the only one."""
        texts = checked_texts("Translator", text)
        works = self._works(texts, check_options("Translator", beam, length_penalty, max_length))
        found = dict(zip(works, self._executor.run([*works.values()]), strict=True))
        return [self._candidates([found[i]] if i in found else [], count) for i in range(len(texts))]

    def _works(self, texts: list[str], options: tuple[int, float, int | None]) -> dict[int, Work]:
        """What is to be searched, by the index of its text: of the texts that have something to translate.

        ValueError for a text that is too long.
        """
        config = self.model.config
        maximum = getattr(config, "max_source_length", None)
        side = getattr(config, "encoder_side", config)
        longest = side.max_length if getattr(side, "positions", None) == "learned" else maximum or LONGEST
        works = {}
        for i, ids in enumerate(source_ids(self.tokenizer, texts)):
            source = cut_source(ids, maximum)
            if is_blank(texts[i]) or len(source) < 2:
                continue
            if len(source) > longest:
                raise ValueError(
                    f"Translator: text[{i}] must have at most {longest:,} tokens, got {len(source):,}; "
                    "translate its sentences one by one"
                )
            works[i] = Work((source, options), len(source), options, options[0])
        return works

    def _candidates(self, found: list[list[Hypothesis]], count: int) -> list[Candidate]:
        """The best `count` of the hypotheses of a text; of a text without anything to translate, one that is empty."""
        tokenizer = self.tokenizer
        return [
            Candidate(tokenizer.decode(with_token(h.ids, tokenizer)), h.score) for each in found for h in each[:count]
        ] or [Candidate("", 0.0)]

    def _make_executor(self, name: str, batch_tokens: int, queue_limit: int | None) -> Executor:
        return BatchExecutor(partial(_answer, self.model), name, batch_tokens, queue_limit)


def _answer(model: EncoderDecoder, values: list[Any]) -> list[list[Hypothesis]]:
    beam, length_penalty, max_length = values[0][1]
    sources = [source for source, _ in values]
    return generate(model, sources, beam=beam, length_penalty=length_penalty, max_length=max_length)
