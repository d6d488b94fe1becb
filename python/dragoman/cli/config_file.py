"""TOML files for the options of a command: flat `key = value` lines; keys have the names of the options.

The options themselves are the schema: what argparse knows of them (name, type, choices, how many values) is what a
file is checked against, so no key can be forgotten here.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dragoman.arguments import check_regular, did_you_mean, shown
from dragoman.json_file import read_stream

Define = Callable[[argparse.ArgumentParser], None]  # adds a command's options to a parser
Value = str | bool | int | float | list[str]

_MAXIMUM = 1 << 20  # bytes of a file
_DOTS = 100  # in one of its lines

_NOT_KEYS = ("config", "set", "resume", "overwrite")  # they belong to one call, not to the model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --config and --set."""
    group = parser.add_argument_group("configuration", "what is given as an option wins over --set, and that over FILE")
    group.add_argument(
        "--config", metavar="FILE", help='TOML file of options, as in `batch_tokens = 4096`, `source = ["a", "b"]`'
    )
    group.add_argument("--set", metavar="KEY=VALUE", action="append", help="one more line for the file")


def expand(arguments: Sequence[str], define: Define) -> list[str]:
    """The arguments of a command, after arguments for the keys of its --config and --set.

    Raises:
        OSError: the file cannot be read.
        ValueError: naming the file or option, the key, and what is wrong with it.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    add_arguments(parser)
    try:
        found, _ = parser.parse_known_args(arguments)
    except argparse.ArgumentError:
        return list(arguments)  # the command's own parser has a better message
    actions = _actions(define)
    values: dict[str, Value] = {}
    if found.config is not None:
        values = check(_read(found.config), actions, found.config)
    for assignment in found.set or ():
        values |= check(assigned(assignment, "--set"), actions, "--set")
    spelt: list[str] = []
    for key, value in values.items():
        flag = actions[key].option_strings[0]
        if isinstance(value, list):
            spelt += [flag, *value]
        elif value is True:
            spelt.append(flag)
        elif value is not False:
            spelt.append(f"{flag}={value}")
    return [*spelt, *arguments]


def read(path: str | Path, define: Define) -> dict[str, Value]:
    """The options in a file, by `dest`. OSError, ValueError as in `expand`."""
    check_regular(path)
    actions = _actions(define)
    values = check(_read(str(path)), actions, str(path))
    return {actions[key].dest: value for key, value in values.items()}


def dump(options: argparse.Namespace, fields: Mapping[str, Any], define: Define) -> bytes:
    """The options in effect as TOML that `expand` reads.

    Args:
        options: the parsed options.
        fields: values of options that were not given, by `dest`; None is left out.
        define: as in `expand`.
    """
    lines = []
    for key, action in _actions(define).items():
        value = getattr(options, action.dest, None)
        if value is None:
            value = fields.get(action.dest)
        if value is not None and value != ():
            lines.append(f"{key} = {_toml(value)}\n")
    return "".join(lines).encode()


def check(values: Mapping[str, Any], actions: Mapping[str, argparse.Action], origin: str) -> dict[str, Value]:
    """The values, after checks of each key and type. ValueError as in `expand`."""
    checked: dict[str, Value] = {}
    for key, value in values.items():
        if key not in actions:
            names = {action.dest: name for name, action in actions.items()} | {name: name for name in actions}
            raise ValueError(f"{origin}: unknown key {shown(key)}{did_you_mean(key, names)}")
        checked[key] = _checked(value, actions[key], f"{origin}: {key}")
    return checked


def _actions(define: Define) -> dict[str, argparse.Action]:
    """The options of a command by their keys."""
    parser = argparse.ArgumentParser(add_help=False)
    define(parser)
    keys = ((action.option_strings[0].lstrip("-").replace("-", "_"), action) for action in parser._actions)
    return {key: action for key, action in keys if key not in _NOT_KEYS}


def _read(path: str) -> dict[str, Any]:
    try:
        content = read_stream(path, _MAXIMUM).decode("utf-8-sig")
        if any(line.count(".") > _DOTS for line in content.splitlines()):
            raise ValueError(f"a line must have at most {_DOTS} dots")  # each opens a table in the one before
        return tomllib.loads(content)
    except RecursionError:
        raise ValueError(f"{path}: not a TOML file (too many brackets inside each other)") from None
    except ValueError as error:  # of TOML, and of UTF-8
        raise ValueError(f"{path}: not a TOML file ({error})") from None


def assigned(text: str, flag: str) -> dict[str, Any]:
    """Parses KEY=VALUE of an option. A value that is not TOML is a string. ValueError, naming the option."""
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{flag}: must be KEY=VALUE, got {text!r}")
    try:
        parsed = tomllib.loads(f"value = {value}")
    except (ValueError, RecursionError):
        parsed = {}
    return {key.strip(): parsed["value"] if len(parsed) == 1 else value}


def _checked(value: Any, action: argparse.Action, name: str) -> Value:
    if action.nargs == 0:
        return _of_type(value, bool, "true or false", name)
    if action.nargs == "+":
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list) or not items or not all(isinstance(item, str) for item in items):
            raise ValueError(f"{name} must be a string or a list of them, got {shown(value)}")
        return list(items)
    kind = getattr(action.type, "kind", action.type)  # of a Number
    if kind is int:
        return _of_type(value, int, "an integer", name)
    if kind is float:
        return _of_type(value, (int, float), "a number", name)
    if action.choices is not None and (not isinstance(value, str) or value not in action.choices):
        raise ValueError(f"{name} must be one of {_join(action.choices)}, got {shown(value)}")
    return _of_type(value, str, "a string", name)


def _of_type(value: Value, types: type | tuple[type, ...], words: str, name: str) -> Value:
    if not isinstance(value, types) or (isinstance(value, bool) and types is not bool):
        raise ValueError(f"{name} must be {words}, got {shown(value)}")
    return value


def _join(choices: Iterable[Any]) -> str:
    return ", ".join(map(str, choices))


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
