"""The special tokens that config.json and generation_config.json name, as the fields of our configs hold them."""

from __future__ import annotations

from typing import Any

from dragoman.interop.huggingface.fields import Fields
from dragoman.json_file import read_object
from dragoman.models.special_ids import end_ids

GENERATION = "generation_config.json"


def generation_fields(fields: Fields) -> Fields | None:
    """The fields of generation_config.json beside config.json; None where there is none."""
    path = fields.path.parent / GENERATION
    return Fields(read_object(path), path) if path.exists() else None


def eos_id(fields: Fields, default: int) -> int | tuple[int, ...]:
    """What ends a text."""
    return one_or_more(fields.ids("eos_token_id") or (default,))


def one_or_more(ids: tuple[int, ...]) -> int | tuple[int, ...]:
    """Ids as a field of a config of ours holds them."""
    return ids[0] if len(ids) == 1 else ids


def eos_field(config: Any) -> int | list[int] | None:
    """`eos_token_id` for a config of ours."""
    ids = end_ids(config)
    return ids[0] if len(ids) == 1 else list(ids) or None


def start_id(fields: Fields, default: int | None) -> int | None:
    """What a decoder reads first. config.json takes precedence over generation_config.json.

    A token that is forced after it is no part of it: searches take it as a prefix, which counts for lengths.
    """
    found = [fields, *filter(None, [generation_fields(fields)])]
    starts = [one.id("decoder_start_token_id") for one in found]
    return next((id for id in starts if id is not None), default)
