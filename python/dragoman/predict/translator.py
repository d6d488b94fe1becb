"""Translator: text in, text out, from a folder that training wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, overload

from dragoman import arguments
from dragoman.data.columns import Ids
from dragoman.data.pairs import source_ids, target_ids
from dragoman.data.texts import check_text, is_blank
from dragoman.data.tokenizer import with_token
from dragoman.generate import Hypothesis, SearchOptions
from dragoman.generate.aligning import aligning_heads
from dragoman.models.encoder_decoder import EncoderDecoder
from dragoman.models.special_ids import start_ids
from dragoman.predict.call import Work
from dragoman.predict.candidate import Candidate, candidate_of
from dragoman.predict.executor import result_of
from dragoman.predict.generating import GeneratingPredictor, Result, of_one_output, work_of
from dragoman.predict.loading import load_with_tokenizer
from dragoman.predict.stream import Progress, TextStream
from dragoman.predict.text_predictor import check_text_pairs, checked_texts
from dragoman.predict.word_alignment import Alignment, align_words, words_of_tokens

LONGEST = 10_000  # tokens of a source; time and memory grow with the square


class Translator(GeneratingPredictor):
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

    @classmethod
    def load(
        cls,
        folder: str | Path,
        device: str = "cpu",
        compute_type: str = "default",
        *,
        source_language: str | None = None,
        target_language: str | None = None,
        **limits: int | None,
    ) -> Translator:
        """Reads a model and its tokenizer.

        Args:
            folder: written by `Trainer` or `dragoman train`, or from elsewhere: see docs/guide/checkpoints.md. One from
                elsewhere says how to search, as transformers would, where a call does not.
            device: where the model computes, "cpu" or "cuda".
            compute_type: "int8", "bfloat16" or "float32" for weights frozen in it (`Model.freeze`): less memory, and
                with "int8" and "bfloat16" faster. "default" for the model as it was saved.
            source_language, target_language: of a model that translates between several languages, its codes of these
                two, as "eng_Latn" in NLLB; None for those that the folder names.
            limits: `queue_limit` and `batch_tokens` of the constructor.

        Raises:
            OSError: a file is missing.
            ValueError: a file that cannot be used, naming it; a device that is not there; a compute type that is none,
                or that does not fit the device or a frozen folder; a language that the model does not know, or a
                missing one, with some that it knows.
        """
        languages = source_language, target_language
        for name, code in zip(("source_language", "target_language"), languages, strict=True):
            if code is not None:
                arguments.check_types("Translator", str, **{name: code})
        model, tokenizer = load_with_tokenizer("Translator", folder, device, compute_type, languages)
        return cls(model, tokenizer, **limits)

    @overload
    def __call__(
        self,
        text: str,
        beam: int | None = None,
        length_penalty: float | None = None,
        max_length: int | None = None,
        **options: Any,
    ) -> str: ...

    @overload
    def __call__(
        self,
        text: list[str],
        beam: int | None = None,
        length_penalty: float | None = None,
        max_length: int | None = None,
        **options: Any,
    ) -> list[str]: ...

    def __call__(
        self,
        text: str | list[str],
        beam: int | None = None,
        length_penalty: float | None = None,
        max_length: int | None = None,
        **options: Any,
    ) -> str | list[str]:
        """Translates a text, or each of several.

        A translation does not depend on the texts beside it; where it is drawn, it depends on the text's place among
        them. A text longer than the config's `max_source_length` is cut. One longer than its learned positions, or
        without them than 10,000 tokens, is refused. One without a visible character (empty, of spaces, of zero-width
        spaces) becomes "".

        Args:
            text: one text or several.
            beam: hypotheses followed side by side, at most 1000; 1 is greedy search. None for 5, or for 1 where tokens
                are drawn, at a temperature above 0.
            length_penalty: exponent that favours longer translations, in [0, 10]. None for 0.6 (Wu et al. 2016), or for
                the default of `like`.
            max_length: maximum number of tokens of a translation. None for twice the source's plus 10.
            options: others of `dragoman.generate.SearchOptions`, by their names. `prefix` may be a text too, or a list
                with a text for each of several; `constraints` may hold texts, and so may `suppress`. Where
                a folder from elsewhere asks for an option, None is for that.

        Returns:
            A str for a str, else a list in the order of the texts.

        Raises:
            TypeError, ValueError: naming the argument, and the index of a text that is none; `count` above 1.
            FloatingPointError: the model's logits are not finite.
            QueueFullError: as many texts wait as `queue_limit` allows.
        """
        chosen = _options(beam, length_penalty, max_length, of_one_output("Translator", options))
        best = [candidates[0].text for candidates in self._search(text, chosen, 0)]
        return best[0] if isinstance(text, str) else best

    @overload
    def candidates(
        self,
        text: str,
        beam: int | None = None,
        length_penalty: float | None = None,
        max_length: int | None = None,
        count: int | None = None,
        *,
        place: int = 0,
        **options: Any,
    ) -> list[Candidate]: ...

    @overload
    def candidates(
        self,
        text: list[str],
        beam: int | None = None,
        length_penalty: float | None = None,
        max_length: int | None = None,
        count: int | None = None,
        *,
        place: int = 0,
        **options: Any,
    ) -> list[list[Candidate]]: ...

    def candidates(
        self,
        text: str | list[str],
        beam: int | None = None,
        length_penalty: float | None = None,
        max_length: int | None = None,
        count: int | None = None,
        *,
        place: int = 0,
        **options: Any,
    ) -> list[Candidate] | list[list[Candidate]]:
        """The translations that a search ends with, or draws, with their scores and log probabilities.

        The first candidate is the result of a call. The other arguments and the errors are those of a call.

        Args:
            count: how many of each text at most. None for all, which are at most `beam`.
            place: of the first text, where the texts go on a longer list: they draw what they would draw in it.

        Returns:
            For each text 1 to `count` candidates, the best first; those cut at max_length come after finished ones.
        """
        chosen = _options(beam, length_penalty, max_length, {"count": count, **options})
        found = self._search(text, chosen, arguments.integer("Translator", "place", place))
        return found[0] if isinstance(text, str) else found

    def submit(
        self,
        text: str,
        beam: int | None = None,
        length_penalty: float | None = None,
        max_length: int | None = None,
        **options: Any,
    ) -> Future[str]:
        """Queues a text, with the arguments of a call, and returns at once; `.result()` waits for the translation.

        `.cancel()` ends it while it waits and while it runs.

        Raises:
            TypeError, ValueError: naming the argument, at once.
            QueueFullError: as many texts wait as `queue_limit` allows.
        """
        check_text("Translator", "text", text)
        chosen = _options(beam, length_penalty, max_length, of_one_output("Translator", options))
        return self._submit([text], chosen, 0, lambda found: found[0][0].text)

    def submit_candidates(
        self,
        text: list[str],
        beam: int | None = None,
        length_penalty: float | None = None,
        max_length: int | None = None,
        *,
        place: int = 0,
        **options: Any,
    ) -> Future[list[list[Candidate]]]:
        """As `candidates` of several texts, but returns at once; `.result()` waits for all of them."""
        texts, place = checked_texts("Translator", text), arguments.integer("Translator", "place", place)
        return self._submit(texts, _options(beam, length_penalty, max_length, options), place, list)

    def stream(
        self,
        text: str,
        beam: int | None = None,
        length_penalty: float | None = None,
        max_length: int | None = None,
        **options: Any,
    ) -> TextStream:
        """The translation of a text in pieces, as soon as they are certain; arguments and errors as of `submit`."""
        check_text("Translator", "text", text)
        chosen = _options(beam, length_penalty, max_length, of_one_output("Translator", options))
        progress = Progress()
        future = self._submit([text], chosen, 0, lambda found: found[0][0].text, progress)
        return TextStream(future, progress, lambda ids: self._decode(self._certain(ids)))

    def score(self, pairs: Sequence[tuple[str, str]], **options: Any) -> list[Candidate]:
        """Scores given translations: a translation that a search found has the score again that the search gave it.

        Pairs wait and are merged as texts of a call are, and Ctrl-C ends the wait for them.

        Args:
            pairs: texts and their translations.
            options: `like` and `length_penalty`, as of a call; `ended`, whether eos after a translation is scored too
                (default: True).

        Returns:
            A Candidate for each pair, with the given translation.

        Raises:
            TypeError, ValueError: naming the pair that is not two texts, or is too long, or the option.
            FloatingPointError: the model's logits are not finite.
            QueueFullError: as many texts wait as `queue_limit` allows.
        """
        check_text_pairs("Translator", pairs)
        sources = self._sources([source for source, _ in pairs], "pairs[{}][0]")
        texts = [target for _, target in pairs]
        targets = target_ids(self.tokenizer, texts)
        _check_lengths(targets, texts, "pairs[{}][1]", self._target_room() or LONGEST)
        found = self._scores(sources, targets, options)
        return [candidate_of(text, h) for text, h in zip(texts, found, strict=True)]

    def align(
        self,
        pairs: Sequence[tuple[str, str]],
        layers: Sequence[int] | None = None,
        heads: Sequence[int] | None = None,
    ) -> list[Alignment]:
        """The word of a source that the model looks at most for each word of its translation.

        Words are split at spaces, as by `str.split()`. A word looks at another with the attention weights of all its
        tokens to all tokens of the other, added up; of chosen layers and heads the mean is taken.

        Args:
            pairs: texts and their translations.
            layers, heads: as of `dragoman.generate.alignments`, which layers and heads of the decoder; None for all
                heads of the last layer but one, or of the only one.

        Returns:
            For each pair, (place of a word of the source, place of a word of the translation) for each word of the
            translation, in sorted order; places count from 0. [] where either text has no visible character. What a
            call would cut from a source is aligned with nothing, and so is what learned positions have no room for in
            a translation.

        Raises:
            TypeError, ValueError: naming the pair that is not two texts, or is too long, or the argument.
            FloatingPointError: the model's attention weights are not finite.
        """
        chosen = aligning_heads("Translator", self.model, layers, heads)
        check_text_pairs("Translator", pairs)
        read = [i for i, (source, target) in enumerate(pairs) if not (is_blank(source) or is_blank(target))]
        sources = self._sources([source for source, _ in pairs], "pairs[{}][0]")
        targets = self._targets([target for _, target in pairs], "pairs[{}][1]")
        ids = [(sources[i], targets[i]) for i in read]
        sides = self.tokenizer, self.tokenizer.target
        words = [[words_of_tokens(side, text) for side, text in zip(sides, pairs[i], strict=True)] for i in read]
        tokens = self._limits["batch_tokens"] or self.batch_tokens
        frame = self.tokenizer.source_frame
        aligned = align_words("Translator", self.model, ids, words, frame, chosen, tokens)
        found = dict(zip(read, aligned, strict=True))
        return [found.get(i, []) for i in range(len(pairs))]

    def search_options(self, **options: Any) -> SearchOptions:
        if options.get("beam") is None and "beam" not in self._defaults:
            options["beam"] = 1 if options.get("temperature") else 5
        return super().search_options(**options)

    def _submit(
        self,
        texts: list[str],
        options: Mapping[str, Any],
        place: int,
        finish: Callable[[list[list[Candidate]]], Result],
        progress: Progress | None = None,
    ) -> Future[Result]:
        """Queues texts. The future's result is what `finish` makes of the candidates of each."""
        works = self._works(texts, self._requests(texts, options), place, progress)

        def decoded(found: list[list[Hypothesis]]) -> Result:
            own = dict(zip(works, found, strict=True))
            return finish([self._candidates(own.get(i, ())) for i in range(len(texts))])

        return self._queue([*works.values()], decoded)

    def _search(self, text: str | list[str], options: Mapping[str, Any], place: int) -> list[list[Candidate]]:
        """The candidates of each text, or of the only one."""
        return result_of(self._submit(checked_texts("Translator", text), options, place, list))

    def _works(
        self, texts: list[str], options: Sequence[SearchOptions], place: int, progress: Progress | None = None
    ) -> dict[int, Work]:
        """What is to be searched, by the index of its text: of the texts that have something to translate."""
        empty = len(self.tokenizer.source_frame.around(()))
        return {
            i: work_of(ids, options[i], place + i, progress)
            for i, ids in enumerate(self._sources(texts, "text[{}]"))
            if len(ids) > empty and not is_blank(texts[i])
        }

    def _sources(self, texts: list[str], name: str) -> list[Ids]:
        """What the encoder reads for each text. ValueError for one that is too long, which is called by `name`."""
        config = self.model.config
        maximum = getattr(config, "max_source_length", None)
        side = getattr(config, "encoder_side", config)
        longest = side.max_length if getattr(side, "positions", None) == "learned" else maximum or LONGEST
        frame = self.tokenizer.source_frame
        sources = [frame.cut(ids, maximum) for ids in source_ids(self.tokenizer, texts)]
        _check_lengths(sources, texts, name, longest)
        return sources

    def _targets(self, texts: list[str], name: str) -> list[Ids]:
        """The ids of translations, cut to what learned positions have room for. ValueError as of `_sources`."""
        targets = target_ids(self.tokenizer, texts)
        _check_lengths(targets, texts, name, LONGEST)
        return [ids[: self._target_room()] for ids in targets]

    def _target_room(self) -> int | None:
        """How many tokens of a translation learned positions have room for; None for other positions."""
        side = getattr(self.model.config, "decoder_side", self.model.config)
        return side.max_length - len(start_ids(self.model.config)) if side.positions == "learned" else None

    def _candidates(self, found: Sequence[Hypothesis]) -> list[Candidate]:
        """The candidates of a text; of a text without anything to translate, one that is empty."""
        return [candidate_of(self._decode(h.ids), h) for h in found] or [Candidate("", 0.0)]

    def _decode(self, ids: Sequence[int]) -> str:
        tokenizer = self.tokenizer.target
        return tokenizer.decode(with_token(ids, tokenizer))


def _options(
    beam: int | None, length_penalty: float | None, max_length: int | None, others: Mapping[str, Any]
) -> dict[str, Any]:
    return {"beam": beam, "length_penalty": length_penalty, "max_length": max_length, **others}


def _check_lengths(ids: Sequence[Ids], texts: Sequence[str], name: str, longest: int) -> None:
    """ValueError for a text of more than `longest` ids, which is called by `name`, unless it is blank."""
    for i, (each, text) in enumerate(zip(ids, texts, strict=True)):
        if len(each) > longest and not is_blank(text):
            raise ValueError(
                f"Translator: {name.format(i)} must have at most {longest:,} tokens, got {len(each):,}; "
                "translate its sentences one by one"
            )
