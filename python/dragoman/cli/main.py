"""The command line: dragoman train | translate | evaluate | info | bench | demo."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

import dragoman
from dragoman.cli import bench, config_file, demo, evaluate, info, train, translate


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command. Returns the exit status: 0, 2 for a mistake of the user, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["train"]:
        try:
            arguments[1:] = config_file.expand(arguments[1:], train.add_arguments)
        except (OSError, ValueError) as error:
            return _refuse("train", _text(error))
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], None] = options.run
    try:
        if options.threads is not None:
            dragoman.set_num_threads(options.threads)
        run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    except (OSError, ValueError, FloatingPointError, ModuleNotFoundError) as error:
        return _refuse(options.command, _text(error))
    return 0


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _refuse(command: str, message: str) -> int:
    print(f"dragoman {command}: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dragoman", description="Builds, trains and serves Transformers for translation."
    )
    parser.add_argument("--version", action="version", version=f"dragoman {dragoman.__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (train, translate, evaluate, info, bench, demo):
        added = subparsers.add_parser(
            module.__name__.rpartition(".")[2],
            help=module.DESCRIPTION.partition(".")[0],
            description=module.DESCRIPTION,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        added.set_defaults(run=module.command)
        added.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all cores)")
        module.add_arguments(added)
    return parser
