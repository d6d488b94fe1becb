"""LanguageModel: goes on from a text."""

from __future__ import annotations

from concurrent.futures import Future
from functools import partial
from typing import Any, overload

from dragoman import arguments
from dragoman.data.texts import check_text
from dragoman.data.tokenizer import BOS, with_token
from dragoman.generate.sampling import check_draws, sample
from dragoman.generate.search import Hypothesis, generate
from dragoman.models.decoder import TextDecoder
from dragoman.predict.batch_executor import BatchExecutor
from dragoman.predict.call import Work
from dragoman.predict.executor import Executor
from dragoman.predict.text_predictor import TextPredictor, checked_texts

LONGEST = 10_000  # tokens of a text; time and memory grow with the square


class LanguageModel(TextPredictor):
    """Goes on from texts with a trained decoder-only model. Made by `LanguageModel.load`.

    Any number of threads may call it or `submit`: what waits is merged into batches.

    Args:
        model: the model.
        tokenizer: the one that the model was trained with.
        queue_limit, batch_tokens: as of `Predictor`.

    Raises:
        TypeError: another kind of model or tokenizer.
        ValueError: the tokenizer has more tokens than the model.
    """

    kind = TextDecoder
    batch_tokens = 2048

    @overload
    def __call__(
        self,
        text: str,
        *,
        max_length: int | None = None,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        seed: int = 0,
        place: int = 0,
    ) -> str: ...

    @overload
    def __call__(
        self,
        text: list[str],
        *,
        max_length: int | None = None,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        seed: int = 0,
        place: int = 0,
    ) -> list[str]: ...

    def __call__(
        self,
        text: str | list[str],
        *,
        max_length: int | None = None,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        seed: int = 0,
        place: int = 0,
    ) -> str | list[str]:
        """What follows a text, or each of several, without the text itself.

        What follows a text does not depend on the texts beside it; what is drawn depends on its place among them.

        Args:
            text: one text or several; "" for one from the beginning.
            max_length: maximum number of tokens of what follows; by default what the config's `max_length` leaves.
            temperature: 0 for the most probable token at each place, else as of `dragoman.generate.sample`.
            top_k, top_p, seed: of `sample`, where the temperature is above 0.
            place: of the first text, where the texts go on a longer list: they draw what they would draw in it.

        Returns:
            A str for a str, else a list in the order of the texts.

        Raises:
            TypeError, ValueError: naming the argument, and the index of a text that is none, or is longer than the
                config's `max_length`; with `max_length` given, and positions that are not learned, than 10,000 tokens.
        """
        texts = checked_texts("LanguageModel", text)
        draws = _checked_draws(max_length, temperature, top_k, top_p, seed, place)
        works = self._works(texts, draws, place)
        found = self._executor.run(works)
        outputs = [self._written(*each) for each in zip(works, found, strict=True)]
        return outputs[0] if isinstance(text, str) else outputs

    def submit(
        self,
        text: str,
        *,
        max_length: int | None = None,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> Future[str]:
        """Queues a text, with the options of a call, and returns at once; `.result()` waits for what follows.
        TypeError, ValueError at once."""
        check_text("LanguageModel", "text", text)
        works = self._works([text], _checked_draws(max_length, temperature, top_k, top_p, seed, 0), 0)
        return self._executor.submit(works, lambda found: self._written(works[0], found[0]))

    def _works(self, texts: list[str], draws: dict[str, Any], place: int) -> list[Work]:
        """What is to be gone on from. ValueError for a text that is too long."""
        config = self.model.config
        room = config.max_length if draws["max_length"] is None or config.positions == "learned" else LONGEST
        works = []
        for i, ids in enumerate(self.tokenizer.encode_batch(texts)):
            if len(ids) >= room:
                raise ValueError(f"LanguageModel: text[{i}] must have at most {room - 1:,} tokens, got {len(ids):,}")
            works.append(Work(([BOS, *ids], draws, place + i), len(ids) + 1, tuple(draws.items())))
        return works

    def _written(self, work: Work, hypothesis: Hypothesis) -> str:
        """What follows a text. It is decoded with the text: a token may begin with the space before its word."""
        prompt = work.value[0]
        whole = self.tokenizer.decode([*prompt, *with_token(hypothesis.ids, self.tokenizer)])
        return whole[len(self.tokenizer.decode(prompt)) :]

    def _make_executor(self, name: str, batch_tokens: int, queue_limit: int | None) -> Executor:
        return BatchExecutor(partial(_answer, self.model), name, batch_tokens, queue_limit)


def _answer(model: TextDecoder, values: list[Any]) -> list[Hypothesis]:
    prompts, draws = [prompt for prompt, _, _ in values], values[0][1]
    if draws["temperature"]:
        return sample(model, prompts, **draws, places=[place for _, _, place in values])
    return [best[0] for best in generate(model, prompts, max_length=draws["max_length"])]


def _checked_draws(
    max_length: int | None, temperature: float, top_k: int | None, top_p: float, seed: int, place: int
) -> dict[str, Any]:
    """The options of `sample`. TypeError, ValueError for bad ones, and where they would not count."""
    op = "LanguageModel"
    temperature = arguments.number(op, "temperature", temperature, 0.0)
    arguments.integer(op, "place", place)
    max_length, _, top_k, top_p, seed = check_draws(op, max_length, temperature or 1.0, top_k, top_p, seed)
    if not temperature and (top_k is not None or top_p < 1):
        name = "top_p" if top_k is None else "top_k"
        raise ValueError(f"{op}: {name} needs a temperature above 0, got {temperature:g}")
    return {"max_length": max_length, "temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
