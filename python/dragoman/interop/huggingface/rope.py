"""Rotary positions in config.json: `rope_theta` with `rope_scaling`, or `rope_parameters`, as transformers 5 writes."""

from __future__ import annotations

import math
from typing import Any

from dragoman.interop.huggingface.fields import Fields
from dragoman.models.config import TextConfig

_KINDS = {kind: kind for kind in ("default", "linear", "llama3", "yarn")}
_FIELDS = {  # of each kind, beside its name and the base
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": (
        *("factor", "original_max_position_embeddings", "beta_fast", "beta_slow"),
        *("attention_factor", "mscale", "mscale_all_dim", "truncate"),
    ),
}


def read_rope(fields: Fields, max_length: int, theta: float = 10000.0) -> dict[str, Any]:
    """`rotary_base` and `rotary_scaling` of a config, from either spelling; the older one counts where both are given.

    Args:
        fields: of config.json.
        max_length: the config's, which is the length of training where a scaling gives none.
        theta: the base where the config gives none.

    Raises:
        ValueError: naming a kind of rotary positions, or a field of one, that is not understood.
    """
    fields.only("partial_rotary_factor", 1.0)
    given = fields.section("rope_scaling") or fields.section("rope_parameters")
    return read_kind(fields, given, max_length, fields.number("rope_theta", theta))


def read_kind(fields: Fields, given: Fields | None, max_length: int, theta: float) -> dict[str, Any]:
    """The same of one object that says the kind; without one, of the default kind."""
    if given is None or not given.values:
        return {"rotary_base": theta}
    kind = given.choice("rope_type", _KINDS, None) or given.choice("type", _KINDS, "default")
    known = ("type", "rope_type", "rope_theta", "partial_rotary_factor", *_FIELDS[kind])
    for name in given.values:
        if given.has(name) and name not in known:
            raise given.error(name, f"absent where the type is {kind}")
    given.only("partial_rotary_factor", 1.0)
    base = {"rotary_base": given.number("rope_theta", theta)}
    if kind == "default":
        return base
    scaling: dict[str, Any] = {"type": kind}
    if kind != "linear":
        original = given.size("original_max_position_embeddings", max_length)
        scaling["original_max_length"] = fields.size("original_max_position_embeddings", original)
    if kind == "yarn":
        given.only("truncate", True)
        scaling["factor"] = given.number("factor", max_length / scaling["original_max_length"])
        scaling |= {"beta_fast": given.number("beta_fast", 32.0), "beta_slow": given.number("beta_slow", 1.0)}
        scaling["attention_factor"] = given.number("attention_factor", _magnitude(given, scaling["factor"]))
    else:
        scaling["factor"] = given.number("factor")
    if kind == "llama3":
        scaling |= {name: given.number(name) for name in ("low_freq_factor", "high_freq_factor")}
    return {**base, "rotary_scaling": scaling}


def _magnitude(given: Fields, factor: float) -> float:
    """What YaRN multiplies queries and keys by, where two fields say it; 0 for the default of RotaryPositions."""
    above, below = given.number("mscale", None), given.number("mscale_all_dim", None)
    if above is None or below is None or factor <= 1:
        return 0.0
    return (0.1 * above * math.log(factor) + 1) / (0.1 * below * math.log(factor) + 1)


def written_rope(config: TextConfig) -> dict[str, Any]:
    """`rope_theta` and `rope_scaling` of a config, the spelling that every version of transformers reads.

    Raises:
        ValueError: a scaling that they have no word for.
    """
    written: dict[str, Any] = {"rope_theta": config.rotary_base, "rope_scaling": None}
    if config.rotary_scaling is not None:
        scaling = dict(config.rotary_scaling)
        kind = scaling.pop("type")
        if kind not in _KINDS:
            raise ValueError(f"save_pretrained: rotary_scaling must have a type of {', '.join(_FIELDS)}, got {kind}")
        if "original_max_length" in scaling:
            scaling["original_max_position_embeddings"] = int(scaling.pop("original_max_length"))
        if scaling.get("attention_factor") == 0:
            del scaling["attention_factor"]
        written["rope_scaling"] = {"rope_type": kind, **scaling}
    return written
