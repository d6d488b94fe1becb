"""dragoman train: a tokenizer and a model from files of text."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import get_args

from dragoman.cli import config_file
from dragoman.cli.corpus import Corpus, add_columns_argument, corpora
from dragoman.cli.device_option import add_device_argument
from dragoman.cli.numbers import COUNT, REAL, SEED, Number
from dragoman.cli.presets import PRESETS
from dragoman.cli.resumed import keep_as_begun
from dragoman.cli.task_options import (
    add_file_arguments,
    add_model_arguments,
    check_given,
    complete,
    learn,
    new_model,
    training_defaults,
)
from dragoman.data.learning import LARGEST, MINIMUM
from dragoman.data.vocabulary import Kind
from dragoman.distributed import this_process
from dragoman.files import atomic_write
from dragoman.functional.operands import ACTIVATION_DTYPES
from dragoman.models.folder import load
from dragoman.train.callbacks import Callback
from dragoman.train.fine_tuning import RATE
from dragoman.train.folder import DATA, OPTIONS, check_folder
from dragoman.train.options import FINALS, TrainingOptions
from dragoman.train.progress import tell
from dragoman.train.schedule import SCHEDULES
from dragoman.train.scores import TOKENIZERS
from dragoman.train.summarisation import SOURCE_LENGTH
from dragoman.train.task import Later, Task
from dragoman.train.tasks import TASKS
from dragoman.train.trainer import Trainer

DESCRIPTION = """\
Trains a Transformer. By default on two files of sentences: line i of one file is the translation of line i of the
other. With --task on other data: labelled texts, tagged words, text alone, images; see docs/guide/tasks.md.
Files are UTF-8, plain or .gz, .bz2, .xz, .zst; several on each side pair up in their order. Writes model.safetensors,
config.json, tokenizer.json, train.toml (these options, for --config), log.jsonl, checkpoints/ and data/ (the token
ids) to DIR.

examples:
  dragoman train --source train.en --target train.de --valid-source val.en --valid-target val.de --output en-de
  dragoman train --task classify --data train.tsv --valid valid.tsv --columns label,text --output sentiment
"""


TASK = "translate"

ALIASES = {"translation": "translate", "seq2seq": "summarise"}

SCORES = ("loss", *sorted({name for task in TASKS.values() for name in task.scores}))

MINUTES = Number(float, 0, 10**6)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `train`. An option that is not given is absent, so that only TrainingOptions has defaults."""
    parser.set_defaults(define=add_arguments)
    config_file.add_arguments(parser)
    files = parser.add_argument_group("files")
    for name, text in (("source", "training sentences, in files or pipes"), ("target", "their translations")):
        files.add_argument(f"--{name}", nargs="+", metavar="FILE", help=text)
    files.add_argument("--output", required=True, metavar="DIR", help="folder of the model, created where missing")
    for name, text in (("source", "validation sentences"), ("target", "their translations")):
        files.add_argument(f"--valid-{name}", nargs="+", metavar="FILE", help=text)
    files.add_argument(
        "--valid-fraction",
        type=Number(float, 1e-9, 0.5),
        metavar="X",
        help="share of the training pairs that are held out for validation instead",
    )
    add_columns_argument(files)
    add_file_arguments(files)
    files.add_argument(
        "--resume",
        action="store_true",
        help="continue from the newest checkpoint in DIR; task, model and vocabulary stay as they were begun",
    )
    files.add_argument("--overwrite", action="store_true", help="replace the run or the model in DIR")

    model = parser.add_argument_group("model")
    model.add_argument(
        "--task",
        choices=(*TASKS, *ALIASES),
        help="translate (or translation): leaves out pairs with a long side; summarise (or seq2seq): cuts long sources "
        "instead; classify: labels of texts; tag: tags of words; lm: text that goes on; mlm: masked tokens of text; "
        "denoise: text with noise; image: labels of images (default: translate)",
    )
    model.add_argument(
        "--max-source-length",
        type=COUNT,
        metavar="N",
        help=f"summarise: maximum tokens of a source; longer ones are cut (default: {SOURCE_LENGTH})",
    )
    model.add_argument(
        "--preset",
        choices=PRESETS,
        help="tiny: 4+4 layers of 128, small: 4+4 of 256, base: 6+6 of 512, big: 6+6 of 1024; without a source, "
        "half of the layers (default: tiny)",
    )
    model.add_argument(
        "--vocab-size",
        type=Number(int, MINIMUM, LARGEST),
        metavar="N",
        help="maximum tokens of the joint vocabulary, without the 256 bytes (default: 10000; of tiny translators 6000)",
    )
    model.add_argument(
        "--tokenizer",
        dest="tokenizer_kind",
        choices=get_args(Kind),
        help="byte pairs, a unigram language model or single characters (default: bpe)",
    )
    model.add_argument(
        "--lowercase", action="store_true", default=None, help="the tokenizer writes every text in lower case"
    )
    add_model_arguments(model)
    model.add_argument(
        "--dropout", type=REAL, metavar="P", help="dropout rate (default: 0.1; big and tiny 0.3, tiny translators 0.2)"
    )

    def option(group: argparse._ArgumentGroup, flag: str, name: str, kind: Number, text: str) -> None:
        group.add_argument(
            f"--{flag}",
            dest=name,
            type=kind,
            default=argparse.SUPPRESS,
            metavar="N" if kind.kind is int else "X",
            help=text,
        )

    def choice(group: argparse._ArgumentGroup, flag: str, name: str, values: Sequence[str], text: str) -> None:
        group.add_argument(f"--{flag}", dest=name, choices=values, default=argparse.SUPPRESS, help=text)

    limits = parser.add_argument_group(
        "limits", "the first one reached ends the run; by default 30 epochs, of labels 10, with --from 3"
    )
    option(limits, "epochs", "epochs", COUNT, "passes over the data")
    option(limits, "steps", "max_steps", COUNT, "optimizer steps")
    option(limits, "minutes", "max_minutes", MINUTES, "wall-clock time")

    training = parser.add_argument_group("training")
    add_device_argument(training)
    option(
        training, "batch-tokens", "batch_tokens", COUNT, "tokens per batch (default: 4096; of tiny translators 1024)"
    )
    option(
        training,
        "max-length",
        "max_length",
        COUNT,
        "maximum tokens of a sentence (summarise: of a target) (default: 256)",
    )
    option(training, "min-length", "min_length", COUNT, "minimum tokens of a sentence (default: 1)")
    option(training, "max-ratio", "max_ratio", REAL, "maximum ratio of the two lengths of a pair (default: none)")
    option(training, "accumulate", "accumulate", COUNT, "batches per step (default: 1)")
    choice(training, "compute-dtype", "compute_dtype", ACTIVATION_DTYPES, "dtype of activations (default: float32)")
    training.add_argument(
        "--checkpoint-layers",
        action="store_true",
        default=argparse.SUPPRESS,
        help="compute layers again in backward: less memory, more time, the same bits",
    )
    option(
        training,
        "lr",
        "lr",
        REAL,
        "peak learning rate (default: 0.64 / d_model; of tiny translators 0.003, labels and mlm 0.001; "
        f"with --from {RATE} / d_model, which is 5e-5 for a d_model of 768)",
    )
    option(
        training,
        "warmup",
        "warmup",
        COUNT,
        "steps until the peak, at most half of the run (default: 2000; of tiny translators 1000, of labels and with "
        "--from 200)",
    )
    option(
        training,
        "label-smoothing",
        "label_smoothing",
        REAL,
        "share that is spread over the vocabulary, in [0, 1) (default: 0.1; of lm and mlm 0)",
    )
    option(
        training,
        "bpe-dropout",
        "bpe_dropout",
        REAL,
        "translate, summarise, classify, tag: share of the merges of byte pairs that are left out of training text, "
        "anew for every batch (default: 0; the paper has 0.1)",
    )
    option(training, "weight-decay", "weight_decay", REAL, "weight decay of AdamW (default: 0)")
    option(training, "clip", "max_grad_norm", REAL, "maximum norm of the gradient (default: 1)")
    training.add_argument(
        "--freeze",
        nargs="+",
        default=argparse.SUPPRESS,
        metavar="PATTERN",
        help="parameters that are not trained, by shell patterns over their names, as 'embedding.*'",
    )
    option(training, "layer-decay", "layer_decay", REAL, "factor on the rate from a layer to the one below")
    choice(
        training,
        "schedule",
        "schedule",
        SCHEDULES,
        "decay of the learning rate (default: inverse_sqrt; of labels and with --from linear)",
    )
    option(
        training,
        "max-bad-steps",
        "max_bad_steps",
        COUNT,
        "steps in a row without a finite gradient that end the run (default: 10)",
    )
    choice(
        training,
        "best-by",
        "best_by",
        SCORES,
        "validation score that compares checkpoints (default: loss; of labels accuracy)",
    )
    option(training, "valid-beam", "beam", COUNT, "beam size for bleu, chrf and rouge (default: 1)")
    choice(training, "bleu-tokenize", "bleu_tokenize", TOKENIZERS, "sacreBLEU's tokenizer for bleu (default: 13a)")
    option(
        training,
        "patience",
        "patience",
        COUNT,
        "validations in a row without a better one that end the run (default: none)",
    )
    option(
        training,
        "average",
        "average",
        COUNT,
        "number of last checkpoints to keep (default: 8, or fewer where they take over 4 GiB)",
    )
    option(training, "ema", "ema", REAL, "decay of a moving average of the weights (default: none)")
    choice(training, "final", "final", FINALS, "weights of the final model (default: average; of labels best)")
    training.add_argument(
        "--tensorboard",
        action="store_true",
        default=argparse.SUPPRESS,
        help="write event files to DIR/tensorboard",
    )
    option(training, "checkpoint-every", "checkpoint_every", COUNT, "steps between checkpoints (default: an epoch)")
    option(training, "log-interval", "log_interval", COUNT, "steps between lines of log.jsonl (default: 50)")
    option(training, "seed", "seed", SEED, "seed of weights, data order and dropout (default: 0)")


def command(options: argparse.Namespace) -> None:
    """Trains a tokenizer and a model from files of text, or resumes a run."""
    ranks = this_process()
    ranks.caller_reports = True
    if ranks.first:
        check_folder(options.output, resume=options.resume, overwrite=options.overwrite)  # before minutes of reading
    if options.resume:
        keep_as_begun(options, ALIASES)
    options.task = options.task or TASK
    kind = TASKS[ALIASES.get(options.task, options.task)]
    check_given(options, kind)
    complete(options, kind)
    chosen = None if kind.name == "classify" else options.columns  # it reads its tables itself
    with corpora(options, kind.files, chosen) as (files, held_out):
        _train(options, kind, files, held_out)


def _train(options: argparse.Namespace, kind: type[Task], files: Corpus, held_out: Corpus | None) -> None:
    output = Path(options.output)
    if options.resume:
        model, task = load(output), kind.load(output)
    else:
        task = learn(options, kind, files)
        model = new_model(options, task)
    names = [field.name for field in fields(TrainingOptions) if hasattr(options, field.name)]
    given = {name: getattr(options, name) for name in names}
    validated = held_out is not None or options.valid_fraction is not None
    trainer = Trainer(model, task=task, **training_defaults(options, task, model, given, validated), **given)
    if not options.resume and this_process().first:
        trainer.callbacks = [_KeepOptions(output / OPTIONS, config_file.dump(options, vars(trainer), options.define))]
    validation = options.valid_fraction if held_out is None else list(task.read(held_out))
    trainer.fit(
        Later(lambda: task.shards(files, output / DATA, tell)),
        validation,
        resume=options.resume,
        overwrite=options.overwrite,
    )


class _KeepOptions(Callback):
    """Writes the options of a new run. A resumed run has them already, or cannot know those of its model."""

    def __init__(self, path: Path, toml: bytes) -> None:
        self._path = path
        self._toml = toml

    def on_begin(self, step: int) -> None:
        atomic_write(self._path, self._toml)
