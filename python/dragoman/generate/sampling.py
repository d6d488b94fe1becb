"""sample: outputs drawn from a model's distribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dragoman import arguments
from dragoman.generate.generation import Generation, Hypothesis, check_sources, run
from dragoman.generate.models import SearchModels
from dragoman.generate.search import options_of
from dragoman.models.batch import IdBatch


def sample(
    model: SearchModels,
    src_batch: IdBatch,
    *,
    max_length: int | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    seed: int = 0,
    places: Sequence[int] | None = None,
    **options: Any,
) -> list[Hypothesis]:
    """Draws one output for each sentence, token by token; pad, bos and unk are never drawn, as in `generate`.

    Args:
        model: in either mode; dropout is off. Or several that decode as one, as of Generation.
        src_batch: as of `generate`.
        max_length: maximum number of tokens of an output, with eos; by default as of `generate`.
        temperature: what logits are divided by, above 0: near 0 the most probable token is drawn.
        top_k: only the `top_k` most probable tokens are drawn (Fan et al. 2018, arXiv:1805.04833); None for all.
        top_p: in (0, 1]: only the most probable tokens are drawn whose probabilities together reach `top_p`
            (Holtzman et al. 2020, arXiv:1904.09751).
        seed: the same seed gives the same outputs. What a sentence draws depends on its place, and on no other
            sentence.
        places: of the sentences, ints of at least 0; None for 0, 1, 2 and so on.
        options: others of SearchOptions, by their names, such as `min_p`; not `count`.

    Returns:
        For each sentence its output; the score is the sum of the drawn tokens' log probabilities under the model, at
        temperature 1 and of all tokens.

    Raises:
        TypeError: an argument or an id of another type.
        ValueError: an id or an argument out of range; names the place of the id.
        FloatingPointError: a logit is NaN or infinite.
    """
    generation = Generation(model, "sample")
    temperature = arguments.positive("sample", "temperature", temperature)
    chosen = options_of(
        "sample",
        max_length=max_length,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        **options,
    )
    if chosen.outputs != 1:
        raise ValueError(f"sample: count must be 1, got {chosen.outputs}; generate(temperature=, count=) draws several")
    check_sources("sample", generation.models, src_batch)
    places = range(len(src_batch)) if places is None else arguments.integers("sample", "places", places)
    if len(places) != len(src_batch):
        raise ValueError(f"sample: places must hold {len(src_batch)} ints, one for each source, got {len(places)}")
    return [found[0] for found in run(generation, src_batch, chosen, places)]
