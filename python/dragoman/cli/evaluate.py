"""dragoman evaluate: translates a file and scores the translations."""

from __future__ import annotations

import argparse
import json

from dragoman.cli.corpus import add_columns_argument, choose_columns
from dragoman.cli.search_options import add_search_arguments, search_options
from dragoman.data.text import read_parallel
from dragoman.generate.translator import Translator
from dragoman.train import scores

DESCRIPTION = """\
Translates a file and compares it with a reference: BLEU, BLEU without case, and chrF, by sacreBLEU. Both texts are
put into Unicode form NFC first. The last line of standard output is a JSON object with all scores.

example:
  dragoman evaluate en-de --source test.en --target test.de
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="a trained model")
    parser.add_argument("--source", required=True, metavar="FILE", help="sentences to translate")
    parser.add_argument("--target", required=True, metavar="FILE", help="their reference translations")
    add_columns_argument(parser)
    parser.add_argument(
        "--bleu-tokenize",
        choices=scores.TOKENIZERS,
        default="13a",
        help="sacreBLEU's tokenizer: zh for Chinese, ja-mecab for Japanese, ko-mecab for Korean (default: 13a)",
    )
    add_search_arguments(parser)


def command(options: argparse.Namespace) -> None:
    """Prints scores of a file's translations: readable lines, then one of JSON."""
    metrics = {
        "bleu": scores.bleu(tokenize=options.bleu_tokenize),
        "bleu_lowercase": scores.bleu(lowercase=True, tokenize=options.bleu_tokenize),
        "chrf": scores.chrf(),
    }
    files = choose_columns({"source": [options.source], "target": [options.target]}, options.columns)
    pairs = read_parallel(files["source"], files["target"])
    outputs = Translator.load(options.folder, options.device)(
        [source for source, _ in pairs], **search_options(options)
    )
    references = [target for _, target in pairs]
    result: dict[str, float | str] = {"sentences": len(pairs), "beam": options.beam}
    for name, metric in metrics.items():
        metric.add(outputs, references)
        print(f"{name}: {metric} ({metric.signature()})")
        result[name] = round(metric.value(), 2)
        result[f"{name}_signature"] = metric.signature()
    print(json.dumps(result))
