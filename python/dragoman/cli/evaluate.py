"""dragoman evaluate: a file's translations, scored."""

from __future__ import annotations

import argparse
import json

from dragoman.cli.search_options import add_search_arguments
from dragoman.data.text import read_parallel
from dragoman.generate.translator import Translator

DESCRIPTION = """\
Translates a file and compares it with a reference: BLEU, BLEU without case, and chrF, by sacreBLEU. The last
line of standard output is a JSON object with all of them.

example:
  dragoman evaluate en-de --source test.en --target test.de
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="a trained model")
    parser.add_argument("--source", required=True, metavar="FILE", help="sentences to translate")
    parser.add_argument("--target", required=True, metavar="FILE", help="their reference translations")
    add_search_arguments(parser)


def command(options: argparse.Namespace) -> None:
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
