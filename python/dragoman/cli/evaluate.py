"""dragoman evaluate: scores a model on a test set."""

from __future__ import annotations

import argparse
import json
from typing import Any

from dragoman.cli.corpus import add_columns_argument, choose_columns
from dragoman.cli.search_options import add_search_arguments, search_options
from dragoman.cli.served import add_language_arguments, load_served
from dragoman.data.text import read_parallel
from dragoman.predict.translator import Translator
from dragoman.train import scores
from dragoman.train.classification import Classification, LabelTask
from dragoman.train.evaluation import label_scores, losses
from dragoman.train.image_classification import ImageClassification
from dragoman.train.summarisation import Summarisation
from dragoman.train.tasks import load_task, task_name
from dragoman.train.translation import Translation

DESCRIPTION = """\
Scores a model on a test set. With --source and --target, translations: BLEU, BLEU without case, and chrF, by sacreBLEU;
or summaries: ROUGE-1, ROUGE-2 and ROUGE-L, by rouge-score; both with texts in Unicode form NFC. With --data, the task
that the model was trained for: accuracy, macro F1 and the scores of each label, in percent; or loss and perplexity. The
last line of standard output is a JSON object with all.

examples:
  dragoman evaluate en-de --source test.en --target test.de
  dragoman evaluate sentiment --data test.tsv
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="a trained model")
    parser.add_argument("--source", metavar="FILE", help="sentences to translate")
    parser.add_argument("--target", metavar="FILE", help="their reference translations")
    parser.add_argument("--data", nargs="+", metavar="FILE", help="a test set of the model's task, as in training")
    add_columns_argument(parser)
    parser.add_argument(
        "--bleu-tokenize",
        choices=scores.TOKENIZERS,
        default="13a",
        help="sacreBLEU's tokenizer: zh for Chinese, ja-mecab for Japanese, ko-mecab for Korean (default: 13a)",
    )
    add_language_arguments(parser)
    add_search_arguments(parser)


def command(options: argparse.Namespace) -> None:
    """Prints the scores of a test set: readable lines, then one of JSON."""
    if options.data is None and None not in (options.source, options.target):
        _translations(options)
    elif options.data is not None and options.source is options.target is None:
        if options.compute_type != "default":
            raise ValueError("--compute-type does not go with --data; freeze the model first, by dragoman freeze")
        _task(options)
    else:
        raise ValueError("evaluate needs --source and --target, or --data")


def _task(options: argparse.Namespace) -> None:
    task = load_task(options.folder)
    if isinstance(task, Translation):
        raise ValueError(
            f"{options.folder}: holds a model of the task {task.name}, which needs --source and --target, not --data"
        )
    if options.columns is not None:
        if not isinstance(task, Classification):
            raise ValueError(f"--columns needs a model that classifies texts, got the task {task.name}")
        task = Classification(task.tokenizer, task.labels, [name.strip() for name in options.columns.split(",")])
    result: dict[str, Any] = {"task": task.name}
    if isinstance(task, LabelTask | ImageClassification):
        result["examples"], found = label_scores(task, options.folder, options.data, options.device)
        print(found)
        result |= {name: round(value, 2) for name, value in found.record().items()}
        report = found.report().items()
        result["labels"] = {label: {k: round(v, 2) for k, v in row.items()} for label, row in report}
    else:
        result["examples"], record = losses(task, options.folder, options.data, options.device)
        result |= {name: round(value, 4) for name, value in record.items()}
        print(", ".join(f"{name} {value}" for name, value in result.items()))
    print(json.dumps(result, ensure_ascii=False))


def _translations(options: argparse.Namespace) -> None:
    metrics: dict[str, scores.Metric]
    if task_name(options.folder) == Summarisation.name:
        metrics = {name: scores.rouge(name) for name in scores.ROUGES}
    else:
        metrics = {
            "bleu": scores.bleu(tokenize=options.bleu_tokenize),
            "bleu_lowercase": scores.bleu(lowercase=True, tokenize=options.bleu_tokenize),
            "chrf": scores.chrf(),
        }
    files = choose_columns({"source": [options.source], "target": [options.target]}, options.columns)
    pairs = read_parallel(files["source"], files["target"])
    search = search_options(options)
    translator: Translator = load_served(Translator, options)
    outputs = translator([source for source, _ in pairs], **search)
    references = [target for _, target in pairs]
    result: dict[str, float | str] = {"sentences": len(pairs), "beam": translator.search_options(**search).beam}
    for name, metric in metrics.items():
        metric.add(outputs, references)
        print(f"{name}: {metric} ({metric.signature()})")
        result[name] = round(metric.value(), 2)
        result[f"{name}_signature"] = metric.signature()
    print(json.dumps(result))
