"""generate: greedy and beam search, batched over sentences."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman import _core, arguments
from dragoman.generate.generation import Generation, Hypothesis, check_sources, run
from dragoman.generate.models import SearchModels, limit_of
from dragoman.generate.options import SearchOptions
from dragoman.models.batch import IdBatch
from dragoman.nn import KVCache

__all__ = ["Hypothesis", "KVCache", "generate", "limit_of"]


def generate(
    model: SearchModels,
    src_batch: IdBatch,
    *,
    beam: int = 1,
    max_length: int | None = None,
    length_penalty: float | None = None,
    **options: Any,
) -> list[list[Hypothesis]]:
    """Searches the most probable output by greedy or beam search: a target for each source, or, of a decoder-only
    model, what follows each text.

    Each step extends the best `beam` hypotheses of a sentence by one token; pad, bos and unk are never chosen, unless
    the config has the same id for an eos or `like` is "hf". Of the best `beam` extensions, those that end in an eos are
    finished. The search of a sentence ends when `beam` hypotheses are finished and the best unfinished one, if it ended
    now, would not be among the best `beam`. Scores are log P / ((5 + length) / 6)^length_penalty; the length counts eos
    (Wu et al. 2016, arXiv:1609.08144, section 7). Ties go to the better parent, then to the lower id. A sentence's
    result does not depend on the others in the batch.

    Args:
        model: in either mode; dropout is off. Or several that decode as one, as of Generation.
        src_batch: a list of ids for each source; of a decoder-only model the ids to go on from, at least one.
        beam: number of hypotheses at a time, at most 1000; 1 is greedy search.
        max_length: maximum number of tokens of an output, with eos. The default is twice the source plus 10, and not
            more than `config.max_length`; of a decoder-only model, what `config.max_length` leaves.
        length_penalty: exponent in [0, 10], 0.6 by default; 0 compares log probabilities as they are.
        options: others of SearchOptions, by their names.

    Returns:
        For each sentence up to `beam` hypotheses, the best first. Those cut at max_length come after finished ones.

    Raises:
        TypeError: an argument or an id of another type.
        ValueError: an id or an argument out of range; names the place of the id.
        FloatingPointError: a logit is NaN or infinite, as where weights are.
    """
    generation = Generation(model, "generate")
    chosen = options_of("generate", beam=beam, max_length=max_length, length_penalty=length_penalty, **options)
    check_sources("generate", generation.models, src_batch)
    return run(generation, src_batch, chosen, range(len(src_batch)))


def options_of(op: str, /, **options: Any) -> SearchOptions:
    """SearchOptions whose errors are in the name of `op`; TypeError for a name that is none of them."""
    if "op" in options:
        raise TypeError(f"{op}: got an unexpected keyword argument 'op'")
    try:
        return SearchOptions(**options, op=op)
    except TypeError as error:
        unexpected = "got an unexpected keyword argument"
        if unexpected not in str(error):
            raise
        raise TypeError(f"{op}: {unexpected}{str(error).split(unexpected)[1]}") from None


def top_k(values: npt.NDArray[Any], k: int) -> npt.NDArray[np.int64]:
    """Columns of the k largest values of each row, the largest first, equal values in the order of their columns.

    Args:
        values: (rows, columns); compared in float32.
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
    if not k or not values.size:
        return np.empty((len(values), min(k, values.shape[1])), np.int64)
    rows = _core.Tensor.from_numpy(np.ascontiguousarray(values, np.float32), "float32")
    ids, _, softmax = _core.top_k(rows, k)
    if np.isnan(softmax.numpy()).any():
        raise FloatingPointError("top_k: values are not finite")
    return ids.numpy().astype(np.int64)
