"""Candidate: an output of a search, as text."""

from __future__ import annotations

from dataclasses import dataclass, field

from dragoman.generate import Hypothesis


@dataclass(frozen=True)
class Candidate:
    """One output for a text.

    Attributes:
        text: the output.
        score: log probability / length penalty; 0 for a text without anything to translate.
        sum_logprob: log probability, with that of the end where the output ends.
        token_logprobs: the log probability of each token that the sum counts.
    """

    text: str
    score: float
    sum_logprob: float = field(default=0.0, compare=False)
    token_logprobs: tuple[float, ...] = field(default=(), compare=False, repr=False)


def candidate_of(text: str, hypothesis: Hypothesis) -> Candidate:
    """A hypothesis, whose text is `text`."""
    return Candidate(text, hypothesis.score, hypothesis.sum_logprob, tuple(hypothesis.token_logprobs))
