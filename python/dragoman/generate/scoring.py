"""score: the log probabilities of given outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

from dragoman import _core, arguments, functional
from dragoman._core import Sequences
from dragoman.generate.generation import Hypothesis, check_sources
from dragoman.generate.models import SearchModel, SearchModels, in_inference, models_of, output_size
from dragoman.generate.options import SearchOptions
from dragoman.generate.search import options_of
from dragoman.models.batch import IdBatch, check_pairs, pack_ids
from dragoman.models.decoder import TextDecoder
from dragoman.models.special_ids import end_ids, start_ids
from dragoman.nn.lora import rows_of
from dragoman.tensor import Tensor

_LOGITS = 1 << 24  # of a pass, at most, beside those of one long pair


def score(
    model: SearchModels,
    src_batch: IdBatch,
    tgt_batch: IdBatch,
    *,
    like: str = "dragoman",
    length_penalty: float | None = None,
    ended: bool = True,
) -> list[Hypothesis]:
    """Scores given outputs: all tokens of a target are read at once, none is searched.

    An output of `generate` that ended in eos has the score again that its search gave it.

    Args:
        model: in either mode; dropout is off. Or several that decode as one, as of Generation.
        src_batch: a list of ids for each source; of a decoder-only model the ids that a target goes on from, at least
            one.
        tgt_batch: target ids without start and eos, a list for each source.
        like, length_penalty: what a score is, as of SearchOptions.
        ended: whether eos after the target is scored too: the first eos of the config.

    Returns:
        A Hypothesis for each pair, with the target's ids.

    Raises:
        TypeError, ValueError: an id or an argument of another type or out of range; batches of different sizes.
        FloatingPointError: a logit is NaN or infinite.
    """
    models = models_of("score", model)
    options = options_of("score", like=like, length_penalty=length_penalty)
    ended = arguments.flag("score", "ended", ended)
    check_sources("score", models, src_batch)
    pack_ids("score", "tgt_batch", tgt_batch, output_size(models[0]))
    check_pairs("score", src_batch, tgt_batch)
    end = end_of("score", models[0], ended)
    wanted = [[*ids, *end] for ids in tgt_batch]
    with in_inference(models):
        found = log_probs_of("score", models, src_batch, wanted, range(len(wanted)))
    forced = forced_count(models[0], options)
    return [scored(ids, log_probs, options, forced) for ids, log_probs in zip(tgt_batch, found, strict=True)]


def end_of(op: str, model: SearchModel, ended: bool) -> list[int]:
    """What is scored after the tokens of an output. ValueError where the config has nothing that ends one."""
    ends = end_ids(model.config)
    if ended and not ends:
        raise ValueError(f"{op}: ended must be False where the config has no eos_id, got True")
    return [ends[0]] if ended else []


def forced_count(model: SearchModel, options: SearchOptions) -> int:
    """How many tokens that the config forces count in the length of an output, as in a search."""
    counts = options.like == "hf" and not isinstance(model, TextDecoder)
    return len(start_ids(model.config)) - 1 if counts else 0


def scored(ids: Sequence[int], log_probs: list[float], options: SearchOptions, forced: int = 0) -> Hypothesis:
    """An output whose tokens have these log probabilities, after `forced` tokens that count in its length."""
    total = float(sum(log_probs))
    score = _core.normalised_score(options.like, total, len(log_probs) + forced, options.exponent)
    return Hypothesis(list(ids), score, total, len(log_probs), log_probs)


def log_probs_of(
    op: str, models: Sequence[SearchModel], sources: IdBatch, wanted: IdBatch, places: Sequence[int]
) -> list[list[float]]:
    """The log probability of each token of each output, whose ids have been checked; the models are in inference.

    Args:
        op: whose name errors begin with.
        sources, wanted: as of `score`, the outputs with what ends them.
        places: of the pairs among the user's, which choose their adapters.

    Raises:
        FloatingPointError: a logit is NaN or infinite.
    """
    found: list[list[float]] = [[] for _ in wanted]
    for batch in passes(wanted, _LOGITS // output_size(models[0])):
        targets = [wanted[i] for i in batch]
        log_probs = _log_probs(op, models, [sources[i] for i in batch], targets, [places[i] for i in batch])
        ends = np.cumsum([len(ids) for ids in targets])
        for i, values in zip(batch, np.split(log_probs, ends[:-1]), strict=True):
            found[i] = values.tolist()
    return found


def passes(targets: Sequence[Sequence[int]], tokens: int) -> Iterator[list[int]]:
    """The places of targets that have tokens, in groups of at most so many tokens, or of one target."""
    group: list[int] = []
    count = 0
    for i, ids in enumerate(targets):
        if group and count + len(ids) > tokens:
            yield group
            group, count = [], 0
        if ids:
            group.append(i)
            count += len(ids)
    if group:
        yield group


def _log_probs(
    op: str, models: Sequence[SearchModel], sources: IdBatch, targets: IdBatch, places: list[int]
) -> npt.NDArray[np.float64]:
    """Of the tokens of all targets, one after the other."""
    with rows_of(places):
        logits = _logits(models[0], sources, targets)
        for model in models[1:]:
            logits = logits + _logits(model, sources, targets)
    if len(models) > 1:
        logits = functional.scale(logits, 1 / len(models))
    ids = np.fromiter(chain.from_iterable(targets), np.int32)
    # The loss computes maximum and sum of each row's softmax; -1 means no target.
    no_targets = _core.Tensor.from_numpy(np.full(len(ids), -1, np.int32), "int32")
    _, softmax, _ = _core.cross_entropy_forward(logits.data, no_targets, 0.0, 1, False, None)
    maximum, total = softmax.numpy().astype(np.float64).T
    if not (total > 0).all():
        raise FloatingPointError(f"{op}: logits are not finite")
    chosen: npt.NDArray[np.float64] = logits.numpy()[np.arange(len(ids)), ids].astype(np.float64)
    log_probs: npt.NDArray[np.float64] = chosen - maximum - np.log(total)
    return log_probs


def _logits(model: SearchModel, sources: IdBatch, targets: IdBatch) -> Tensor:
    """The logits that each token of the targets is chosen by, (tokens, vocabulary)."""
    goes_on = isinstance(model, TextDecoder)
    before = sources if goes_on else [start_ids(model.config)] * len(sources)
    fed = [[*first, *ids[:-1]] for first, ids in zip(before, targets, strict=True)]
    fed_ids, sequences = np.fromiter(chain.from_iterable(fed), np.int32), Sequences([len(ids) for ids in fed])
    if isinstance(model, TextDecoder):
        hidden = model.decode(fed_ids, sequences)
    else:
        source_ids, source = model.pack_source("score", sources)
        hidden = model.decode(fed_ids, sequences, model.encode(source_ids, source), source)
    lengths = [len(ids) for ids in targets]
    if len(fed_ids) > sum(lengths):
        ends = np.cumsum(sequences.lengths)
        rows = [np.arange(end - length, end) for end, length in zip(ends, lengths, strict=True)]
        hidden = functional.gather(hidden, np.concatenate(rows))
    return model.project(hidden, Sequences(lengths))
