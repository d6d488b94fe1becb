"""What CTranslate2's methods return."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

Tokens = list[str]


@dataclass
class TranslationResult:
    """Hypotheses of a source, the best first; their scores and attention, if they were asked for.

    Attributes:
        hypotheses: tokens of each.
        scores: of each.
        attention: of each, for each of its tokens the weights of the source's tokens.
        logits: empty.
    """

    hypotheses: list[Tokens]
    scores: list[float] = field(default_factory=list)
    attention: list[list[list[float]]] = field(default_factory=list)
    logits: list[Any] = field(default_factory=list)


@dataclass
class GenerationResult:
    """What follows a prompt, as tokens and as ids, the best first, and the scores, if they were asked for."""

    sequences: list[Tokens]
    sequences_ids: list[list[int]]
    scores: list[float] = field(default_factory=list)
    logits: list[Any] = field(default_factory=list)


@dataclass
class GenerationStepResult:
    """A token as soon as it is written.

    Attributes:
        step: its place in the output, from 0.
        batch_id: the place of the request.
        token_id, token: the token.
        is_last: whether it ends the output.
        hypothesis_id: 0.
        log_prob, logits: None.
    """

    step: int
    batch_id: int
    token_id: int
    token: str
    is_last: bool = False
    hypothesis_id: int = 0
    log_prob: float | None = None
    logits: Any = None


@dataclass
class ScoringResult:
    """The tokens of a target and the log probability of each."""

    tokens: Tokens
    log_probs: list[float]


@dataclass
class ExecutionStats:
    """What a method for files has done: tokens of the targets, lines, and milliseconds."""

    num_tokens: int
    num_examples: int
    total_time_in_ms: float


class AsyncResult:
    """A result that is being computed.

    Args:
        future: what is waited for; of this result, or of several.
        result: waits for it, and gives this result.
    """

    def __init__(self, future: Future[Any], result: Callable[[], Any]) -> None:
        self._future, self._result = future, result

    def done(self) -> bool:
        """Whether the result is there."""
        return self._future.done()

    def result(self) -> Any:
        """Waits for the result. Raises what the computation raised."""
        return self._result()

    def cancel(self) -> None:
        """Ends the computation, also of the others that were asked for together."""
        self._future.cancel()

    def when_done(self, call: Callable[[], Any]) -> None:
        """Calls a function when the result is there."""
        self._future.add_done_callback(lambda _: call())


def done(result: Any) -> Future[Any]:
    """A future that has its result."""
    future: Future[Any] = Future()
    future.set_result(result)
    return future


def collected(results: Sequence[AsyncResult], asynchronous: bool) -> list[Any]:
    """Waits for the results; with `asynchronous`, returns at once what waits for them."""
    return list(results) if asynchronous else [each.result() for each in results]
