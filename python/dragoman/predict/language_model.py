"""LanguageModel: goes on from a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from itertools import takewhile
from typing import Any, overload

from dragoman import arguments
from dragoman.data.framing import prompts
from dragoman.data.texts import check_text
from dragoman.data.tokenizer import with_token
from dragoman.generate import Hypothesis, SearchOptions
from dragoman.models.decoder import TextDecoder
from dragoman.predict.call import Work
from dragoman.predict.candidate import Candidate, candidate_of
from dragoman.predict.executor import result_of
from dragoman.predict.generating import GeneratingPredictor, of_one_output, work_of
from dragoman.predict.stream import Progress, TextStream
from dragoman.predict.text_predictor import check_text_pairs, checked_texts

LONGEST = 10_000  # tokens of a text; time and memory grow with the square


class LanguageModel(GeneratingPredictor):
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

    @overload
    def __call__(
        self,
        text: str,
        *,
        max_length: int | None = None,
        temperature: float | None = None,
        place: int = 0,
        **options: Any,
    ) -> str: ...

    @overload
    def __call__(
        self,
        text: list[str],
        *,
        max_length: int | None = None,
        temperature: float | None = None,
        place: int = 0,
        **options: Any,
    ) -> list[str]: ...

    def __call__(
        self,
        text: str | list[str],
        *,
        max_length: int | None = None,
        temperature: float | None = None,
        place: int = 0,
        **options: Any,
    ) -> str | list[str]:
        """What follows a text, or each of several, without the text itself.

        What follows a text does not depend on the texts beside it; what is drawn depends on its place among them.

        Args:
            text: one text or several; "" for one from the beginning.
            max_length: maximum number of tokens of what follows; by default what the config's `max_length` leaves.
            temperature: 0 for a search, of the most probable token at each place where `beam` is 1; above 0 tokens are
                drawn. None for 0, or for what a folder from elsewhere asks for, as of other options.
            place: of the first text, where the texts go on a longer list: they draw what they would draw in it.
            options: others of `dragoman.generate.SearchOptions`, by their names. `prefix` may be a text too, or a list
                with a text for each of several; `constraints` may hold texts, and so may `suppress`.

        Returns:
            A str for a str, else a list in the order of the texts.

        Raises:
            TypeError, ValueError: naming the argument, and the index of a text that is none, or is longer than the
                config's `max_length`; with `max_length` given, and positions that are not learned, than 10,000 tokens;
                `count` above 1.
            FloatingPointError: the model's logits are not finite.
            QueueFullError: as many texts wait as `queue_limit` allows.
        """
        texts = checked_texts("LanguageModel", text)
        works = self._works(texts, _options(max_length, temperature, of_one_output("LanguageModel", options)), place)
        found = self._executor.run(works)
        outputs = [self._written(work, each[0].ids) for work, each in zip(works, found, strict=True)]
        return outputs[0] if isinstance(text, str) else outputs

    def submit(
        self, text: str, *, max_length: int | None = None, temperature: float | None = None, **options: Any
    ) -> Future[str]:
        """Queues a text, with the options of a call, and returns at once; `.result()` waits for what follows.

        `.cancel()` ends it while it waits and while it runs.

        Raises:
            TypeError, ValueError: naming the argument, at once.
            QueueFullError: as many texts wait as `queue_limit` allows.
        """
        check_text("LanguageModel", "text", text)
        works = self._works([text], _options(max_length, temperature, of_one_output("LanguageModel", options)), 0)
        return self._queue(works, lambda found: self._written(works[0], found[0][0].ids))

    def candidates(self, text: list[str], **options: Any) -> list[list[Candidate]]:
        """All that searches end with, or draw, with scores and log probabilities: for each text at most `beam`, or
        `count`, the best first. Arguments and errors as of `submit_candidates`."""
        return result_of(self.submit_candidates(text, **options))

    def submit_candidates(
        self,
        text: list[str],
        *,
        max_length: int | None = None,
        temperature: float | None = None,
        place: int = 0,
        **options: Any,
    ) -> Future[list[list[Candidate]]]:
        """Queues texts and returns at once; `.result()` waits for all that the searches end with, or draw: for each
        text at most `beam`, or `count`, the best first. Other arguments and errors as of `submit`."""
        works = self._works(checked_texts("LanguageModel", text), _options(max_length, temperature, options), place)

        def decoded(found: list[list[Hypothesis]]) -> list[list[Candidate]]:
            return [
                [candidate_of(self._written(work, h.ids), h) for h in each]
                for work, each in zip(works, found, strict=True)
            ]

        return self._queue(works, decoded)

    def stream(
        self, text: str, *, max_length: int | None = None, temperature: float | None = None, **options: Any
    ) -> TextStream:
        """What follows a text in pieces, as soon as they are certain; arguments and errors as of `submit`."""
        check_text("LanguageModel", "text", text)
        progress = Progress()
        chosen = _options(max_length, temperature, of_one_output("LanguageModel", options))
        [work] = self._works([text], chosen, 0, progress)
        future = self._queue([work], lambda found: self._written(work, found[0][0].ids))
        return TextStream(future, progress, lambda ids: self._written(work, self._certain(ids)))

    def score(self, pairs: Sequence[tuple[str, str]], **options: Any) -> list[Candidate]:
        """Scores what follows texts: what a search found has the score again that the search gave it.

        Pairs wait and are merged as texts of a call are, and Ctrl-C ends the wait for them.

        Args:
            pairs: texts, and what follows each, with the space before a new word. ("", text) scores a text from its
                beginning. The tokens are those of both texts together; scores begin where these differ from the tokens
                of the first text alone.
            options: `like` and `length_penalty`, as of a call; `ended`, whether eos after the text is scored too
                (default: True).

        Returns:
            A Candidate for each pair, with what follows.

        Raises:
            TypeError, ValueError: naming the pair that is not two texts, or is too long, or the option.
            FloatingPointError: the model's logits are not finite.
            QueueFullError: as many texts wait as `queue_limit` allows.
        """
        check_text_pairs("LanguageModel", pairs)
        config = self.model.config
        room = config.max_length if config.positions == "learned" else LONGEST
        own = len(self.tokenizer.prompt_frame.prefix)
        before = prompts(self.tokenizer, [text for text, _ in pairs])
        whole = prompts(self.tokenizer, [text + more for text, more in pairs])
        read, outputs = [], []
        for i, (ids, both) in enumerate(zip(before, whole, strict=True)):
            if (length := len(both) - own) >= room:
                raise ValueError(f"LanguageModel: pairs[{i}] must have at most {room - 1:,} tokens, got {length:,}")
            shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(ids, both, strict=False)))
            read.append(both[:shared] or [*self.tokenizer.document_frame.prefix])
            outputs.append(both[shared:])
        found = self._scores(read, outputs, options)
        return [candidate_of(more, h) for (_, more), h in zip(pairs, found, strict=True)]

    def _works(
        self, texts: list[str], options: Mapping[str, Any], place: int, progress: Progress | None = None
    ) -> list[Work]:
        """What is to be gone on from. ValueError for a text that is too long."""
        place = arguments.integer("LanguageModel", "place", place)
        requests, works = self._requests(texts, options), []
        config = self.model.config
        own = len(self.tokenizer.prompt_frame.prefix)
        for i, ids in enumerate(prompts(self.tokenizer, texts)):
            bounded = requests[i].max_length is None or config.positions == "learned"
            room = config.max_length if bounded else LONGEST
            if (length := len(ids) - own) >= room:
                raise ValueError(f"LanguageModel: text[{i}] must have at most {room - 1:,} tokens, got {length:,}")
            works.append(work_of(ids, self._after(ids, requests[i]), place + i, progress))
        return works

    def _after(self, prompt: Sequence[int], options: SearchOptions) -> SearchOptions:
        """The options with the lengths that a folder gives with the prompt, where nothing else is said."""
        longest, shortest = (self._total[name] for name in ("length", "minimum"))
        changes = {}
        if longest is not None and options.max_length is None:
            changes["max_length"] = max(longest - len(prompt), 1)
        if shortest is not None and not options.min_length:
            changes["min_length"] = min(max(shortest - len(prompt), 0), changes.get("max_length", shortest))
        return replace(options, **changes) if changes else options

    def _written(self, work: Work, ids: Sequence[int]) -> str:
        """What follows a text. It is decoded with the text: a token may begin with the space before its word."""
        prompt = work.value[0]
        whole = self.tokenizer.decode([*prompt, *with_token(ids, self.tokenizer)])
        return whole[len(self.tokenizer.decode(prompt)) :]


def _options(max_length: int | None, temperature: float | None, others: Mapping[str, Any]) -> dict[str, Any]:
    return {"max_length": max_length, "temperature": temperature, **others}
