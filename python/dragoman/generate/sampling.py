"""sample: outputs drawn from a model's distribution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dragoman import arguments
from dragoman.generate.search import Hypothesis, check_model, limit_of
from dragoman.generate.steps import steps_of
from dragoman.models.batch import IdBatch
from dragoman.models.decoder import TextDecoder
from dragoman.models.encoder_decoder import EncoderDecoder
from dragoman.models.special_ids import end_ids, unwritten_ids


def sample(
    model: EncoderDecoder | TextDecoder,
    src_batch: IdBatch,
    *,
    max_length: int | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    seed: int = 0,
    places: Sequence[int] | None = None,
) -> list[Hypothesis]:
    """Draws one output for each sentence, token by token; pad, bos and unk are never drawn, as in `generate`.

    Args:
        model: in either mode; dropout is off.
        src_batch: as of `generate`.
        max_length: maximum number of tokens of an output, with eos; by default as of `generate`.
        temperature: what logits are divided by, above 0: near 0 the most probable token is drawn.
        top_k: only the `top_k` most probable tokens are drawn (Fan et al. 2018, arXiv:1805.04833); None for all.
        top_p: in (0, 1]: only the most probable tokens are drawn whose probabilities together reach `top_p`
            (Holtzman et al. 2020, arXiv:1904.09751).
        seed: the same seed gives the same outputs. What a sentence draws depends on its place, and on no other
            sentence.
        places: of the sentences, ints of at least 0; None for 0, 1, 2 and so on.

    Returns:
        For each sentence its output; the score is the sum of the drawn tokens' log probabilities under the model, at
        temperature 1 and of all tokens.

    Raises:
        TypeError: an argument or an id of another type.
        ValueError: an id or an argument out of range; names the place of the id.
        FloatingPointError: a logit is NaN or infinite.
    """
    check_model("sample", model)
    max_length, temperature, top_k, top_p, seed = check_draws("sample", max_length, temperature, top_k, top_p, seed)
    model.pack_source("sample", src_batch)  # checks the ids
    places = range(len(src_batch)) if places is None else arguments.integers("sample", "places", places)
    if len(places) != len(src_batch):
        raise ValueError(f"sample: places must hold {len(src_batch)} ints, one a sentence, got {len(places)}")
    draws = [np.random.default_rng([seed, place]) for place in places]
    limits = [limit_of("sample", model, len(ids), max_length) for ids in src_batch]
    ids: list[list[int]] = [[] for _ in src_batch]
    scores = [0.0] * len(ids)
    live = [i for i, limit in enumerate(limits) if limit]
    config = model.config
    forbidden, ends = list(unwritten_ids(config)), end_ids(config)
    if live:
        with model.inference():
            steps = steps_of("sample", model, src_batch)
            logits = steps.first().numpy()
            rows = live  # of the logits
            while True:
                log_probs = _log_softmax(logits[rows])
                chosen = _draw(log_probs, forbidden, temperature, top_k, top_p, [draws[i] for i in live])
                parents: list[int] = []
                for row, i, token, log_prob in zip(rows, live, chosen, log_probs, strict=True):
                    scores[i] += float(log_prob[token])
                    if token not in ends:
                        ids[i].append(token)
                        if len(ids[i]) < limits[i]:
                            parents.append(row)
                            continue
                    limits[i] = 0
                live = [i for i in live if limits[i]]
                if not live:
                    break
                logits = steps.next([ids[i][-1] for i in live], parents, live).numpy()
                rows = list(range(len(live)))
    return [Hypothesis(each, score) for each, score in zip(ids, scores, strict=True)]


def check_draws(
    op: str, max_length: int | None, temperature: float, top_k: int | None, top_p: float, seed: int
) -> tuple[int | None, float, int | None, float, int]:
    """The options of `sample` as Python's numbers. TypeError, ValueError otherwise, in the name of `op`."""
    temperature = arguments.positive(op, "temperature", temperature)
    if top_k is not None:
        top_k = arguments.integer(op, "top_k", top_k, 1)
    top_p = arguments.positive(op, "top_p", top_p)
    if top_p > 1:
        raise ValueError(f"{op}: top_p must be at most 1, got {top_p:g}")
    seed = arguments.integer(op, "seed", seed)
    if max_length is not None:
        max_length = arguments.integer(op, "max_length", max_length)
    return max_length, temperature, top_k, top_p, seed


def _log_softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """FloatingPointError where a logit is not finite."""
    values = logits.astype(np.float64)
    if not np.isfinite(values).all():
        raise FloatingPointError("sample: logits are not finite")
    values -= values.max(axis=1, keepdims=True)
    values -= np.log(np.exp(values).sum(axis=1, keepdims=True))
    return values


def _draw(
    log_probs: npt.NDArray[np.float64],
    forbidden: list[int],
    temperature: float,
    top_k: int | None,
    top_p: float,
    draws: list[np.random.Generator],
) -> list[int]:
    """A token of each row, (rows, vocabulary)."""
    scaled = log_probs / temperature
    scaled[:, forbidden] = -np.inf
    scaled -= scaled.max(axis=1, keepdims=True)
    order = np.argsort(-scaled, axis=1, kind="stable")[:, :top_k]
    probs = np.exp(np.take_along_axis(scaled, order, axis=1))
    probs /= probs.sum(axis=1, keepdims=True)
    before = np.cumsum(probs, axis=1) - probs  # of the tokens that are more probable
    probs[before >= top_p] = 0.0
    edges = np.cumsum(probs, axis=1)
    # A draw lies in [0, 1): below the last edge, and so never in a token of probability 0.
    places = [
        int(np.searchsorted(edge, draw.random() * edge[-1], "right")) for edge, draw in zip(edges, draws, strict=True)
    ]
    return [int(ids[place]) for ids, place in zip(order, places, strict=True)]
