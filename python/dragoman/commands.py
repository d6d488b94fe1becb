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
from dragoman.config import TransformerConfig
from dragoman.data import decode_line, read_parallel
from dragoman.model import Transformer, load
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
BLOCK = 256  # lines translated together


def train(options: argparse.Namespace) -> None:
    """Tokenizer and model from two files, or from the folder of the run that is resumed."""
    if (options.valid_source is None) != (options.valid_target is None):
        raise ValueError("--valid-source and --valid-target go together")
    pairs = read_parallel(options.source, options.target)
    validation = None
    if options.valid_source is not None:
        validation = read_parallel(options.valid_source, options.valid_target)
    if options.resume:
        model = load(options.output)
        tokenizer = Tokenizer.load(Path(options.output) / "tokenizer.json")
    else:
        tokenizer = Tokenizer.train((line for pair in pairs for line in pair), options.vocab_size)
        rates = {} if options.dropout is None else dict.fromkeys(DROPOUTS, options.dropout)
        dragoman.manual_seed(getattr(options, "seed", 0))
        model = Transformer(PRESETS[options.preset](vocab_size=tokenizer.vocab_size, **rates))
    given = {field.name: getattr(options, field.name) for field in fields(Trainer) if hasattr(options, field.name)}
    trainer = Trainer(model, tokenizer=tokenizer, **given)
    trainer.fit(pairs, validation, resume=options.resume)


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


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing (pip install 'dragoman[text]')"
