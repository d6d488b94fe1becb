"""What a folder of theirs holds, in words, for `dragoman info`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dragoman.interop.huggingface.family import family_of
from dragoman.interop.huggingface.fields import Fields
from dragoman.interop.huggingface.weights import open_tensors
from dragoman.models.base import CONFIG

_TOKENIZERS = (
    *("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model"),
    *("tokenizer.model", "source.spm", "target.spm"),
)
_CARD = "README.md"
_LONGEST = 1 << 16  # characters of a card that are looked at


def describe(folder: Path, values: dict[str, Any]) -> Iterator[str]:
    """Lines about the files of a checkpoint: family, weights, tokenizer, licence.

    Args:
        folder: of the model.
        values: of its config.json.

    Raises:
        OSError, ValueError: as `dragoman.load`.
    """
    fields = Fields(values, folder / CONFIG)
    classes = fields.values.get("architectures")
    named = f" ({', '.join(map(str, classes))})" if isinstance(classes, list) and classes else ""
    yield f"family: {fields.text('model_type')}{named}"
    tensors = open_tensors(folder, family_of(fields).aliases)
    yield f"weights: {len(tensors)} tensors, {', '.join(tensors.dtypes())}, in {tensors.path.name}"
    found = [name for name in _TOKENIZERS if (folder / name).exists()]
    yield f"tokenizer: {', '.join(found) or 'none'}"
    yield f"licence: {_licence(fields) or 'not given'}"


def _licence(fields: Fields) -> str | None:
    """The field of config.json, or of the head of the model card."""
    if fields.has("license"):
        return fields.text("license")
    card = fields.path.parent / _CARD
    if not card.is_file():
        return None
    with card.open(encoding="utf-8", errors="replace") as file:
        text = file.read(_LONGEST)
    head = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    line = re.search(r"^license:\s*(\S.*?)\s*$", head[1], re.MULTILINE) if head else None
    return line[1] if line else None
