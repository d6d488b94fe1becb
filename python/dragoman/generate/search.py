"""generate: greedy and beam search, batched over sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman import _core, arguments
from dragoman.generate.steps import Steps, steps_of
from dragoman.models.batch import IdBatch
from dragoman.models.decoder import TextDecoder
from dragoman.models.encoder_decoder import EncoderDecoder
from dragoman.models.special_ids import end_ids, start_ids, unwritten_ids
from dragoman.nn import KVCache
from dragoman.tensor import Tensor

__all__ = ["Hypothesis", "KVCache", "generate"]

MAX_BEAM = 1000
MAX_LENGTH_PENALTY = 10.0

_NOT_FINITE = "generate: logits are not finite"

_BLOCK = 64  # columns; top_k first compares the maxima of blocks


@dataclass(frozen=True)
class Hypothesis:
    """One output.

    Attributes:
        ids: target ids, without start and eos.
        score: log probability / length penalty.
    """

    ids: list[int]
    score: float


def generate(
    model: EncoderDecoder | TextDecoder,
    src_batch: IdBatch,
    *,
    beam: int = 1,
    max_length: int | None = None,
    length_penalty: float = 0.6,
) -> list[list[Hypothesis]]:
    """Searches the most probable output by greedy or beam search: a target for each source, or, of a decoder-only
    model, what follows each text.

    Each step extends the best `beam` hypotheses of a sentence by one token; pad, bos and unk are never chosen, unless
    the config has the same id for an eos. Of the best `beam` extensions, those that end in an eos are finished. The
    search of a sentence ends when `beam` hypotheses are finished and the best unfinished one, if it ended now, would
    not be among the best `beam`. Scores are log P / ((5 + length) / 6)^length_penalty; the length counts eos (Wu et al.
    2016, arXiv:1609.08144, section 7). Ties go to the better parent, then to the lower id. A sentence's result does not
    depend on the others in the batch.

    Args:
        model: in either mode; dropout is off.
        src_batch: a list of ids for each source; of a decoder-only model the ids to go on from, at least one.
        beam: number of hypotheses at a time, at most 1000; 1 is greedy search.
        max_length: maximum number of tokens of an output, with eos. The default is twice the source plus 10, and not
            more than `config.max_length`; of a decoder-only model, what `config.max_length` leaves.
        length_penalty: exponent in [0, 10]; 0 compares log probabilities as they are.

    Returns:
        For each sentence up to `beam` hypotheses, the best first. Those cut at max_length come after finished ones.

    Raises:
        TypeError: an argument or an id of another type.
        ValueError: an id or an argument out of range; names the place of the id.
        FloatingPointError: a logit is NaN or infinite, as where weights are.
    """
    check_model("generate", model)
    beam, length_penalty, max_length = check_options("generate", beam, length_penalty, max_length)
    model.pack_source("generate", src_batch)  # checks the ids
    searches = [
        _Search(model.config, sentence, beam, limit_of("generate", model, len(ids), max_length), length_penalty)
        for sentence, ids in enumerate(src_batch)
    ]
    active = [search for search in searches if not search.done]
    if active:
        with model.inference():
            # As many candidates a beam as may end and one more, and those that are never chosen.
            candidates = (len(end_ids(model.config)) + 1) * beam + len(unwritten_ids(model.config))
            _run(steps_of("generate", model, src_batch), active, candidates)
    return [search.result() for search in searches]


def check_options(op: str, beam: int, length_penalty: float, max_length: int | None) -> tuple[int, float, int | None]:
    """The options of a search as Python's numbers. TypeError, ValueError otherwise, in the name of `op`."""
    beam = arguments.integer(op, "beam", beam, 1)
    if beam > MAX_BEAM:
        raise ValueError(f"{op}: beam must be at most {MAX_BEAM}, got {beam}")
    length_penalty = arguments.number(op, "length_penalty", length_penalty, 0.0)
    if length_penalty > MAX_LENGTH_PENALTY:
        raise ValueError(f"{op}: length_penalty must be at most {MAX_LENGTH_PENALTY:g}, got {length_penalty:g}")
    if max_length is not None:
        max_length = arguments.integer(op, "max_length", max_length)
    return beam, length_penalty, max_length


def check_model(op: str, model: Any) -> None:
    """TypeError unless a search can ask the model for steps."""
    if not isinstance(model, EncoderDecoder | TextDecoder):
        raise TypeError(f"{op}: model must be an EncoderDecoder or a TextDecoder, got {type(model).__name__}")


def _run(steps: Steps, active: list[_Search], candidates: int) -> None:
    """Steps all searches together until each is done; the rows of the model are their live hypotheses."""
    logits = steps.first()
    rows = [search.sentence for search in active]  # of the logits, a row for each live hypothesis
    while True:
        ids, log_probs = _most_probable(logits, candidates)
        parents: list[int] = []
        first = 0
        for search in active:
            own = rows[first : first + len(search.live)]
            first += len(own)
            parents += [own[parent] for parent in search.step(ids[own], log_probs[own])]
        active = [search for search in active if not search.done]
        if not active:
            return
        last = [ids[-1] for search in active for ids, _ in search.live]
        logits = steps.next(last, parents, [search.sentence for search in active for _ in search.live])
        rows = list(range(len(parents)))


class _Search:
    """The search of one sentence."""

    def __init__(self, config: Any, sentence: int, beam: int, limit: int, length_penalty: float) -> None:
        self.sentence = sentence
        # Ids and log probability, best first.
        self.live: list[tuple[list[int], float]] = [([], 0.0)] if limit else []
        self._finished: list[Hypothesis] = []
        self._cut: list[Hypothesis] = [] if limit else [Hypothesis([], 0.0)]
        self._beam, self._limit, self._length_penalty = beam, limit, length_penalty
        self._ends, self._unwritten = end_ids(config), unwritten_ids(config)

    @property
    def done(self) -> bool:
        return not self.live

    def step(self, ids: npt.NDArray[np.int64], log_probs: npt.NDArray[np.float64]) -> list[int]:
        """Extends the live hypotheses by one token.

        Args:
            ids: (live, candidates), each row from the most to the least probable.
            log_probs: (live, candidates).

        Returns:
            For each hypothesis that is live now, the one it extends.
        """
        totals = log_probs + np.array([log_prob for _, log_prob in self.live])[:, None]
        totals[np.isin(ids, self._unwritten)] = -np.inf
        order = np.argsort(-totals, axis=None, kind="stable")[: (len(self._ends) + 1) * self._beam]
        live: list[tuple[list[int], float]] = []
        parents: list[int] = []
        for rank, (parent, column) in enumerate(zip(*np.unravel_index(order, totals.shape), strict=True)):
            token, total = int(ids[parent, column]), float(totals[parent, column])
            prefix = self.live[parent][0]
            if total == -np.inf:
                break
            if token in self._ends:
                if rank < self._beam:
                    self._finished.append(self._hypothesis(prefix, total, len(prefix) + 1))
            elif len(live) < self._beam:
                live.append(([*prefix, token], total))
                parents.append(int(parent))
        if not (live or self._finished):  # all but special tokens are -inf
            raise FloatingPointError(_NOT_FINITE)
        self.live = live
        self._finished = sorted(self._finished, key=lambda h: -h.score)[: self._beam]
        if self._decided():
            self.live, parents = [], []
        elif live and len(live[0][0]) == self._limit:
            self._cut = [self._hypothesis(prefix, total, self._limit) for prefix, total in live]
            self.live, parents = [], []
        return parents

    def result(self) -> list[Hypothesis]:
        return (self._finished + sorted(self._cut, key=lambda h: -h.score))[: self._beam]

    def _decided(self) -> bool:
        if len(self._finished) < self._beam:
            return False
        return not self.live or self._hypothesis(*self.live[0], len(self.live[0][0])).score <= self._finished[-1].score

    def _hypothesis(self, ids: list[int], log_prob: float, length: int) -> Hypothesis:
        return Hypothesis(ids, log_prob / ((5 + length) / 6) ** self._length_penalty)


def limit_of(op: str, model: EncoderDecoder | TextDecoder, length: int, max_length: int | None) -> int:
    """Maximum number of tokens of an output, for `length` tokens that the model reads first."""
    goes_on = isinstance(model, TextDecoder)
    side = getattr(model.config, "decoder_side", model.config)
    taken = length if goes_on else len(start_ids(model.config)) - 1  # places that no token of the output has
    room = max(int(side.max_length) - taken, 0)
    if max_length is None:
        return room if goes_on else min(2 * length + 10, room)
    if side.positions == "learned" and max_length > room:
        raise ValueError(f"{op}: max_length must be at most {room}, got {max_length}")
    return max_length


def _most_probable(logits: Tensor, k: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The k most probable ids of each row of logits (rows, vocabulary), and their log probabilities."""
    values = logits.numpy()
    ids = top_k(values, k)
    # The loss computes maximum and sum of each row's softmax; -1 means no target.
    no_targets = _core.Tensor.from_numpy(np.full(logits.shape[0], -1, np.int32), "int32")
    _, softmax, _ = _core.cross_entropy_forward(logits.data, no_targets, 0.0, 1, False, None)
    maximum, total = np.hsplit(softmax.numpy().astype(np.float64), 2)
    if not (total > 0).all():  # all logits of a row are -inf
        raise FloatingPointError(_NOT_FINITE)
    chosen = np.take_along_axis(values, ids, axis=1).astype(np.float64)
    return ids, chosen - maximum - np.log(total)


def top_k(values: npt.NDArray[Any], k: int) -> npt.NDArray[np.int64]:
    """Columns of the k largest values of each row, the largest first, equal values in the order of their columns.

    The k blocks of columns with the largest maxima contain them all, so only these blocks are sorted.

    Args:
        values: (rows, columns).
        k: number of values; more than `columns` gives `columns`.

    Returns:
        int64 (rows, min(k, columns)).

    Raises:
        FloatingPointError: a value is NaN or +inf.
    """
    arguments.check_types("top_k", np.ndarray, values=values)
    if values.ndim != 2 or values.dtype.kind != "f":
        raise ValueError(f"top_k: values must be floats (rows, columns), got {values.dtype} of shape {values.shape}")
    k = arguments.integer("top_k", "k", k)
    rows, columns = values.shape
    whole = columns // _BLOCK * _BLOCK
    maxima = values[:, :whole].reshape(rows, whole // _BLOCK, _BLOCK).max(axis=2)
    if whole < columns:
        maxima = np.hstack([maxima, values[:, whole:].max(axis=1, keepdims=True)])
    if not (maxima < np.inf).all():  # the maximum of a block with a NaN is NaN
        raise FloatingPointError(_NOT_FINITE)
    blocks = np.sort(np.argsort(-maxima, axis=1, kind="stable")[:, :k], axis=1)
    candidates = (blocks[:, :, None] * _BLOCK + np.arange(_BLOCK)).reshape(rows, blocks.shape[1] * _BLOCK)
    found = np.take_along_axis(values, np.minimum(candidates, columns - 1), axis=1)
    found = np.where(candidates < columns, found, -np.inf)
    best = np.argsort(-found, axis=1, kind="stable")[:, : min(k, columns)]
    return np.take_along_axis(candidates, best, axis=1)
