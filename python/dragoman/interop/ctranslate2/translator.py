"""CTranslate2's Translator over a folder of this package."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from dragoman import arguments
from dragoman.generate import Hypothesis
from dragoman.generate.aligning import chosen_heads, mean_weights
from dragoman.interop.ctranslate2.adapter import Adapter, score_of
from dragoman.interop.ctranslate2.batches import answered, detokenized, tokens_of, write_file
from dragoman.interop.ctranslate2.options import check_default, check_known
from dragoman.interop.ctranslate2.results import (
    AsyncResult,
    ExecutionStats,
    GenerationStepResult,
    ScoringResult,
    Tokens,
    TranslationResult,
    done,
)
from dragoman.interop.ctranslate2.watch import Callback, steps_of
from dragoman.predict import Translator as Served
from dragoman.predict.call import Work
from dragoman.predict.executor import result_of

Tokenize = Callable[[str], Tokens]
Detokenize = Callable[[Tokens], str]


class Translator(Adapter):
    """CTranslate2's Translator over a folder of this package. Any number of threads may use it.

    Args:
        model_path: a folder with a model of this package, or with a checkpoint from elsewhere.
        device: "cpu", "cuda" or "auto".
        options: of CTranslate2's constructor. `intra_threads` sets the threads of the library, times `inter_threads`.

    Raises:
        OSError: a file is missing.
        TypeError, ValueError: another kind of model; an option that is not supported, naming it.
    """

    kind = Served

    @property
    def num_translators(self) -> int:
        """1: what all callers ask for is merged."""
        return 1

    def translate_batch(
        self,
        source: Sequence[Tokens],
        target_prefix: Sequence[Tokens | None] | None = None,
        *,
        asynchronous: bool = False,
        beam_size: int = 2,
        num_hypotheses: int = 1,
        length_penalty: float = 1,
        max_input_length: int = 1024,
        max_decoding_length: int = 256,
        min_decoding_length: int = 1,
        return_scores: bool = False,
        return_end_token: bool = False,
        return_attention: bool = False,
        callback: Callback | None = None,
        **options: Any,
    ) -> list[Any]:
        """Translates sources, each a list of tokens; </s> is added where it is not the last. Hypotheses of a source
        without other tokens are empty.

        Args:
            source, target_prefix: tokens. A prefix is part of the hypotheses.
            return_attention: of the first head of the last layer.
            callback: is called with each token as soon as it is written, in the thread of the model. If it returns
                True, the output ends. It needs `beam_size` 1.
            options: the others of CTranslate2's method.

        Returns:
            A TranslationResult for each source; with `asynchronous`, what waits for it at `.result()`.

        Raises:
            TypeError, ValueError: an option that is not supported, naming it.
        """
        options |= {
            "beam_size": beam_size,
            "num_hypotheses": num_hypotheses,
            "length_penalty": length_penalty,
            "max_decoding_length": max_decoding_length,
            "min_decoding_length": min_decoding_length,
        }
        sources = self._sources(source, max_input_length)
        prefixes = self._prefixes(target_prefix, len(sources))

        def make(index: int, found: list[Hypothesis]) -> TranslationResult:
            ids = [self._with_end(each, return_end_token) for each in found]
            scores = [score_of(each, length_penalty, len(asked[index]["prefix"])) for each in found]
            return TranslationResult(
                [self._tokens_of(each) for each in ids],
                scores if return_scores else [],
                self._attention(read[index], ids) if return_attention else [],
            )

        read = [ids for ids in sources if ids != [self._end]]
        asked = [{"prefix": prefix} for prefix, ids in zip(prefixes, sources, strict=True) if ids != [self._end]]
        found = iter(self._search(read, options, lambda index, _: asked[index], make, asynchronous, callback))
        nothing = TranslationResult([[]] * num_hypotheses, [0.0] * num_hypotheses if return_scores else [])
        empty = AsyncResult(done(nothing), lambda: nothing) if asynchronous else nothing
        return [empty if ids == [self._end] else next(found) for ids in sources]

    def translate_iterable(
        self,
        source: Iterable[Tokens],
        target_prefix: Iterable[Tokens | None] | None = None,
        max_batch_size: int = 32,
        batch_type: str = "examples",
        **options: Any,
    ) -> Iterator[TranslationResult]:
        """Translates what an iterable gives, while it is read; results come in its order. Options and errors as of
        `translate_batch`."""
        streams: dict[str, Iterable[Any]] = {"source": source}
        if target_prefix is not None:
            streams["target_prefix"] = target_prefix
        return answered("Translator", self.translate_batch, streams, max_batch_size, batch_type, options)

    def translate_file(
        self,
        source_path: str,
        output_path: str,
        target_path: str | None = None,
        *,
        max_batch_size: int = 32,
        read_batch_size: int = 0,
        batch_type: str = "examples",
        with_scores: bool = False,
        source_tokenize_fn: Tokenize | None = None,
        target_tokenize_fn: Tokenize | None = None,
        target_detokenize_fn: Detokenize | None = None,
        **options: Any,
    ) -> ExecutionStats:
        """Translates the lines of a file to the lines of another, all hypotheses of a line one after the other.

        Args:
            target_path: prefixes, a line for each.
            with_scores: begin each line with its score and " ||| ".
            source_tokenize_fn, target_tokenize_fn, target_detokenize_fn: between a line and its tokens; by default
                spaces.
            options: of `translate_batch`.
        """
        streams: dict[str, Iterable[Any]] = {"source": tokens_of(source_path, source_tokenize_fn)}
        if target_path is not None:
            streams["target_prefix"] = tokens_of(target_path, target_tokenize_fn)
        options["return_scores"] = with_scores

        def lines_of(found: TranslationResult) -> list[str]:
            texts = [detokenized(tokens, target_detokenize_fn) for tokens in found.hypotheses]
            return [f"{score:g} ||| {text}" for score, text in zip(found.scores, texts, strict=False)] or texts

        results = answered("Translator", self.translate_batch, streams, max_batch_size, batch_type, options)
        return write_file(output_path, results, lines_of, lambda found: len(found.hypotheses[0]))

    def generate_tokens(
        self,
        source: Tokens,
        target_prefix: Tokens | None = None,
        *,
        max_decoding_length: int = 256,
        min_decoding_length: int = 1,
        return_log_prob: bool = False,
        **options: Any,
    ) -> Iterator[GenerationStepResult]:
        """The tokens of a translation as soon as they are written. Options and errors as of `translate_batch`."""
        check_default("Translator", "return_log_prob", return_log_prob, False)
        options |= {"max_decoding_length": max_decoding_length, "min_decoding_length": min_decoding_length}
        prefixes = None if target_prefix is None else [target_prefix]
        return steps_of(
            lambda tell: self.translate_batch(
                [source], prefixes, beam_size=1, asynchronous=True, callback=tell, **options
            ),
            options.pop("callback", None),
        )

    def score_batch(
        self,
        source: Sequence[Tokens],
        target: Sequence[Tokens],
        *,
        max_input_length: int = 1024,
        offset: int = 0,
        asynchronous: bool = False,
        **options: Any,
    ) -> list[Any]:
        """The log probabilities of given targets, each a list of tokens; </s> is added.

        Args:
            offset: number of tokens of each target that are left out of its result.

        Returns:
            A ScoringResult for each; with `asynchronous`, what waits for it at `.result()`.

        Raises:
            TypeError, ValueError: an option that is not supported, naming it.
        """
        for option in ("max_batch_size", "batch_type"):
            options.pop(option, None)
        check_known("Translator", options)
        offset = arguments.integer("Translator", "offset", offset)
        sources, targets = self._sources(source, max_input_length), self._batch_of("target", target)
        if len(targets) != len(sources):
            raise ValueError(f"Translator: target must hold {len(sources)} targets, got {len(targets)}")
        return self._scores(sources, targets, True, asynchronous, offset)

    def score_iterable(
        self,
        source: Iterable[Tokens],
        target: Iterable[Tokens],
        max_batch_size: int = 64,
        batch_type: str = "examples",
        **options: Any,
    ) -> Iterator[ScoringResult]:
        """As `score_batch`, for what iterables give, while they are read."""
        streams = {"source": source, "target": target}
        return answered("Translator", self.score_batch, streams, max_batch_size, batch_type, options)

    def score_file(
        self,
        source_path: str,
        target_path: str,
        output_path: str,
        *,
        max_batch_size: int = 32,
        read_batch_size: int = 0,
        batch_type: str = "examples",
        with_tokens_score: bool = False,
        source_tokenize_fn: Tokenize | None = None,
        target_tokenize_fn: Tokenize | None = None,
        target_detokenize_fn: Detokenize | None = None,
        **options: Any,
    ) -> ExecutionStats:
        """Scores pairs of lines: the mean log probability of a target's tokens, " ||| " and the target with </s>.

        Args:
            with_tokens_score: end each line with " ||| " and the log probability of each token.
            source_tokenize_fn, target_tokenize_fn, target_detokenize_fn: between a line and its tokens; by default
                spaces.
            options: of `score_batch`.
        """
        streams = {
            "source": tokens_of(source_path, source_tokenize_fn),
            "target": tokens_of(target_path, target_tokenize_fn),
        }

        def lines_of(found: ScoringResult) -> list[str]:
            mean = sum(found.log_probs) / len(found.log_probs)
            line = f"{mean:g} ||| {detokenized(found.tokens, target_detokenize_fn)}"
            each = " ".join(f"{value:g}" for value in found.log_probs)
            return [f"{line} ||| {each}" if with_tokens_score else line]

        results = answered("Translator", self.score_batch, streams, max_batch_size, batch_type, options)
        return write_file(output_path, results, lines_of, lambda found: len(found.tokens))

    def _sources(self, batch: Any, maximum: int) -> list[list[int]]:
        cut = [ids[: maximum or None] for ids in self._batch_of("source", batch, source=True)]
        return [ids if ids[-1:] == [self._end] else [*ids, self._end] for ids in cut]

    def _prefixes(self, batch: Any, size: int) -> list[list[int]]:
        if batch is None:
            return [[]] * size
        if isinstance(batch, Sequence) and not isinstance(batch, str):
            batch = [[] if tokens is None else tokens for tokens in batch]
        prefixes = self._batch_of("target_prefix", batch)
        if len(prefixes) != size:
            raise ValueError(f"Translator: target_prefix must hold {size} prefixes, got {len(prefixes)}")
        return prefixes

    def _attention(self, source: list[int], outputs: Sequence[list[int]]) -> list[list[list[float]]]:
        """For each output, for each of its tokens the weights of the source's tokens."""
        works = [Work((source, ids), len(source) + len(ids), kind=_mean_weights) for ids in outputs]
        found = result_of(self._served._executor.submit(works, list))
        return [weights[: len(ids)].tolist() for weights, ids in zip(found, outputs, strict=True)]


def _mean_weights(name: str, model: Any, pairs: Sequence[tuple[list[int], list[int]]]) -> list[Any]:
    """The attention of the first head of the last layer, for an executor."""
    sources, outputs = zip(*pairs, strict=True)
    return mean_weights(name, model, sources, outputs, chosen_heads(name, model, [-1], [0]))
