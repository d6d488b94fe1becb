"""dragoman info: describes this installation and a model."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import dragoman
from dragoman.frozen import FrozenWeight
from dragoman.models.base import huggingface
from dragoman.models.folder import load
from dragoman.nn import Module, Parameter
from dragoman.train.task import TASK
from dragoman.train.tasks import task_name

DESCRIPTION = """\
Says what this installation can do and, with DIR, what a model is made of.

example:
  dragoman info en-de
"""


_SHOWN = 3  # names of a tied weight


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", metavar="DIR", nargs="?", help="a trained model, or a checkpoint of the Hugging Face libraries"
    )


def command(options: argparse.Namespace) -> None:
    """Describes this installation, and the model in a folder."""
    model = None if options.folder is None else load(options.folder)
    stats = dragoman.memory_stats()
    print(f"dragoman {dragoman.__version__}")
    print(f"instruction set: {dragoman.cpu_isa()} (of {', '.join(dragoman.cpu_isas())})")
    print(f"threads: {dragoman.num_threads()}")
    print(f"memory: {stats['allocated']:,} bytes in use, {stats['reserved']:,} reserved")
    print(f"cuda: {dragoman.cuda.status()}")
    for name in ("tokenizers", "sacrebleu", "tqdm"):
        print(f"{name}: {_version(name)}")
    if model is not None:
        task = f", task {task_name(options.folder)}" if (Path(options.folder) / TASK).exists() else ""
        frozen = "" if model.frozen is None else f", frozen in {model.frozen}"
        print(f"\n{options.folder}: {model.num_parameters():,} parameters{frozen}{task}")
        if model.origin is not None and model.origin_folder is not None:
            for line in huggingface("describing").describe(model.origin_folder, model.origin):
                print(line)
        for name, others in _tied(model).items():
            more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
            print(f"tied to {name}: {', '.join(others[:_SHOWN])}{more}")
        print(json.dumps(model.config.to_dict(), indent=2))
        print(model)


def _tied(model: Module) -> dict[str, list[str]]:
    """By the first name of each weight that has several, the others."""
    names: dict[int, list[str]] = {}
    for prefix, module in model.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, Parameter | FrozenWeight):
                full = f"{prefix}.{name}" if prefix else name
                if full not in names.setdefault(id(value), []):
                    names[id(value)].append(full)
    return {first: others for first, *others in names.values() if others}


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version  # of no use to the other commands

    try:
        return version(package)
    except PackageNotFoundError:
        return "missing (pip install 'dragoman[text]')"
