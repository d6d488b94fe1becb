"""JSON from files that others may have written: of bounded size, with no name twice, and with finite numbers only."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from dragoman.arguments import check_regular, shown

MAXIMUM = 1 << 24  # bytes of a file


def read_object(path: str | Path, maximum: int = MAXIMUM) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: naming the file, for more than `maximum` bytes, and as `parse_object`.
    """
    return parse_object(read_bytes(path, maximum), str(path))


def read_bytes(path: str | Path, maximum: int) -> bytes:
    """What a file holds. ValueError, naming the file, for more than `maximum` bytes, and for a pipe or a device."""
    check_regular(path)
    return read_stream(path, maximum)


def read_stream(path: str | Path, maximum: int) -> bytes:
    """As `read_bytes`, and of a pipe, too."""
    with Path(path).open("rb") as file:
        content = file.read(maximum + 1)
    if len(content) > maximum:
        raise ValueError(f"{path}: must have at most {maximum:,} bytes, got more")
    return content


def parse_object(text: str | bytes, origin: str) -> dict[str, Any]:
    """The JSON object in a text.

    Raises:
        ValueError: naming `origin`, when the text is no JSON object, has a name twice in an object, or a number that is
            not finite.
    """
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise ValueError(f"{origin}: must be JSON, got too many brackets inside each other") from None
    except ValueError as error:  # of JSON, of UTF-8, and of the hooks
        raise ValueError(f"{origin}: must be JSON ({error})") from None
    if not isinstance(value, dict):
        raise ValueError(f"{origin}: must hold an object, got {type(value).__name__}")
    return value


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"the name {shown(name)} stands twice in an object")
            seen.add(name)
    return values


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"numbers must be finite, got {constant}")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"numbers must be finite, got {shown(text)}")
    return value
