"""attention_maps and alignments: where a translator looks in the source for each token of an output."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman import arguments
from dragoman._core import Sequences
from dragoman.models.batch import IdBatch, check_pairs, pack_ids
from dragoman.models.encoder_decoder import Transformer
from dragoman.models.special_ids import start_ids
from dragoman.nn import MultiHeadAttention, record_attention

ChosenHeads = tuple[MultiHeadAttention, list[int]]


def attention_maps(
    model: Transformer,
    src_batch: IdBatch,
    outputs: IdBatch,
    *,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
) -> list[npt.NDArray[Any]]:
    """Where the decoder looks in the source when it writes each token, in chosen layers and heads.

    One pass over the whole batch, in which only the chosen layers keep their weights. They are those of the search that
    found the outputs, but for rounding.

    Args:
        model: in either mode; dropout is off.
        src_batch: source ids, a list a sentence.
        outputs: ids without start and eos, as in a Hypothesis, one list for each source.
        layers: of the decoder, in the order of the result; 0 is the first, -1 the last. None for all.
        heads: of each layer, likewise.

    Returns:
        For each pair float32 (layers, heads, tokens of the output + 1, tokens of the source). Row t belongs to token t,
        the last one to the eos after them. A row adds up to 1.

    Raises:
        TypeError, ValueError: naming the argument.
    """
    chosen = chosen_heads("attention_maps", model, layers, heads)
    return _maps("attention_maps", model, src_batch, outputs, chosen)


def alignments(
    model: Transformer,
    src_batch: IdBatch,
    outputs: IdBatch,
    *,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
) -> list[list[int]]:
    """The source token that each token of an output looks at most: the largest mean weight of layers and heads.

    Args:
        model, src_batch, outputs, heads: as of `attention_maps`.
        layers: as of `attention_maps`; None for the last but one, whose weights are nearest to word alignments (Garg et
            al. 2019, arXiv:1909.02074), or the only one.

    Returns:
        For each pair, a place in the source for each token of the output, eos not among them. -1 where the source is
        empty.

    Raises:
        TypeError, ValueError: naming the argument.
    """
    chosen = aligning_heads("alignments", model, layers, heads)
    means = [mean[:-1] for mean in mean_weights("alignments", model, src_batch, outputs, chosen)]
    return [mean.argmax(axis=1).tolist() if mean.shape[1] else [-1] * len(mean) for mean in means]


def covering_attention(op: str, model: Any) -> MultiHeadAttention:
    """The attention to the source that `coverage_penalty` reads: in the layer that `alignments` reads by default.
    TypeError for a model that is no Transformer."""
    ((attention, _),) = aligning_heads(op, model, None, None)
    return attention


def aligning_heads(
    op: str, model: Transformer, layers: Sequence[int] | None, heads: Sequence[int] | None
) -> list[ChosenHeads]:
    """As `chosen_heads`, with the layers of `alignments` for None."""
    arguments.check_types(op, Transformer, model=model)
    if layers is None:
        layers = [max(len(model.decoder.layers) - 2, 0)]
    return chosen_heads(op, model, layers, heads)


def chosen_heads(
    op: str, model: Transformer, layers: Sequence[int] | None, heads: Sequence[int] | None
) -> list[ChosenHeads]:
    """The attention of each chosen layer to the source, with the places of its chosen heads."""
    arguments.check_types(op, Transformer, model=model)
    chosen = _places(op, "layers", layers, len(model.decoder.layers))
    attentions = [layer.cross_attention for layer in model.decoder.layers if layer.cross_attention]
    read = [(attentions[i], _places(op, "heads", heads, attentions[i].num_heads)) for i in chosen]
    if any(len(of_layer) != len(read[0][1]) for _, of_layer in read):
        raise ValueError(f"{op}: heads must be given where the layers have different numbers of heads, got None")
    return read


def mean_weights(
    op: str, model: Transformer, src_batch: IdBatch, outputs: IdBatch, chosen: Sequence[ChosenHeads]
) -> list[npt.NDArray[Any]]:
    """For each pair the mean of the chosen heads, (tokens of the output + 1, tokens of the source)."""
    return [weights.mean(axis=(0, 1)) for weights in _maps(op, model, src_batch, outputs, chosen)]


def _maps(
    op: str, model: Transformer, src_batch: IdBatch, outputs: IdBatch, chosen: Sequence[ChosenHeads]
) -> list[npt.NDArray[Any]]:
    src_ids, src_sequences = model.pack_source(op, src_batch)
    pack_ids(op, "outputs", outputs, model.config.output_size)
    check_pairs(op, src_batch, outputs)
    start = start_ids(model.config)
    fed = np.fromiter(chain.from_iterable((*start, *ids) for ids in outputs), np.int32)
    tgt_sequences = Sequences([len(start) + len(ids) for ids in outputs])
    with model.inference(), record_attention([attention for attention, _ in chosen]) as record:
        model.decode(fed, tgt_sequences, model.encode(src_ids, src_sequences), src_sequences)
    return [
        np.stack([record[attention][pair].numpy()[heads, len(start) - 1 :] for attention, heads in chosen])
        for pair in range(len(src_batch))
    ]


def _places(op: str, argument: str, places: Sequence[int] | None, count: int) -> list[int]:
    """Places in [0, count), from ints that may count from the end; all of them for None."""
    if places is None:
        return list(range(count))
    chosen = arguments.integers(op, argument, places, minimum=-(2**63))
    if not chosen:
        raise ValueError(f"{op}: {argument} must hold at least one number, got none")
    for place in chosen:
        if not -count <= place < count:
            raise ValueError(f"{op}: {argument} must lie in [{-count}, {count}), got {place}")
    return [place % count for place in chosen]
