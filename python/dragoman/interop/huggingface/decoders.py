"""What the families of decoder-only models share: special ids, and fields that differ by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dragoman.interop.huggingface.fields import Fields
from dragoman.interop.huggingface.special_tokens import eos_field
from dragoman.interop.huggingface.weights import Tensors
from dragoman.models.decoder import DecoderConfig

HEAD = "lm_head.weight"


def special_ids(fields: Fields, vocab_size: int, **defaults: int) -> dict[str, Any]:
    """The special ids of a config, with defaults for "pad", "bos" and "eos". A token beyond the vocabulary is none: no
    output holds it. Nor is -1, which files of the first LLaMA have."""
    found: dict[str, Any] = {"unk_id": None}
    for name in ("pad", "bos", "eos"):
        field = f"{name}_token_id"
        default = defaults.get(name)
        absent = () if default is None or fields.is_null(field) else (default,)
        given = () if fields.values.get(field) == -1 else fields.ids(field) or absent
        ids = tuple(id for id in given if id < vocab_size)
        found[f"{name}_id"] = ids if name == "eos" and len(ids) > 1 else ids[0] if ids else None
    return found


def written_ids(config: DecoderConfig) -> dict[str, Any]:
    """The special ids as fields of theirs."""
    return {"pad_token_id": config.pad_id, "bos_token_id": config.bos_id, "eos_token_id": eos_field(config)}


def head(tensors: Tensors, embedding: str) -> tuple[bool, tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Whether the head is the embedding, by what is in the file whatever its config says; the rule of names for a file
    that holds the two under the head's name; and what else is to be ignored."""
    tied = tensors.tied(HEAD, embedding)
    swapped = HEAD in tensors and embedding not in tensors
    names = ((r"^embedding\.weight$", HEAD),) if swapped else ()
    return tied, names, (HEAD.replace(".", r"\."),) if tied and not swapped else ()


def by_layer(own: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Fields of each layer as fields of a config: those that all layers share, and `layers` for the others. `layers`
    holds one period of them, where they repeat."""
    shared = {name: value for name, value in own[0].items() if all(each.get(name) == value for each in own)}
    rest = [{name: value for name, value in each.items() if name not in shared} for each in own]
    period = next(n for n in range(1, len(rest) + 1) if all(each == rest[i % n] for i, each in enumerate(rest)))
    return {**shared, "layers": tuple(rest[:period])} if any(rest) else shared
