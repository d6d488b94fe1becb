"""Checks of a user's arguments. A message names the op, the argument, what was expected and what it got.

Who checks a number goes on with what the check returns: a number of NumPy is one of Python from then on.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from reprlib import Repr
from typing import Any

import numpy as np

_LARGEST = float(np.finfo(np.float32).max)  # arithmetic runs in float32


def check_types(op: str, kind: type, **arguments: Any) -> None:
    """TypeError unless each argument is a `kind`."""
    for name, value in arguments.items():
        if not isinstance(value, kind):
            raise TypeError(f"{op}: {name} must be {with_article(kind.__name__)}, got {type(value).__name__}")


def with_article(noun: str) -> str:
    """A noun with its article: `an int`, `a str`."""
    return f"{'an' if noun[:1] in 'AEIOaeio' else 'a'} {noun}"


def check_callable(op: str, **arguments: Any) -> None:
    """TypeError unless each argument can be called."""
    for name, value in arguments.items():
        if not callable(value):
            raise TypeError(f"{op}: {name} must be callable, got {type(value).__name__}")


def check_has(op: str, name: str, value: Any, *attributes: str) -> None:
    """TypeError unless `value` has the attributes."""
    for attribute in attributes:
        if isinstance(value, type) or not hasattr(value, attribute):
            raise TypeError(f"{op}: {name} must have {attribute}, got {type(value).__name__}")


def check_arrays(op: str, name: str, values: Any) -> None:
    """TypeError unless `values` is a mapping to arrays."""
    check_types(op, Mapping, **{name: values})
    for key, value in values.items():
        if not (hasattr(value, "shape") and hasattr(value, "dtype")):
            raise TypeError(f"{op}: {name}[{shown(key)}] must be an array, got {type(value).__name__}")


def shown(value: Any) -> str:
    """The repr of a value for a message, cut where it is long."""
    try:
        return _short.repr(value.item() if isinstance(value, np.generic) else value)
    except ValueError:  # Python prints no int of more than 4300 digits
        return f"an int of {value.bit_length()} bits" if isinstance(value, int) else with_article(type(value).__name__)


def described(value: Any) -> str:
    """The type of a value and how it looks, for a message: `float nan`."""
    return "None" if value is None else f"{type(value).__name__} {shown(value)}"


_short = Repr()
_short.maxstring = _short.maxlong = _short.maxother = 80


def is_number(value: Any) -> bool:
    """Whether `value` is a real number. A bool and a time are none."""
    return is_integer(value) or isinstance(value, float | np.floating)


def is_integer(value: Any) -> bool:
    """Whether `value` is an int. A bool and a time are none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool | np.timedelta64)


def number(op: str, name: str, value: Any, minimum: float = -_LARGEST, below: float | None = None) -> float:
    """`value` as a float in [minimum, below). TypeError for other types, ValueError for NaN and out of range."""
    if not is_number(value):
        raise TypeError(f"{op}: {name} must be a number, got {type(value).__name__}")
    if isinstance(value, np.floating):
        value = float(value)  # in float16, a comparison with the largest float32 overflows
    finite = -_LARGEST <= value <= _LARGEST
    if below is not None and not (finite and minimum <= value < below):
        raise ValueError(f"{op}: {name} must lie in [{minimum:g}, {below:g}), got {shown(value)}")
    if not finite:
        raise ValueError(f"{op}: {name} must be finite in float32, got {shown(value)}")
    result = float(value)
    if result < minimum:
        raise ValueError(f"{op}: {name} must be at least {minimum:g}, got {shown(value)}")
    return result


def positive(op: str, name: str, value: Any) -> float:
    """`value` as a float above 0. TypeError and ValueError as in `number`."""
    result = number(op, name, value)
    if result <= 0:
        raise ValueError(f"{op}: {name} must be above 0, got {shown(value)}")
    return result


def integer(op: str, name: str, value: Any, minimum: int = 0, below: int = 2**63) -> int:
    """`value` as an int in [minimum, below), `below` a power of 2. TypeError for other types, ValueError elsewhere."""
    if not is_integer(value):
        raise TypeError(f"{op}: {name} must be an int, got {type(value).__name__}")
    if value < minimum:
        raise ValueError(f"{op}: {name} must be at least {minimum}, got {shown(value)}")
    if value >= below:
        raise ValueError(f"{op}: {name} must be below 2^{below.bit_length() - 1}, got {shown(value)}")
    return int(value)


def integers(op: str, name: str, values: Any, minimum: int = 0) -> list[int]:
    """`values` as a list of ints of at least `minimum`. TypeError and ValueError as in `integer`."""
    try:
        items = None if isinstance(values, str) else list(values)
    except TypeError:
        items = None
    if items is None:
        raise TypeError(f"{op}: {name} must be a sequence of ints, got {type(values).__name__}")
    return [integer(op, name, item, minimum) for item in items]


def check_path(op: str, name: str, value: Any) -> None:
    """TypeError unless `value` is a str or a path, ValueError for one that no file can have."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{op}: {name} must be a path, got {type(value).__name__}")
    if "\0" in os.fspath(value):
        raise ValueError(f"{op}: {name} must be a path without a null character, got {shown(value)}")


def check_regular(path: str | os.PathLike[str], why: str = "") -> None:
    """ValueError for a pipe, a device or a socket, which may never end or never answer. OSError if it is missing."""
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # opening a folder has an error of its own
        raise ValueError(f"{path}: must be a file{why}, got a pipe, a device or a socket")


def flag(op: str, name: str, value: Any) -> bool:
    """`value` as a bool. TypeError if it is not one."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{op}: {name} must be a bool, got {type(value).__name__}")
    return bool(value)


def choice(op: str, name: str, value: Any, choices: tuple[str, ...]) -> str:
    """`value`, one of `choices`. TypeError if it is not a str, ValueError if it is another one."""
    if not isinstance(value, str):
        raise TypeError(f"{op}: {name} must be a str, got {type(value).__name__}")
    if value not in choices:
        raise ValueError(f"{op}: {name} must be one of {', '.join(choices)}, got {shown(value)}")
    return value


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """A hint about the nearest of `names`, or nothing. Of a mapping's names, the value is what is meant."""
    import difflib  # for errors alone

    close = difflib.get_close_matches(name, list(names), 1)
    if not close:
        return ""
    return f"; did you mean {names[close[0]] if isinstance(names, Mapping) else close[0]}?"


def size(op: str, name: str, value: Any) -> int:
    """`value` as an int in [1, 2^31). TypeError and ValueError as in `integer`."""
    return integer(op, name, value, 1, 2**31)


def rate(op: str, name: str, value: Any) -> float:
    """`value` as a float in [0, 1). TypeError and ValueError as in `number`."""
    return number(op, name, value, 0.0, 1.0)
