"""Special ids: what begins and ends an output, and what is never in one, from any config that holds them."""

from __future__ import annotations

from typing import Any


def start_ids(config: Any) -> tuple[int, ...]:
    """What a decoder reads before the first token of its output: `start_id`, or `bos_id` where it has none."""
    start = getattr(config, "start_id", None)
    return _as_ids(config.bos_id if start is None else start)


def end_ids(config: Any) -> tuple[int, ...]:
    """The tokens that end an output, if any. The first is the one to learn."""
    return () if config.eos_id is None else _as_ids(config.eos_id)


def unwritten_ids(config: Any) -> tuple[int, ...]:
    """The tokens that an output never contains: pad, bos and unk, but for those that end it."""
    ids = {config.pad_id, config.bos_id, config.unk_id} - {None, *end_ids(config)}
    return tuple(sorted(ids))


def _as_ids(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(value)
