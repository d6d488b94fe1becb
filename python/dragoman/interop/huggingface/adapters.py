"""Adapters of LoRA under the names that a model's Linears have in its checkpoint, as the PEFT library writes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman.interop.huggingface.family import SAME, TRANSPOSED, Form, Part, family_named
from dragoman.interop.huggingface.fields import Fields
from dragoman.interop.huggingface.weights import Tensors
from dragoman.models import Model
from dragoman.models.base import CONFIG
from dragoman.nn import Linear

Pair = tuple[npt.NDArray[Any], npt.NDArray[Any]]  # A (rank, inputs), B (outputs, rank)

_WEIGHT = ".weight"


def to_theirs(model: Model, pairs: Mapping[str, Pair]) -> tuple[dict[str, Pair], bool]:
    """The matrices of an adapter by the names of their modules, all of one rank; and whether some of these modules keep
    their weights transposed.

    Parts of one product become one adapter: its A holds the rows of all parts, its B their columns. Others get zeros
    up to the same rank.

    Args:
        model: with an origin.
        pairs: by the name of each Linear that has the adapter.
    """
    forms = _forms(model)
    found: dict[str, dict[int, Pair]] = {}
    parts = {}
    for ours, pair in pairs.items():
        theirs, form = forms[ours]
        part = form if isinstance(form, Part) else Part(0, 1)
        found.setdefault(theirs, {})[part.i] = pair
        parts[theirs] = part.n
    joined = {theirs: _joined(of_parts, parts[theirs]) for theirs, of_parts in found.items()}
    rank = max(len(a) for a, _ in joined.values())
    padded = {name: (_padded(a, rank, 0), _padded(b, rank, 1)) for name, (a, b) in joined.items()}
    return padded, any(forms[ours][1] is not SAME for ours in pairs)


def to_ours(model: Model, pairs: Mapping[str, Pair]) -> dict[str, Pair]:
    """The matrices of an adapter by the names of our Linears. A name that no Linear has stays as it is."""
    found = {}
    users: dict[str, list[tuple[str, Form]]] = {}
    for ours, (theirs, form) in _forms(model).items():
        users.setdefault(theirs, []).append((ours, form))
    for theirs, (a, b) in pairs.items():
        for ours, form in users.get(theirs, [(theirs, SAME)]):
            part = form if isinstance(form, Part) else Part(0, 1)
            size = len(b) // part.n
            found[ours] = (a, b[part.i * size : (part.i + 1) * size])
    return found


def _forms(model: Model) -> dict[str, tuple[str, Form]]:
    """By the name of each Linear, the module of theirs that holds its weight, and how."""
    origin = model.origin or {}
    family = family_named(origin["model_type"])
    fields = Fields({**origin, **family.fields(model)}, (model.origin_folder or Path()) / CONFIG)
    layout = family.layout(fields, Tensors())
    places = [name for name, module in model.named_modules() if isinstance(module, Linear)]
    forms = {place: layout.form(place + _WEIGHT) for place in places}
    known = {place: form for place, form in forms.items() if form in (SAME, TRANSPOSED) or isinstance(form, Part)}
    return {place: (layout.name(place + _WEIGHT).removesuffix(_WEIGHT), form) for place, form in known.items()}


def _joined(parts: Mapping[int, Pair], count: int) -> Pair:
    """One adapter of a product of `count` equal parts, some of which have one."""
    if count == 1:
        return parts[0]
    rank = sum(len(a) for a, _ in parts.values())
    outputs = len(next(iter(parts.values()))[1])
    b = np.zeros((count * outputs, rank), np.float32)
    first = 0
    for place, (a_of_part, b_of_part) in sorted(parts.items()):
        b[place * outputs : (place + 1) * outputs, first : first + len(a_of_part)] = b_of_part
        first += len(a_of_part)
    return np.concatenate([a for _, (a, _) in sorted(parts.items())]), b


def _padded(array: npt.NDArray[Any], rank: int, axis: int) -> npt.NDArray[Any]:
    width = [(0, 0), (0, 0)]
    width[axis] = (0, rank - array.shape[axis])
    return np.pad(array, width)
