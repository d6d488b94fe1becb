"""Fields: a config.json of theirs, read field by field."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from dragoman.arguments import is_number, shown

D = TypeVar("D")

_LARGEST = 2**31 - 1


class _Required:
    """Stands for the default of a field that must be given."""


REQUIRED = _Required()


class Fields:
    """The fields of an object in a JSON file, each checked when it is read.

    A field that is null is absent. An absent field has the default; without one it must be given. Fields that nobody
    reads do not matter: files have many that their own library no longer reads.

    Args:
        values: the object.
        path: of the file, for messages.
        prefix: of the names in messages, for an object inside another one.

    Each method raises ValueError, which names the file, the field, what was expected and what came.
    """

    def __init__(self, values: Mapping[str, Any], path: str | Path, prefix: str = "") -> None:
        self.values = values
        self.path = Path(path)
        self._prefix = prefix

    def has(self, name: str) -> bool:
        """Whether the field is given."""
        return self.values.get(name) is not None

    def is_null(self, name: str) -> bool:
        """Whether the field is given as null, for fields where null means no value and not the default."""
        return name in self.values and self.values[name] is None

    def size(self, name: str, default: D | _Required = REQUIRED) -> int | D:
        """An int of at least 1."""
        found: int | D = self._read(name, default, "an int of at least 1", lambda value: _is_int(value) and value >= 1)
        return found

    def count(self, name: str, default: D | _Required = REQUIRED) -> int | D:
        """An int of at least 0."""
        found: int | D = self._read(name, default, "an int of at least 0", _is_id)
        return found

    def number(self, name: str, default: D | _Required = REQUIRED) -> float | D:
        """A number above 0."""
        found: float | D = self._read(name, default, "a number above 0", lambda value: _is_finite(value) and value > 0)
        return found

    def at_least(self, name: str, minimum: float, default: float) -> float:
        """A number of at least `minimum`."""
        expected = f"a number of at least {minimum:g}"
        return float(self._read(name, default, expected, lambda value: _is_finite(value) and value >= minimum))

    def rate(self, name: str, default: D | _Required = REQUIRED) -> float | D:
        """A number in [0, 1)."""
        found: float | D = self._read(
            name, default, "a number in [0, 1)", lambda value: _is_finite(value) and 0 <= value < 1
        )
        return found

    def flag(self, name: str, default: D | _Required = REQUIRED) -> bool | D:
        """A bool."""
        found: bool | D = self._read(name, default, "true or false", lambda value: isinstance(value, bool))
        return found

    def text(self, name: str, default: D | _Required = REQUIRED) -> str | D:
        """A text."""
        found: str | D = self._read(name, default, "a text", lambda value: isinstance(value, str))
        return found

    def choice(self, name: str, choices: Mapping[str, D], default: D | _Required = REQUIRED) -> D:
        """What stands for a text in `choices`."""
        expected = f"one of {', '.join(choices)}"
        value = self._read(name, None, expected, lambda value: isinstance(value, str) and value in choices)
        if value is not None:
            return choices[value]
        return self._default(name, default, expected)

    def only(self, name: str, value: Any) -> None:
        """Refuses a field that is given with another value: nothing here computes what it asks for."""
        if self.has(name) and self.values[name] != value:
            raise self.error(name, f"{shown(value)}, the only value that is supported")

    def id(self, name: str) -> int | None:
        """A token, or None."""
        return self.count(name, None)

    def ids(self, name: str) -> tuple[int, ...] | None:
        """A token or a list of tokens, as a tuple; or None."""
        value = self.values.get(name)
        if isinstance(value, list) and value and all(_is_id(item) for item in value):
            return tuple(value)
        one = self._read(name, None, "an int of at least 0, or a list of them", _is_id)
        return None if one is None else (one,)

    def section(self, name: str) -> Fields | None:
        """An object inside, or None."""
        value = self._read(name, None, "an object", lambda value: isinstance(value, dict))
        return None if value is None else Fields(value, self.path, f"{self._prefix}{name}.")

    def error(self, name: str, expected: str) -> ValueError:
        """The error for a field that is not as expected, to be raised."""
        return ValueError(f"{self.path}: {self._prefix}{name} must be {expected}, got {shown(self.values.get(name))}")

    def _read(self, name: str, default: Any, expected: str, fits: Any) -> Any:
        value = self.values.get(name)
        if value is None:
            return self._default(name, default, expected)
        if not fits(value):
            raise self.error(name, expected)
        return value

    def _default(self, name: str, default: D | _Required, expected: str) -> D:
        if isinstance(default, _Required):
            raise ValueError(f"{self.path}: {self._prefix}{name} must be given, {expected}, got none")
        return default


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _is_id(value: Any) -> bool:
    return _is_int(value) and value >= 0


def _is_finite(value: Any) -> bool:
    return is_number(value) and abs(value) <= sys.float_info.max
