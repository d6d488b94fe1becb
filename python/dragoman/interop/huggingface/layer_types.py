"""Which layers of a decoder have a window: `layer_types` and `sliding_window` of config.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dragoman.interop.huggingface.fields import Fields
from dragoman.models.decoder import DecoderConfig

_TYPES = {"full_attention": False, "sliding_attention": True}


def window_size(fields: Fields, default: int | None) -> int | None:
    """The number of tokens in a window, as config.json counts them; None for no window."""
    return None if fields.is_null("sliding_window") else fields.size("sliding_window", default)


def windows(fields: Fields, size: int | None, default: Sequence[bool]) -> list[dict[str, Any]]:
    """`window` of each layer that has one.

    Args:
        fields: of config.json.
        size: tokens in a window, the one that reads them included.
        default: whether each layer has a window, where `layer_types` does not say it.

    Raises:
        ValueError: a type of layer that is neither; a window without a size.
    """
    types = fields.values.get("layer_types")
    if types is None:
        sliding = list(default)
    elif isinstance(types, list) and len(types) == len(default) and set(map(str, types)) <= set(_TYPES):
        sliding = [_TYPES[kind] for kind in types]
    else:
        raise fields.error("layer_types", f"a list of {len(default)} of {' and '.join(_TYPES)}")
    if size is None and any(sliding):
        raise fields.error("sliding_window", "in use and an int of at least 1 for the layers that have a window")
    return [{"window": size - 1} if each and size is not None else {} for each in sliding]


def written_windows(config: DecoderConfig) -> dict[str, Any]:
    """`sliding_window` and `layer_types` of a config. ValueError where layers have different windows."""
    found = [config.of_layer(place).window for place in range(config.num_layers)]
    sizes = {window + 1 for window in found if window is not None}
    if len(sizes) > 1:
        raise ValueError(f"save_pretrained: window must be the same in all layers that have one, got {found}")
    types = ["full_attention" if window is None else "sliding_attention" for window in found]
    return {"sliding_window": sizes.pop() if sizes else None, "layer_types": types}
