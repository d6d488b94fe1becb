"""What a folder asks of a search, where a call does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_DRAWING = ("temperature", "top_k", "top_p", "min_p")
_OF_RULE = ("length_penalty", "early_stopping", "forced_last")  # they belong to the rule that `like` names
_OF_DRAGOMAN = ("constraints", "coverage_penalty")  # only this rule has them


def with_defaults(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a call and, where they go with these, a folder's.

    Args:
        defaults: of the folder, `SearchOptions` by their names.
        given: of the call; None where it says nothing.
    """
    given = {name: value for name, value in given.items() if value is not None}
    without = set(given)
    if any(given.get(name) for name in _OF_DRAGOMAN):
        without.add("like")
    if given.get("constraints"):
        without.add("renormalize")
    if "like" in without:
        without |= {*_OF_RULE}
    if _is_above(given.get("temperature"), 0):
        without.add("beam")
    elif "temperature" in given or _is_above(given.get("beam"), 1):
        without |= {*_DRAWING}
    kept = {name: value for name, value in defaults.items() if name not in without}
    longest, shortest = given.get("max_length"), given.get("min_length")
    if _is_above(kept.get("min_length"), longest):
        kept["min_length"] = longest
    if _is_above(shortest, kept.get("max_length")):
        del kept["max_length"]
    return {**kept, **given}


def _is_above(value: Any, limit: Any) -> bool:
    """Whether both are numbers, and one is above the other. What is no number is checked later."""
    return all(isinstance(each, int | float) for each in (value, limit)) and value > limit
