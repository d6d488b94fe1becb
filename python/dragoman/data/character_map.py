"""The character map of a "Precompiled" normalizer, as SentencePiece writes it, checked before the library reads it.

base64 of: the size of a trie in bytes (uint32, little-endian); the trie, a double array of uint32 units (Aoe 1989, as
in darts-clone); then texts, each with a zero byte behind it. A leaf of the trie says where a text begins.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np

from dragoman.arguments import shown

_MAXIMUM = 1 << 24  # bytes


def check_character_map(where: str, value: Any) -> str:
    """`value`, once known to be a character map all of whose leaves and branches stay inside it; else ValueError."""
    if not isinstance(value, str) or len(value) > _MAXIMUM:
        raise ValueError(f"{where} must be base64 of at most {_MAXIMUM} characters, got {shown(value)}")
    try:
        data = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{where} must be base64 ({error})") from None
    size = int.from_bytes(data[:4], "little")
    if len(data) < 4 or size % 1024 or not 0 < size <= len(data) - 4:
        raise ValueError(f"{where} must begin with the size of its trie, got {size} of {len(data)} bytes")
    units, texts = np.frombuffer(data, "<u4", size // 4, 4), data[4 + size :]
    _check_trie(where, units, _starts(where, texts))
    return value


def growth_of_character_map(value: str) -> float:
    """How many times as long a text can become: the longest text in characters, for one character."""
    if not value:
        return 1.0
    data = base64.b64decode(value)
    return float(max(map(len, data[4 + int.from_bytes(data[:4], "little") :].decode().split("\0"))))


def _starts(where: str, texts: bytes) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Where texts begin."""
    try:
        texts.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} must hold texts in UTF-8 ({error})") from None
    if not texts.endswith(b"\0"):
        raise ValueError(f"{where} must end in a zero byte")
    ends = np.flatnonzero(np.frombuffer(texts, np.uint8) == 0)
    return np.concatenate([[0], ends[:-1] + 1])


def _check_trie(where: str, units: Any, starts: Any) -> None:
    """Looks at every unit, whether it can be reached or not.

    A unit: bit 31 marks the value of a leaf, in bits 0 to 30. Otherwise bit 8 says that the first child is a leaf, and
    the children begin at this unit's number XOR an offset, bits 10 to 30, times 256 where bit 9 is set.
    """
    inner = np.flatnonzero(units >> 31 == 0)
    unit = units[inner].astype(np.int64)
    first = inner ^ ((unit >> 10) << ((unit >> 6) & 8))
    if (outside := (first | 255) >= len(units)).any():
        raise ValueError(f"{where}: unit {inner[outside][0]} of the trie must branch inside it")
    leaves = first[unit & 256 != 0]
    values = units[leaves].astype(np.int64) & 0x7FFFFFFF
    if not (good := np.isin(values, starts)).all():
        raise ValueError(f"{where}: unit {leaves[~good][0]} of the trie must say where a text begins")
