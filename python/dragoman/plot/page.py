"""attention_page: the attention of a model as one HTML file to look into."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman import arguments
from dragoman.files import atomic_write

# For each kind of attention: its title, and which tokens are its rows (queries) and columns (keys).
VIEWS = {
    "encoder": ("encoder", "source", "source"),
    "decoder": ("decoder", "target", "target"),
    "cross": ("decoder to encoder", "target", "source"),
}


def attention_page(
    weights: Mapping[str, Sequence[npt.ArrayLike]],
    src_tokens: Sequence[str] | None = None,
    tgt_tokens: Sequence[str] | None = None,
    path: str | Path | None = None,
) -> str:
    """A page that shows all layers and heads of a model for one example; pointing at a token shows who reads whom.

    It is one file that needs no network. Weights are kept to a 255th of their square root.

    Args:
        weights: what `model.attention_weights` returns: for "encoder", "decoder" and "cross", those that the model
            has, an array (num_heads, queries, keys) for each layer.
        src_tokens: names of the tokens that the encoder reads, for "encoder" and "cross".
        tgt_tokens: names of the tokens that the decoder reads, for "decoder" and "cross".
        path: file to write; None for no file.

    Returns:
        The HTML.

    Raises:
        OSError: a path that cannot be written.
        TypeError, ValueError: another kind of attention, arrays that are not finite or do not fit the tokens.
    """
    arguments.check_types("plot.attention_page", Mapping, weights=weights)
    named = {"source": ("src_tokens", src_tokens), "target": ("tgt_tokens", tgt_tokens)}
    views: list[dict[str, Any]] = []
    packed: list[bytes] = []
    offset = 0
    for kind, layers in weights.items():
        title, queries, keys = VIEWS[arguments.choice("plot.attention_page", "weights", kind, tuple(VIEWS))]
        rows, columns = _names(*named[queries]), _names(*named[keys])
        values = _stacked(kind, layers, len(rows), len(columns))
        packed.append(np.rint(255 * np.sqrt(values)).astype(np.uint8).tobytes())
        views.append(
            {
                "name": title,
                "queries": rows,
                "keys": columns,
                "layers": values.shape[0],
                "heads": values.shape[1],
                "offset": offset,
            }
        )
        offset += values.size
    if not views:
        raise ValueError("plot.attention_page: weights must hold at least one kind of attention, got none")
    data = base64.b64encode(zlib.compress(b"".join(packed), 9)).decode()
    page = json.dumps({"views": views, "weights": data}, ensure_ascii=False).replace("<", "\\u003c")
    html = files("dragoman.plot").joinpath("attention.html").read_text(encoding="utf-8").replace("PAGE", page, 1)
    if path is not None:
        arguments.check_path("plot.attention_page", "path", path)
        atomic_write(path, html.encode())
    return html


def _names(name: str, tokens: Sequence[str] | None) -> list[str]:
    if tokens is None or isinstance(tokens, str) or not all(isinstance(token, str) for token in tokens):
        raise TypeError(f"plot.attention_page: {name} must be a list of str, got {tokens!r}")
    # A half of a character, as a token of bytes may be, is no UTF-8.
    return [token.encode(errors="replace").decode() for token in tokens]


def _stacked(kind: str, layers: Sequence[npt.ArrayLike], queries: int, keys: int) -> npt.NDArray[Any]:
    """The weights of all layers, float64 (layers, heads, queries, keys)."""
    arrays = [np.asarray(layer, np.float64) for layer in layers]
    for i, array in enumerate(arrays):
        if array.ndim != 3 or array.shape[1:] != (queries, keys) or array.shape != arrays[0].shape:
            raise ValueError(
                f"plot.attention_page: weights[{kind!r}][{i}] must have shape (num_heads, {queries}, {keys}), "
                f"got {array.shape}"
            )
        if not (array >= 0).all() or not (array <= 1 + 1e-5).all():
            raise ValueError(f"plot.attention_page: weights[{kind!r}][{i}] must lie in [0, 1], got others")
    if not arrays or arrays[0].size == 0:
        raise ValueError(f"plot.attention_page: weights[{kind!r}] must hold at least one layer and token, got none")
    return np.minimum(np.stack(arrays), 1.0)
