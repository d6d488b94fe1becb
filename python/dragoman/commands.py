"""What the command line does, one function a command. Mistakes of the user are raised as ValueError or OSError."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
from collections.abc import Iterator
from dataclasses import fields
from itertools import islice
from pathlib import Path

import dragoman
from dragoman import bench as machine_bench
from dragoman import config_file
from dragoman import demo as date_demo
from dragoman.atomic import atomic_write
from dragoman.config import TransformerConfig
from dragoman.data import decode_line, read_parallel, sample_lines
from dragoman.model import Transformer, load
from dragoman.shards import tokenize
from dragoman.tokenizer import Tokenizer
from dragoman.train import Trainer
from dragoman.translator import Translator

PRESETS = {
    "tiny": TransformerConfig.tiny,
    "small": TransformerConfig.small,
    "base": TransformerConfig.base,
    "big": TransformerConfig.big,
}
DROPOUTS = ("dropout", "embedding_dropout")  # what --dropout sets
TASKS = ("translation", "seq2seq")
SOURCE_LENGTH = 1024  # to which seq2seq cuts sources
BLOCK = 256  # lines translated together
SAMPLE_BYTES = 1 << 25  # of text, that a vocabulary is learnt from


def train(options: argparse.Namespace) -> None:
    """Tokenizer and model from files of text, or from the folder of the run that is resumed."""
    if (options.valid_source is None) != (options.valid_target is None):
        raise ValueError("--valid-source and --valid-target go together")
    if options.task == "translation" and options.max_source_length is not None:
        raise ValueError("--max-source-length needs --task seq2seq")
    output = Path(options.output)
    if options.resume:
        model = load(output)
        tokenizer = Tokenizer.load(output / "tokenizer.json")
    else:
        if any((output / "checkpoints").glob("*")):
            raise ValueError(f"{output}: holds a training run; resume it or choose another folder")
        lines = sample_lines([*options.source, *options.target], SAMPLE_BYTES)
        tokenizer = Tokenizer.train(lines, options.vocab_size, options.tokenizer_kind)
        overrides = {} if options.dropout is None else dict.fromkeys(DROPOUTS, options.dropout)
        if options.task == "seq2seq":
            most = options.max_source_length
            overrides["max_source_length"] = SOURCE_LENGTH if most is None else most
        dragoman.manual_seed(getattr(options, "seed", 0))
        model = Transformer(PRESETS[options.preset](vocab_size=tokenizer.vocab_size, **overrides))
    given = {field.name: getattr(options, field.name) for field in fields(Trainer) if hasattr(options, field.name)}
    trainer = Trainer(model, tokenizer=tokenizer, **given)
    pairs = tokenize(tokenizer, options.source, options.target, output / "data", _tell)
    validation = None
    if options.valid_source is not None:
        validation = read_parallel(options.valid_source, options.valid_target)
    if not options.resume:
        atomic_write(output / "train.toml", config_file.dump(options, vars(trainer), options.define))
    trainer.fit(pairs, validation, resume=options.resume)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def translate(options: argparse.Namespace) -> None:
    """Standard input to standard output, a block of lines at a time; at a terminal, line by line."""
    translator = Translator.load(options.folder)
    lines = _input_lines()
    size = 1 if sys.stdin.isatty() else BLOCK
    while block := list(islice(lines, size)):
        outputs = translator(block, options.beam, options.length_penalty)
        sys.stdout.buffer.write("".join(f"{output}\n" for output in outputs).encode())
        sys.stdout.buffer.flush()


def _input_lines() -> Iterator[str]:
    for number, line in enumerate(sys.stdin.buffer, 1):
        yield decode_line(line, "standard input", number)


def evaluate(options: argparse.Namespace) -> None:
    """Scores of a file's translations: readable lines, then one of JSON."""
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ModuleNotFoundError:
        raise ModuleNotFoundError("needs the extra: pip install 'dragoman[text]'") from None
    pairs = read_parallel(options.source, options.target)
    outputs = Translator.load(options.folder)([source for source, _ in pairs], options.beam, options.length_penalty)
    references = [[target for _, target in pairs]]
    result: dict[str, float | str] = {"sentences": len(pairs), "beam": options.beam}
    for name, metric in (("bleu", BLEU()), ("bleu_lowercase", BLEU(lowercase=True)), ("chrf", CHRF())):
        score = metric.corpus_score(outputs, references)
        print(f"{name}: {score} ({metric.get_signature()})")
        result[name] = round(score.score, 2)
        result[f"{name}_signature"] = str(metric.get_signature())
    print(json.dumps(result))


def info(options: argparse.Namespace) -> None:
    """What this installation has, and what a folder's model is made of."""
    stats = dragoman.memory_stats()
    print(f"dragoman {dragoman.__version__}")
    print(f"instruction set: {dragoman.cpu_isa()} (of {', '.join(dragoman.cpu_isas())})")
    print(f"threads: {dragoman.num_threads()}")
    print(f"memory: {stats['allocated']:,} bytes in use, {stats['reserved']:,} reserved")
    print(f"cuda: {dragoman.cuda.status()}")
    for name in ("tokenizers", "sacrebleu", "tqdm"):
        print(f"{name}: {_version(name)}")
    if options.folder is not None:
        model = load(options.folder)
        print(f"\n{options.folder}: {model.num_parameters():,} parameters")
        print(json.dumps(model.config.to_dict(), indent=2))
        print(model)


def bench(options: argparse.Namespace) -> None:
    """How fast this machine is."""
    machine_bench.run(PRESETS[options.preset](), options.seconds)


def demo(options: argparse.Namespace) -> None:
    """Dates in 25 languages."""
    date_demo.run(options.output, seed=options.seed)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing (pip install 'dragoman[text]')"
