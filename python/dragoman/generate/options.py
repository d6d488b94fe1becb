"""SearchOptions: what a request asks of a search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import InitVar, dataclass, fields
from typing import Any

from dragoman import _core, arguments

MAX_BEAM = 1000
MAX_PENALTY = 10.0  # of length and coverage
MAX_REPETITION_PENALTY = 1e6  # and at least 1 / 1e6, so that no logit overflows float32

RULES = {"dragoman": 0.6, "marian": 1.0, "fairseq": 1.0, "hf": 1.0}  # and the length penalty of each by default


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """How a request is decoded: by greedy search, by beam search, or by drawing where `temperature` is above 0.

    A forbidden token is not chosen, and the others keep the probabilities that the model gives them, unless
    `renormalize` is set. pad, bos and unk are never chosen, unless the config has the same id for an eos; where `like`
    is "hf" they may be chosen.

    Attributes:
        beam: hypotheses at a time, in [1, 1000]; 1 is greedy search.
        count: outputs of a result: the best of a search, at most `beam`, or as many draws. None for all of a search,
            and for one draw.
        max_length: maximum number of tokens of an output, with eos. None for twice the source plus 10, and not more
            than `config.max_length`; of a decoder-only model, what `config.max_length` leaves.
        min_length: tokens before eos can be chosen. None for 1 where `like` is "fairseq", and for 0 elsewhere.
        length_penalty: exponent in [0, 10]; 0 compares log probabilities as they are. None for 0.6, and for 1 where
            `like` is not "dragoman".
        like: whose rule ends a search and makes a score, see below.
        early_stopping: of a beam search like "hf", as in transformers: True ends it as soon as `beam` hypotheses are
            finished; False when the best other one, if it ended now, would not be among the best `beam`; "never" when
            it would not with the same log probability at `max_length`.
        coverage_penalty: in [0, 10]: how much a score of a Transformer's output falls with source tokens that it has
            not looked at; 0 for no such penalty. It needs a search like "dragoman".
        temperature: 0 for a search. Above 0, tokens are drawn, and logits are divided by it before; less than 1e-6
            counts as 1e-6.
        top_k: only the `top_k` most probable tokens are drawn (Fan et al. 2018, arXiv:1805.04833); None for all.
        top_p: in (0, 1]: of these, only the most probable that together reach `top_p` (Holtzman et al. 2020,
            arXiv:1904.09751).
        min_p: in [0, 1): of these, only those that are at least `min_p` times as probable as the most probable one
            (Nguyen et al. 2024, arXiv:2407.01082).
        seed: of the draws. What a request draws depends on the seed and its place, on no other request.
        prefix: ids that every output begins with. They are part of its ids, its length and its score; where `like` is
            "hf" their log probability counts as 0, and they take no steps. No option forbids them.
        forced_last: the only token that is chosen at `max_length`, an eos as a rule, with the log probability 0; None
            for no such token. It needs like "hf".
        suppress: ids that are never chosen.
        begin_suppress: ids that are not chosen as the first token after the prefix.
        bad_words: sequences of ids that are not written: after all but the last of a sequence, the last is forbidden.
            What counts is all that the decoder has read.
        allowed: the only ids that are chosen, beside eos; None for all. With `renormalize`, a step computes only their
            logits, if all requests that are decoded side by side have the same ones.
        no_repeat_ngram: no sequence of so many tokens comes twice in what the decoder reads (Paulus et al. 2018,
            arXiv:1705.04304); 0 for no such limit.
        repetition_penalty: in [1e-6, 1e6]. Logits of tokens that the decoder has read are divided by it where they are
            positive, and multiplied where they are not, before probabilities are taken (Keskar et al. 2019,
            arXiv:1909.05858).
        renormalize: whether the probabilities of the tokens that may be chosen are made to add up to 1. They are then
            no longer those of the model, and `score` gives another score.
        constraints: phrases, each a sequence of ids, that every output contains. They may hold ids that are never
            chosen, but no eos and none that another option forbids.

    The length of an output counts eos. Each search takes the best extensions of all hypotheses in a step, by log
    probability; those that end in eos are finished.

    - "dragoman": of the best `beam` extensions those with eos are finished, and the best `beam` others go on. The
      search ends when `beam` are finished and the best other one, if it ended now, would not be among the best
      `beam`. Score: log P / ((5 + length) / 6)^length_penalty + coverage_penalty * sum over the source of
      log(min(c, 1)) (Wu et al. 2016, arXiv:1609.08144, section 7). c is how much the output has looked at a source
      token: the sum over its tokens of the mean weight of the heads that `alignments` reads; less than 1e-6 counts as
      1e-6. Those cut at `max_length` come after finished ones.
    - "hf": as transformers (`GenerationMixin._beam_search`). As "dragoman", but with the score log P /
      length^length_penalty, and at `max_length` the best `beam` extensions are compared with finished ones alike. In a
      beam search `repetition_penalty` multiplies log probabilities. Tokens that the config's `start_id` forces count
      in the length.
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
    early_stopping: bool | str = False
    coverage_penalty: float = 0.0
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0
    prefix: Sequence[int] = ()
    forced_last: int | None = None
    suppress: Sequence[int] = ()
    begin_suppress: Sequence[int] = ()
    bad_words: Sequence[Sequence[int]] = ()
    allowed: Sequence[int] | None = None
    no_repeat_ngram: int = 0
    repetition_penalty: float = 1.0
    renormalize: bool = False
    constraints: Sequence[Sequence[int]] = ()
    op: InitVar[str] = "SearchOptions"

    def __post_init__(self, op: str) -> None:
        for name, value in self._checked(op).items():
            object.__setattr__(self, name, value)

    @property
    def outputs(self) -> int:
        """Outputs of a result: `count`, or what None stands for."""
        return (1 if self.temperature else self.beam) if self.count is None else self.count

    @property
    def exponent(self) -> float:
        """`length_penalty`, or what None stands for."""
        return RULES[self.like] if self.length_penalty is None else self.length_penalty

    def _checked(self, op: str) -> dict[str, Any]:
        """The options as Python's numbers and tuples."""
        beam = arguments.integer(op, "beam", self.beam, 1)
        if beam > MAX_BEAM:
            raise ValueError(f"{op}: beam must be at most {MAX_BEAM}, got {beam}")
        temperature = arguments.number(op, "temperature", self.temperature, 0.0)
        return {
            "beam": beam,
            "count": self._checked_count(op, beam, temperature),
            "temperature": temperature,
            **self._checked_rule(op),
            **self._checked_lengths(op),
            **self._checked_draws(op, beam, temperature),
            **self._checked_ids(op),
        }

    def _checked_count(self, op: str, beam: int, temperature: float) -> int | None:
        if self.count is None:
            return None
        count = arguments.integer(op, "count", self.count, 1)
        most = MAX_BEAM if temperature else beam
        if count > most:
            raise ValueError(
                f"{op}: count must be at most {most}{'' if temperature else ', the value of beam'}, got {count}"
            )
        return count

    def _checked_rule(self, op: str) -> dict[str, Any]:
        like = arguments.choice(op, "like", self.like, tuple(RULES))
        early = self.early_stopping
        if not isinstance(early, str):
            early = arguments.flag(op, "early_stopping", early)
        elif early != "never":
            raise ValueError(f'{op}: early_stopping must be True, False or "never", got {arguments.shown(early)}')
        last = None if self.forced_last is None else arguments.integer(op, "forced_last", self.forced_last)
        for name, is_given in (("early_stopping", early), ("forced_last", last is not None)):
            if is_given and like != "hf":
                raise ValueError(f"{op}: {name} needs like='hf', got like='{like}'")
        length_penalty = None if self.length_penalty is None else self._checked_penalty(op, "length_penalty")
        coverage_penalty = self._checked_penalty(op, "coverage_penalty")
        if coverage_penalty:
            self._check_own_rule(op, "coverage_penalty needs")
        return {
            "like": like,
            "early_stopping": early,
            "forced_last": last,
            "length_penalty": length_penalty,
            "coverage_penalty": coverage_penalty,
        }

    def _checked_penalty(self, op: str, name: str) -> float:
        penalty = arguments.number(op, name, getattr(self, name), 0.0)
        if penalty > MAX_PENALTY:
            raise ValueError(f"{op}: {name} must be at most {MAX_PENALTY:g}, got {penalty:g}")
        return penalty

    def _check_own_rule(self, op: str, needs: str) -> None:
        """ValueError unless this is a search like "dragoman". `needs` begins the message: "constraints need"."""
        if self.temperature or self.like != "dragoman":
            if self.like != "dragoman":
                raise ValueError(f"{op}: {needs} like='dragoman', got like='{self.like}'")
            raise ValueError(f"{op}: {needs} temperature 0, got {self.temperature:g}")

    def _checked_lengths(self, op: str) -> dict[str, Any]:
        most = None if self.max_length is None else arguments.integer(op, "max_length", self.max_length)
        least = None if self.min_length is None else arguments.integer(op, "min_length", self.min_length)
        if most is not None and least is not None and least > most:
            raise ValueError(f"{op}: min_length must be at most {most}, the value of max_length, got {least}")
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
        penalty = arguments.positive(op, "repetition_penalty", self.repetition_penalty)
        if not 1 / MAX_REPETITION_PENALTY <= penalty <= MAX_REPETITION_PENALTY:
            raise ValueError(
                f"{op}: repetition_penalty must lie in [{1 / MAX_REPETITION_PENALTY:g}, {MAX_REPETITION_PENALTY:g}], "
                f"got {penalty:g}"
            )
        return {
            "prefix": tuple(arguments.integers(op, "prefix", self.prefix)),
            "suppress": tuple(arguments.integers(op, "suppress", self.suppress)),
            "begin_suppress": tuple(arguments.integers(op, "begin_suppress", self.begin_suppress)),
            "bad_words": self._checked_phrases(op, "bad_words"),
            "allowed": allowed,
            "no_repeat_ngram": arguments.integer(op, "no_repeat_ngram", self.no_repeat_ngram),
            "repetition_penalty": penalty,
            "renormalize": arguments.flag(op, "renormalize", self.renormalize),
            "constraints": self._checked_constraints(op),
        }

    def _checked_phrases(self, op: str, name: str) -> tuple[tuple[int, ...], ...]:
        given = getattr(self, name)
        arguments.check_types(op, Sequence, **{name: given})
        phrases = tuple(tuple(arguments.integers(op, f"{name}[{i}]", phrase)) for i, phrase in enumerate(given))
        if not all(phrases):
            raise ValueError(f"{op}: {name}[{phrases.index(())}] must hold at least one id, got none")
        return phrases

    def _checked_constraints(self, op: str) -> tuple[tuple[int, ...], ...]:
        phrases = self._checked_phrases(op, "constraints")
        if phrases:
            self._check_own_rule(op, "constraints need")
        if phrases and self.renormalize:
            raise ValueError(f"{op}: renormalize must be False with constraints, got True")
        return phrases

    def check_vocabulary(self, op: str, size: int, ends: tuple[int, ...], unwritten: tuple[int, ...]) -> None:
        """ValueError for ids that are not in the vocabulary, and where no token may be chosen."""
        given: dict[str, Sequence[int]]
        given = {"prefix": self.prefix, "suppress": self.suppress, "begin_suppress": self.begin_suppress}
        given["allowed"] = self.allowed or ()
        for name, phrases in (("constraints", self.constraints), ("bad_words", self.bad_words)):
            given |= {f"{name}[{i}]": phrase for i, phrase in enumerate(phrases)}
        for name, ids in given.items():
            for i, id in enumerate(ids):
                if id >= size:
                    raise ValueError(f"{op}: {name}[{i}] must lie in [0, {size}), the ids of the vocabulary, got {id}")
        if self.forced_last is not None and self.forced_last >= size:
            raise ValueError(
                f"{op}: forced_last must lie in [0, {size}), the ids of the vocabulary, got {self.forced_last}"
            )
        for i, phrase in enumerate(self.constraints):
            if found := {*phrase} & {*ends}:
                raise ValueError(f"{op}: constraints[{i}] must not hold an eos id, got {min(found)}")
        if len({*self.suppress, *self._unwritten(unwritten)}) == size:
            raise ValueError(f"{op}: suppress must leave at least one token that may be chosen")

    def _unwritten(self, of_model: tuple[int, ...]) -> tuple[int, ...]:
        """The tokens that this search never chooses: pad, bos and unk of the model, or none like "hf"."""
        return () if self.like == "hf" else of_model

    def native(
        self, limit: int, place: int, unwritten: tuple[int, ...], forced: tuple[int, ...] = ()
    ) -> _core.SearchOptions:
        """The options for the core.

        Args:
            limit: maximum number of tokens of an output.
            place: of the draws.
            unwritten: pad, bos and unk of the model.
            forced: ids that the config puts before the prefix; `limit` and `min_length` do not count them.
        """
        least = self.min_length
        early = "never" if self.early_stopping == "never" else "yes" if self.early_stopping else "no"
        return _core.SearchOptions(
            beam=self.beam,
            count=self.outputs,
            limit=limit + len(forced),
            min_length=len(forced) + (int(self.like == "fairseq") if least is None else least),
            length_penalty=self.exponent,
            coverage_penalty=self.coverage_penalty,
            like=self.like,
            early_stopping=early if self.beam > 1 else "no",
            temperature=self.temperature,
            top_k=self.top_k or 0,
            top_p=self.top_p,
            min_p=self.min_p,
            seed=self.seed,
            place=place,
            prefix=(*forced, *self.prefix),
            forced_last=self.forced_last,
            unwritten=self._unwritten(unwritten),
            suppress=self.suppress,
            begin_suppress=self.begin_suppress,
            allowed=self.allowed or (),
            bad_words=self.bad_words,
            no_repeat_ngram=self.no_repeat_ngram,
            repetition_penalty=self.repetition_penalty,
            renormalize=self.renormalize,
            constraints=self.constraints,
        )


NAMES = tuple(field.name for field in fields(SearchOptions))
