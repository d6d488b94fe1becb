"""Noise for pretraining an encoder-decoder: spans as in T5, text infilling and permuted sentences as in BART."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt


def random_spans(length: int, density: float, mean_span: float, draw: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Which of `length` tokens are noise, bool (length,): spans between others, the last of which ends the text
    (Raffel et al. 2020, arXiv:1910.10683).

    Args:
        length: at least 2.
        density: share of the tokens that is noise; at least one token is, and one is not.
        mean_span: mean length of a span.
        draw: where the spans lie.
    """
    noise = min(max(round(length * density), 1), length - 1)
    spans = min(max(round(noise / mean_span), 1), noise, length - noise)
    sizes = np.empty(2 * spans, np.int64)
    sizes[0::2], sizes[1::2] = _split(length - noise, spans, draw), _split(noise, spans, draw)
    return np.repeat(np.arange(2 * spans) % 2 == 1, sizes)


def cut_spans(
    ids: Sequence[int], noise: npt.NDArray[np.bool_], sentinels: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Source and target of T5: in the source a sentinel stands for each span of noise; the target has each sentinel
    with its span, and the next sentinel at the end.

    Args:
        ids: the tokens.
        noise: (tokens,) which of them are noise.
        sentinels: the ids of the first, second, ... sentinel.

    Raises:
        ValueError: too few sentinels.
    """
    begins = noise & ~np.concatenate([[False], noise[:-1]])
    count = int(begins.sum())
    if count >= len(sentinels):
        raise ValueError(f"denoise: sentinels must be more than {count}, the spans of a text, got {len(sentinels)}")
    source: list[int] = []
    target: list[int] = []
    spans = 0
    for id, is_noise, begin in zip(ids, noise.tolist(), begins.tolist(), strict=True):
        if begin:
            source.append(sentinels[spans])
            target.append(sentinels[spans])
            spans += 1
        (target if is_noise else source).append(int(id))
    return source, [*target, sentinels[spans]]


def fill_in(ids: Sequence[int], density: float, mean_span: float, mask_id: int, draw: np.random.Generator) -> list[int]:
    """The tokens with a mask for each of some spans, whose lengths are Poisson-distributed; the mask of a span without
    tokens is put between tokens (text infilling; Lewis et al. 2020, arXiv:1910.13461, section 2.2).

    Args:
        ids: the tokens.
        density: share of the tokens that is masked.
        mean_span: mean length of a span.
        mask_id: of the mask.
        draw: where the spans lie.
    """
    left = round(len(ids) * density)
    removed, inserted = np.zeros(len(ids), bool), np.zeros(len(ids) + 1, np.int64)
    lengths: list[int] = []
    while left > 0:
        lengths.append(min(int(draw.poisson(mean_span)), left))
        left -= lengths[-1]
    for length in sorted(lengths, reverse=True):
        free = np.flatnonzero(np.convolve(removed, np.ones(max(length, 1)), "valid") == 0)
        if not len(free):
            continue
        first = int(draw.choice(free))
        removed[first : first + length] = True
        inserted[first] += 1
    noisy = chain.from_iterable(
        [mask_id] * int(inserted[i]) + ([] if removed[i] else [int(ids[i])]) for i in range(len(ids))
    )
    return [*noisy]


def permute(ids: Sequence[int], lengths: Sequence[int], draw: np.random.Generator) -> list[int]:
    """The sentences of a text, of so many tokens each, in another order (sentence permutation; Lewis et al. 2020)."""
    ends = np.cumsum(lengths)
    return [int(id) for i in draw.permutation(len(lengths)) for id in ids[ends[i] - lengths[i] : ends[i]]]


def _split(total: int, parts: int, draw: np.random.Generator) -> npt.NDArray[np.int64]:
    """`total` as the sum of `parts` random numbers of at least 1."""
    cuts = np.sort(draw.permutation(total - 1)[: parts - 1]) + 1
    return np.diff([0, *cuts, total])
