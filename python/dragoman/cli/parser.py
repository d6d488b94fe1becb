"""The parser of a command's options: short errors that say what may have been meant, in the words of the options."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from dragoman.arguments import did_you_mean


class UsageError(ValueError):
    """Options that cannot be parsed."""


class Parser(argparse.ArgumentParser):
    """Raises UsageError where argparse prints the usage and exits. An unknown option is named before missing ones."""

    def error(self, message: str) -> NoReturn:
        message = re.sub(
            r"^argument (\S+): (?=must )", r"\1 ", message.replace("the following arguments are required:", "needs")
        )
        raise UsageError(message.removeprefix("argument "))

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._check_options(args or ())
        return super().parse_known_args(args, namespace)

    def _check_options(self, arguments: Sequence[str]) -> None:
        known = self._option_string_actions
        for argument in arguments:
            if argument == "--" or (self._subparsers is not None and not argument.startswith("-")):
                return  # what follows are values, or belongs to a command
            name = argument.partition("=")[0]
            if argument.startswith("--") and " " not in name and name not in known:
                by_field = {f"--{action.dest.replace('_', '-')}": action.option_strings for action in self._actions}
                names = {key: flags[0] for key, flags in by_field.items() if flags} | {key: key for key in known}
                raise UsageError(f"unknown option {name}{did_you_mean(name, names)}")


def name_options(message: str, parser: argparse.ArgumentParser) -> str:
    """A message of the library with the options' names in place of the arguments': `--lr must be` for `lr must be`.

    A name counts as one where it is set (`lr=1`), where it must be something, and where it holds an underscore.
    """
    flags = {action.dest: action.option_strings[0] for action in parser._actions if action.option_strings}
    flags |= {name: flags[base] for name, base in _FIELDS.items() if base in flags}
    switches = [action.dest for action in parser._actions if action.option_strings and action.nargs == 0]
    names = "|".join(sorted(map(re.escape, flags), key=len, reverse=True))
    word = rf"(?<![\w/.-])({names})(?![\w/-]|\.\w)"
    message = re.sub(rf"\b({'|'.join(switches)})=True\b", lambda found: flags[found[1]], message)
    index = r"(?:\[\d+\])?"
    message = re.sub(rf"^\w+: (?={word}{index}(?: must| needs?|=))", "", message)
    message = re.sub(rf"{word}='?([^\s,;)']+)'?", lambda found: f"{flags[found[1]]} {found[2]}", message)
    message = re.sub(rf"(?<!the ){word}(?={index} (?:must|need) )", lambda found: flags[found[1]], message)
    message = re.sub(rf"(?<=needs ){word}", lambda found: flags[found[1]], message)
    return re.sub(word, lambda found: flags[found[1]] if "_" in found[1] else found[0], message)


def flag_of(options: argparse.Namespace, name: str) -> str:
    """The name of the option that sets `name`, for a message: --tokenizer of `tokenizer_kind`."""
    actions: list[argparse.Action] = options.parser._actions
    return next(action.option_strings[0] for action in actions if action.dest == name)


_FIELDS = {
    "validation": "valid_fraction",
    "fraction": "valid_fraction",
    "embedding_dropout": "dropout",
    "kind": "tokenizer_kind",
    "constraints": "constraint",
}  # arguments that an option of another name sets
