"""The command line: dragoman COMMAND; the commands are in `COMMANDS`."""

from __future__ import annotations

import argparse
import errno
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import dragoman
from dragoman.arguments import did_you_mean
from dragoman.cli import (
    bench,
    config_file,
    demo,
    evaluate,
    explain,
    freeze,
    info,
    predict,
    score,
    serve,
    train,
    transcribe,
    translate,
)
from dragoman.cli.device_option import device
from dragoman.cli.numbers import THREADS
from dragoman.cli.parser import Parser, UsageError, name_options
from dragoman.cli.streams import flush_or_drop, open_closed_streams
from dragoman.distributed import is_first, leave
from dragoman.train.progress import tell

COMMANDS = {
    module.__name__.rpartition(".")[2]: module
    for module in (train, freeze, translate, transcribe, score, predict, serve, evaluate, explain, info, bench, demo)
}
ERRORS = (
    OSError, ValueError, FloatingPointError, ModuleNotFoundError, MemoryError, OverflowError, RecursionError,
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Returns:
        The exit status: 0; 2 after an error, told in one sentence on standard error; 1 where memory is short, or when
        the reader of standard output has closed it, as `head` does; 130 after Ctrl-C.
    """
    open_closed_streams()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    command = arguments[0] if arguments[:1] and arguments[0] in COMMANDS else ""
    parser: argparse.ArgumentParser | None = None
    try:
        options = _parse(arguments)
        parser = options.parser
        if options.threads is not None:
            dragoman.set_num_threads(options.threads)
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: tell(f"dragoman {command}: {message}")
            run: Callable[[argparse.Namespace], None] = options.run
            run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        leave("interrupted", 130, printed=False)
        return 130
    except ERRORS as error:
        text = _text(error)
        if parser is not None and not isinstance(error, OSError):
            text = name_options(text, parser)
        text, status = " ".join(text.split()), 1 if isinstance(error, MemoryError) else 2
        tell(f"dragoman {command}".strip() + f": {text}")
        leave(text, status, printed=is_first())
        return status
    except Exception as error:  # a fault of the program
        leave("".join(traceback.format_exception(error)), 1, printed=False)
        raise
    finally:
        flush_or_drop()
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    """The options of a command, with those of a configuration file. OSError, ValueError."""
    if not arguments:
        raise UsageError(f"needs a command: {', '.join(COMMANDS)}; see dragoman --help")
    name = arguments[0]
    if not name.startswith("-") and name not in COMMANDS:
        raise UsageError(f"unknown command {name!r}{did_you_mean(name, list(COMMANDS)) or '; see dragoman --help'}")
    for argument in arguments:
        if argument.startswith("--") and argument.endswith("=--"):  # argparse would make it an empty list
            raise UsageError(f"{argument[:-3]} must have a value, got --")
    if name == "train":
        arguments = [name, *config_file.expand(arguments[1:], train.add_arguments)]
    options = _parser().parse_args(arguments)
    if hasattr(options, "device"):
        options.device = device(options.device)
    for action in options.parser._actions:
        if action.option_strings or action.dest == "folder":
            _check_text(
                action.option_strings[0] if action.option_strings else "DIR", getattr(options, action.dest, None)
            )
    return options


def _check_text(name: str, value: Any) -> None:
    """ValueError for a name that no file of settings and no library can hold."""
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str) and ("\0" in text or text != text.encode(errors="replace").decode()):
            raise ValueError(f"{name} must be UTF-8 text without NUL, got {text!r}")


def _text(error: BaseException) -> str:
    """An error in words."""
    if isinstance(error, MemoryError):
        return str(error) if "memory" in str(error) else f"out of memory ({error})".removesuffix(" ()")
    if isinstance(error, RecursionError):
        return "the input is nested too deeply"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError) and error.errno == errno.EBADF:
        return "standard output is closed"
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def _parser() -> Parser:
    parser = Parser(
        prog="dragoman",
        description="Builds, trains and serves Transformers: translation, labels, tags, text, images.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"dragoman {dragoman.__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        added = subparsers.add_parser(
            name,
            help=_first_sentence(module.DESCRIPTION),
            description=module.DESCRIPTION,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        added.set_defaults(run=module.command, parser=added)
        added.add_argument("--threads", type=THREADS, metavar="N", help="CPU threads (default: all cores)")
        module.add_arguments(added)
    return parser


def _first_sentence(text: str) -> str:
    """The first sentence without its stop, on one line; a stop before a letter, as in `.gz`, ends none."""
    return " ".join(re.split(r"\.(?=\s|$)", text, maxsplit=1)[0].split())
