"""Models whose logits are those of a shortlist of the vocabulary: a smaller product at each step."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np

from dragoman.frozen import FrozenWeight
from dragoman.models.decoder import TextDecoder
from dragoman.models.encoder_decoder import Transformer
from dragoman.nn import Linear, Parameter


def can_narrow(model: Any) -> bool:
    """Whether a model's logits are the product of one plain Linear."""
    kind = next((kind for kind in (Transformer, TextDecoder) if isinstance(model, kind)), None)
    return kind is not None and type(model).project is kind.project and type(model.output) is Linear


def narrowed(model: Any, tokens: Sequence[int]) -> Any:
    """The model with logits of these tokens alone, in their order. It shares everything but the output."""
    small, output, rows = copy(model), copy(model.output), np.asarray(tokens)
    weight, bias = output.weight, output.bias
    if isinstance(weight, FrozenWeight):
        scales = None if weight.scales is None else weight.scales.numpy()[rows]
        output.weight = FrozenWeight(weight.values()[rows], scales, weight.device)
    else:
        output.weight = Parameter(weight.numpy()[rows])
        output.weight.move(weight.device)
    if bias is not None:
        output.bias = Parameter(bias.numpy()[rows])
        output.bias.move(bias.device)
    small.output = output
    return small
