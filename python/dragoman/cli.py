"""The command line: dragoman train | translate | evaluate | info | bench | demo."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import get_args

import dragoman
from dragoman import commands, config_file
from dragoman.functional import DTYPES
from dragoman.schedule import SCHEDULES
from dragoman.tokenizer import Kind
from dragoman.train import FINALS, SCORES

TRAIN = """\
Trains a Transformer on two files of sentences, line i of one the translation of line i of the other
(UTF-8, plain or .gz; several files a side pair up in their order). DIR gets model.safetensors, config.json,
tokenizer.json, train.toml (these options, for --config), log.jsonl, checkpoints/ and data/ (the token ids).

example:
  dragoman train --source train.en --target train.de --valid-source val.en --valid-target val.de --output en-de
"""
TRANSLATE = """\
Translates standard input, line by line, to standard output; an empty line stays empty.

example:
  dragoman translate en-de < test.en > test.de
"""
EVALUATE = """\
Translates a file and compares it with a reference: BLEU, BLEU without case, and chrF, by sacreBLEU. The last
line of standard output is a JSON object with all of them.

example:
  dragoman evaluate en-de --source test.en --target test.de
"""
DEMO = """\
Learns in two minutes to read dates in 25 languages, made from CLDR without a download, and to write them by ISO
8601. Says how many it gets right of days it has never seen, draws the loss and what the model attends to, and leaves
a model in DIR. The last line of standard output is a JSON object with exact_match (0 to 100) and seconds.

example:
  dragoman demo && echo "en_GB 03/04/2020" | dragoman translate dragoman-demo
"""
INFO = """\
Says what this installation can do and, with DIR, what a model is made of.

example:
  dragoman info en-de
"""
BENCH = """\
Measures in less than a minute how fast this machine multiplies matrices, trains and translates. The last line of
standard output is a JSON object with all figures.

example:
  dragoman bench --threads 2
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 0, 2 for a mistake in what was asked, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["train"]:
        try:
            arguments[1:] = config_file.expand(arguments[1:], _train_arguments)
        except (OSError, ValueError) as error:
            return _refuse("train", _text(error))
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], None] = options.run
    try:
        if options.threads is not None:
            dragoman.set_num_threads(options.threads)
        run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, `head` for one, has seen enough
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

    def command(name: str, text: str, run: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        added = subparsers.add_parser(
            name,
            help=text.partition(".")[0],
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        added.set_defaults(run=run)
        added.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all cores)")
        return added

    _train_arguments(command("train", TRAIN, commands.train))
    translate = command("translate", TRANSLATE, commands.translate)
    translate.add_argument("folder", metavar="DIR", help="a trained model")
    _search_arguments(translate)
    evaluate = command("evaluate", EVALUATE, commands.evaluate)
    evaluate.add_argument("folder", metavar="DIR", help="a trained model")
    evaluate.add_argument("--source", required=True, metavar="FILE", help="sentences to translate")
    evaluate.add_argument("--target", required=True, metavar="FILE", help="their reference translations")
    _search_arguments(evaluate)
    info = command("info", INFO, commands.info)
    info.add_argument("folder", metavar="DIR", nargs="?", help="a trained model")
    bench = command("bench", BENCH, commands.bench)
    bench.add_argument(
        "--preset", choices=commands.PRESETS, default="small", help="model that trains and translates (default: small)"
    )
    bench.add_argument("--seconds", type=float, default=5.0, metavar="X", help="spent on each figure (default: 5)")
    demo = command("demo", DEMO, commands.demo)
    demo.add_argument(
        "--output",
        default="dragoman-demo",
        metavar="DIR",
        help="folder of the model and the pictures, made where missing (default: dragoman-demo)",
    )
    demo.add_argument("--seed", type=int, default=0, metavar="N", help="of data, weights and their order (default: 0)")
    return parser


def _search_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--beam", type=int, default=5, metavar="N", help="beam size; 1 is greedy search (default: 5)")
    parser.add_argument(
        "--length-penalty",
        type=float,
        default=0.6,
        metavar="X",
        help="0 favours short translations, 1 longer ones (default: 0.6)",
    )


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `train`. One that is not given is absent, so that defaults stand in Trainer alone."""
    parser.set_defaults(define=_train_arguments)
    config_file.add_arguments(parser)
    files = parser.add_argument_group("files")
    for name, text in (("source", "training sentences"), ("target", "their translations")):
        files.add_argument(f"--{name}", required=True, nargs="+", metavar="FILE", help=text)
    files.add_argument("--output", required=True, metavar="DIR", help="folder of the model, made where missing")
    for name, text in (("source", "validation sentences"), ("target", "their translations")):
        files.add_argument(f"--valid-{name}", nargs="+", metavar="FILE", help=text)
    files.add_argument(
        "--resume",
        action="store_true",
        help="go on from the newest checkpoint in DIR, with its task, preset, vocabulary and dropout",
    )

    model = parser.add_argument_group("model")
    model.add_argument(
        "--task",
        choices=commands.TASKS,
        default="translation",
        help="translation: pairs with a long side are left out; seq2seq: long sources, as in summarisation, are cut "
        "in training and use (default: translation)",
    )
    model.add_argument(
        "--max-source-length",
        type=int,
        metavar="N",
        help=f"tokens of a source of seq2seq, others are cut (default: {commands.SOURCE_LENGTH})",
    )
    model.add_argument(
        "--preset",
        choices=commands.PRESETS,
        default="tiny",
        help="tiny: 4+4 layers of 128, small: 4+4 of 256, base: 6+6 of 512, big: 6+6 of 1024 (default: tiny)",
    )
    model.add_argument(
        "--vocab-size",
        type=int,
        default=10000,
        metavar="N",
        help="joint vocabulary, 256 bytes on top (default: 10000)",
    )
    model.add_argument(
        "--tokenizer",
        dest="tokenizer_kind",
        choices=get_args(Kind),
        default="bpe",
        help="byte pairs, a unigram language model or single characters (default: bpe)",
    )
    model.add_argument("--dropout", type=float, metavar="P", help="rate (default: 0.1; tiny and big 0.3)")

    def option(group: argparse._ArgumentGroup, flag: str, name: str, kind: type, text: str) -> None:
        group.add_argument(
            f"--{flag}",
            dest=name,
            type=kind,
            default=argparse.SUPPRESS,
            metavar="N" if kind is int else "X",
            help=text,
        )

    def choice(group: argparse._ArgumentGroup, flag: str, name: str, values: Sequence[str], text: str) -> None:
        group.add_argument(f"--{flag}", dest=name, choices=values, default=argparse.SUPPRESS, help=text)

    limits = parser.add_argument_group("limits", "the first one reached ends the run; 30 epochs when none is given")
    option(limits, "epochs", "epochs", int, "passes over the data")
    option(limits, "steps", "max_steps", int, "optimizer steps")
    option(limits, "minutes", "max_minutes", float, "wall-clock time")

    training = parser.add_argument_group("training")
    option(training, "batch-tokens", "batch_tokens", int, "tokens of a batch (default: 4096)")
    option(
        training, "max-length", "max_length", int, "longer ones (seq2seq: targets) are left out (default: 256 tokens)"
    )
    option(training, "min-length", "min_length", int, "shorter sentences are left out (default: 1 token)")
    option(training, "max-ratio", "max_ratio", float, "of the lengths of a pair; others are left out (default: none)")
    option(training, "accumulate", "accumulate", int, "batches per step (default: 1)")
    choice(training, "compute-dtype", "compute_dtype", DTYPES, "of activations (default: float32)")
    option(training, "lr", "lr", float, "peak learning rate (default: 0.64 / d_model, tiny 0.005)")
    option(training, "warmup", "warmup", int, "steps to the peak (default: 2000)")
    option(training, "label-smoothing", "label_smoothing", float, "in [0, 1) (default: 0.1)")
    option(training, "weight-decay", "weight_decay", float, "of AdamW (default: 0)")
    option(training, "clip", "max_grad_norm", float, "largest norm of the gradient (default: 1)")
    choice(training, "schedule", "schedule", SCHEDULES, "fall of the rate (default: inverse_sqrt)")
    option(training, "max-bad-steps", "max_bad_steps", int, "in a row without finite gradient end it (default: 10)")
    choice(training, "best-by", "best_by", SCORES, "validation score that makes a checkpoint the best (default: loss)")
    option(training, "valid-beam", "beam", int, "beam size for bleu and chrf (default: 1)")
    option(training, "patience", "patience", int, "validations without a better one end the run (default: no limit)")
    option(training, "average", "average", int, "last checkpoints to keep (default: 8)")
    option(training, "ema", "ema", float, "decay of a moving average of the weights (default: none)")
    choice(training, "final", "final", FINALS, "weights of the model in the end (default: average)")
    training.add_argument(
        "--tensorboard",
        action="store_true",
        default=argparse.SUPPRESS,
        help="write event files to DIR/tensorboard",
    )
    option(training, "checkpoint-every", "checkpoint_every", int, "steps (default: once an epoch)")
    option(training, "log-interval", "log_interval", int, "steps between lines of log.jsonl (default: 50)")
    option(training, "seed", "seed", int, "of weights, data order and dropout (default: 0)")
