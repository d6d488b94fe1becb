"""SearchOptions: what a request asks of a search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import InitVar, dataclass, fields
from typing import Any

from dragoman import _core, arguments

MAX_BEAM = 1000
MAX_LENGTH_PENALTY = 10.0

RULES = {"dragoman": 0.6, "marian": 1.0, "fairseq": 1.0, "hf": 1.0}  # and the length penalty of each by default


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """How a request is decoded: by greedy search, by beam search, or by drawing where `temperature` is above 0.

    A forbidden token is not chosen, and the others keep the probabilities that the model gives them. pad, bos and unk
    are never chosen, unless the config has the same id for an eos.

    Attributes:
        beam: hypotheses at a time, in [1, 1000]; 1 is greedy search.
        count: outputs of a result: the best of a search, at most `beam`, or as many draws. None for all of a search,
            and for one draw.
        max_length: maximum number of tokens of an output, with eos. None for twice the source plus 10, and not more
            than `config.max_length`; of a decoder-only model, what `config.max_length` leaves.
        min_length: tokens before eos can be chosen; 1 where `like` is "fairseq" and none is given.
        length_penalty: exponent in [0, 10]; 0 compares log probabilities as they are. 0.6 by default, and 1 where
            `like` is not "dragoman".
        like: whose rule ends a search and makes a score, see below.
        coverage_penalty: must be 0: a search does not see the attention yet.
        temperature: 0 for a search. Above 0, tokens are drawn, and logits are divided by it before; less than 1e-6
            counts as 1e-6.
        top_k: only the `top_k` most probable tokens are drawn (Fan et al. 2018, arXiv:1805.04833); None for all.
        top_p: in (0, 1]: of these, only the most probable that together reach `top_p` (Holtzman et al. 2020,
            arXiv:1904.09751).
        min_p: in [0, 1): of these, only those that are at least `min_p` times as probable as the most probable one
            (Nguyen et al. 2024, arXiv:2407.01082).
        seed: of the draws. What a request draws depends on the seed and its place, on no other request.
        prefix: ids that every output begins with. They are part of its ids, its length and its score. No option
            forbids them.
        suppress: ids that are never chosen.
        allowed: the only ids that are chosen, beside eos; None for all. A shortlist of the vocabulary.
        no_repeat_ngram: no sequence of so many tokens comes twice in what the decoder reads (Paulus et al. 2018,
            arXiv:1705.04304); 0 for no such limit.
        repetition_penalty: above 0. Logits of tokens that the decoder has read are divided by it where they are
            positive, and multiplied where they are not, before probabilities are taken (Keskar et al. 2019,
            arXiv:1909.05858).
        constraints: phrases, each a sequence of ids, that every output contains. They may hold ids that are never
            chosen, but no eos and none that another option forbids.

    The length of an output counts eos. Each search takes the best extensions of all hypotheses in a step, by log
    probability; those that end in eos are finished.

    - "dragoman": of the best `beam` extensions those with eos are finished, and the best `beam` others go on. The
      search ends when `beam` are finished and the best other one, if it ended now, would not be among the best
      `beam`. Score: log P / ((5 + length) / 6)^length_penalty (Wu et al. 2016, arXiv:1609.08144, section 7). Those
      cut at `max_length` come after finished ones.
    - "hf": as transformers with `early_stopping=False` (`GenerationMixin._beam_search`). As "dragoman", but with the
      score log P / length^length_penalty, and at `max_length` the best `beam` extensions are compared with finished
      ones alike. In a beam search `repetition_penalty` multiplies log probabilities.
    - "fairseq": as its `SequenceGenerator`. A search ends as soon as `beam` are finished, the first come; at
      `max_length` eos is the only extension. Score: log P / length^length_penalty.
    - "marian": as `marian-decoder --normalize length_penalty`. Each finished hypothesis leaves one place less in the
      beam, and only the best extensions are considered, as many as there are places. Score: log P /
      length^length_penalty; those cut at `max_length` are compared with finished ones alike.

    Raises:
        TypeError, ValueError: naming the option.
    """

    beam: int = 1
    count: int | None = None
    max_length: int | None = None
    min_length: int | None = None
    length_penalty: float | None = None
    like: str = "dragoman"
    coverage_penalty: float = 0.0
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0
    prefix: Sequence[int] = ()
    suppress: Sequence[int] = ()
    allowed: Sequence[int] | None = None
    no_repeat_ngram: int = 0
    repetition_penalty: float = 1.0
    constraints: Sequence[Sequence[int]] = ()
    op: InitVar[str] = "SearchOptions"

    def __post_init__(self, op: str) -> None:
        for name, value in self._checked(op).items():
            object.__setattr__(self, name, value)

    def _checked(self, op: str) -> dict[str, Any]:
        """The options as Python's numbers and tuples."""
        beam = arguments.integer(op, "beam", self.beam, 1)
        if beam > MAX_BEAM:
            raise ValueError(f"{op}: beam must be at most {MAX_BEAM}, got {beam}")
        like = arguments.choice(op, "like", self.like, tuple(RULES))
        penalty = arguments.number(
            op, "length_penalty", RULES[like] if self.length_penalty is None else self.length_penalty, 0.0
        )
        if penalty > MAX_LENGTH_PENALTY:
            raise ValueError(f"{op}: length_penalty must be at most {MAX_LENGTH_PENALTY:g}, got {penalty:g}")
        if arguments.number(op, "coverage_penalty", self.coverage_penalty) != 0:
            raise ValueError(f"{op}: coverage_penalty must be 0: a search does not see the attention")
        temperature = arguments.number(op, "temperature", self.temperature, 0.0)
        return {
            "beam": beam,
            "count": self._checked_count(op, beam, temperature),
            "like": like,
            "length_penalty": penalty,
            "coverage_penalty": 0.0,
            "temperature": temperature,
            **self._checked_lengths(op, like),
            **self._checked_draws(op, beam, temperature),
            **self._checked_ids(op),
        }

    def _checked_count(self, op: str, beam: int, temperature: float) -> int:
        if self.count is None:
            return 1 if temperature else beam
        count = arguments.integer(op, "count", self.count, 1)
        most = MAX_BEAM if temperature else beam
        if count > most:
            raise ValueError(f"{op}: count must be at most {most}{'' if temperature else ', as beam'}, got {count}")
        return count

    def _checked_lengths(self, op: str, like: str) -> dict[str, Any]:
        most = None if self.max_length is None else arguments.integer(op, "max_length", self.max_length)
        least = 0 if self.min_length is None else arguments.integer(op, "min_length", self.min_length)
        if most is not None and least > most:
            raise ValueError(f"{op}: min_length must be at most {most}, as max_length, got {least}")
        if self.min_length is None and like == "fairseq":
            least = 1
        return {"max_length": most, "min_length": least}

    def _checked_draws(self, op: str, beam: int, temperature: float) -> dict[str, Any]:
        top_k = None if self.top_k is None else arguments.integer(op, "top_k", self.top_k, 1)
        top_p = arguments.positive(op, "top_p", self.top_p)
        if top_p > 1:
            raise ValueError(f"{op}: top_p must be at most 1, got {top_p:g}")
        min_p = arguments.number(op, "min_p", self.min_p, 0.0, 1.0)
        if temperature and beam > 1:
            raise ValueError(f"{op}: beam must be 1 where temperature is above 0, got {beam}")
        given = [name for name, is_given in (("top_k", top_k), ("top_p", top_p < 1), ("min_p", min_p)) if is_given]
        if given and not temperature:
            raise ValueError(f"{op}: {given[0]} needs a temperature above 0, got 0")
        seed = arguments.integer(op, "seed", self.seed)
        return {"top_k": top_k, "top_p": top_p, "min_p": min_p, "seed": seed}

    def _checked_ids(self, op: str) -> dict[str, Any]:
        allowed = None if self.allowed is None else tuple(arguments.integers(op, "allowed", self.allowed))
        if allowed is not None and not allowed:
            raise ValueError(f"{op}: allowed must hold at least one id, got none")
        return {
            "prefix": tuple(arguments.integers(op, "prefix", self.prefix)),
            "suppress": tuple(arguments.integers(op, "suppress", self.suppress)),
            "allowed": allowed,
            "no_repeat_ngram": arguments.integer(op, "no_repeat_ngram", self.no_repeat_ngram),
            "repetition_penalty": arguments.positive(op, "repetition_penalty", self.repetition_penalty),
            "constraints": self._checked_constraints(op),
        }

    def _checked_constraints(self, op: str) -> tuple[tuple[int, ...], ...]:
        arguments.check_types(op, Sequence, constraints=self.constraints)
        phrases = tuple(
            tuple(arguments.integers(op, f"constraints[{i}]", phrase)) for i, phrase in enumerate(self.constraints)
        )
        if not all(phrases):
            raise ValueError(f"{op}: constraints[{phrases.index(())}] must hold at least one id, got none")
        if phrases and (self.temperature or self.like != "dragoman"):
            other = f"like {self.like}" if self.like != "dragoman" else "a temperature above 0"
            raise ValueError(f"{op}: constraints need a search like dragoman, got {other}")
        return phrases

    def check_vocabulary(self, op: str, size: int, ends: tuple[int, ...], unwritten: tuple[int, ...]) -> None:
        """ValueError for ids that are not in the vocabulary, and where no token may be chosen."""
        given = {"prefix": self.prefix, "suppress": self.suppress, "allowed": self.allowed or ()}
        given |= {f"constraints[{i}]": phrase for i, phrase in enumerate(self.constraints)}
        for name, ids in given.items():
            for i, id in enumerate(ids):
                if id >= size:
                    raise ValueError(f"{op}: {name}[{i}] must lie in [0, {size}), the vocabulary, got {id}")
        for i, phrase in enumerate(self.constraints):
            if found := {*phrase} & {*ends}:
                raise ValueError(f"{op}: constraints[{i}] must not hold an eos, got {min(found)}")
        if len({*self.suppress, *unwritten}) == size:
            raise ValueError(f"{op}: suppress must leave at least one token that may be chosen")

    def native(self, limit: int, place: int) -> _core.SearchOptions:
        """For the core, with the maximum number of tokens and the place of the draws."""
        return _core.SearchOptions(
            beam=self.beam,
            count=self.count or 0,
            limit=limit,
            min_length=self.min_length or 0,
            length_penalty=self.length_penalty or 0.0,
            like=self.like,
            temperature=self.temperature,
            top_k=self.top_k or 0,
            top_p=self.top_p,
            min_p=self.min_p,
            seed=self.seed,
            place=place,
            prefix=self.prefix,
            suppress=self.suppress,
            allowed=self.allowed or (),
            no_repeat_ngram=self.no_repeat_ngram,
            repetition_penalty=self.repetition_penalty,
            constraints=self.constraints,
        )


NAMES = tuple(field.name for field in fields(SearchOptions))
