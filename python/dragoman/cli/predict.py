"""dragoman predict: what a model says about each line of standard input."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from dragoman.arguments import with_article
from dragoman.cli.device_option import add_compute_type_argument, add_device_argument
from dragoman.cli.numbers import COUNT
from dragoman.cli.output_file import OutputFile
from dragoman.cli.search_options import (
    DRAWS,
    TEXTS,
    add_draw_arguments,
    add_text_arguments,
    draw_options,
    text_options,
)
from dragoman.cli.served import load_served
from dragoman.cli.translate import add_batch_argument, answers, standard_output, texts_of
from dragoman.data.images import read_image
from dragoman.predict import (
    Classifier,
    ImageClassifier,
    Labels,
    LanguageModel,
    SentenceEncoder,
    Tagger,
    Transcriber,
    Translator,
    predictor_class,
)
from dragoman.predict.text_predictor import EncoderPredictor

DESCRIPTION = """\
Says what a trained model finds in each line of standard input. For classification: a label, a tab and its probability.
For tagging: the words of the line, each with a tab and its tag on a line of its own, and an empty line. For images: the
line names a file; then as for classification. For other encoders: the numbers of a vector, with tabs between. For
language models: what follows the line. For translators: the translation, as `dragoman translate` with its defaults.

example:
  dragoman predict sentiment < texts.txt
"""


_SERVED_BY = {  # options of some models alone
    "top": (Classifier, ImageClassifier),
    "max_length": (LanguageModel, Translator),
    **dict.fromkeys((*TEXTS, *DRAWS), (LanguageModel,)),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="a trained model")
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="write to FILE, which grows as FILE.part and gets its name when all is done (default: standard output)",
    )
    parser.add_argument("--top", type=COUNT, metavar="N", help="labels of a line, the most probable first (default: 1)")
    parser.add_argument("--vectors", action="store_true", help="the vectors of texts, whatever the model's task")
    going_on = parser.add_argument_group("language models")
    going_on.add_argument(
        "--max-length", type=COUNT, metavar="N", help="maximum tokens of what follows a line, or of a translation"
    )
    add_text_arguments(going_on)
    add_draw_arguments(going_on)
    add_batch_argument(parser)
    add_compute_type_argument(parser)
    add_device_argument(parser)


def command(options: argparse.Namespace) -> None:
    """Answers what comes on standard input, as soon as it comes."""
    kind: Any = predictor_class(options.folder)
    if options.vectors:
        if not issubclass(kind, EncoderPredictor):
            raise ValueError(f"--vectors needs an encoder of text, got a model for {with_article(kind.__name__)}")
        kind = SentenceEncoder
    for name, kinds in _SERVED_BY.items():
        if getattr(options, name) is not None and kind not in kinds:
            needed = " or ".join(with_article(each.__name__) for each in kinds)
            raise ValueError(
                f"--{name.replace('_', '-')} needs a model for {needed}, got one for {with_article(kind.__name__)}"
            )
    if issubclass(kind, Transcriber):
        raise ValueError(f"{options.folder}: holds a model of speech; use dragoman transcribe")
    draws = draw_options(options)
    predictor: Any = load_served(kind, options, batch_tokens=options.batch_tokens)
    if kind is LanguageModel:
        draws |= text_options(options, predictor)
    with ExitStack() as stack:
        file = None if options.output is None else stack.enter_context(OutputFile(options.output))
        write = standard_output() if file is None else file.write
        for first, texts in texts_of(sys.stdin.fileno()):
            for _, found in answers(
                lambda place, texts: _answers(predictor, place, texts, options, draws), first, texts
            ):
                write("".join(f"{line}\n" for line in found).encode())
        if file is not None:
            file.commit()


def _answers(
    predictor: Any, place: int, texts: list[str], options: argparse.Namespace, draws: dict[str, Any]
) -> list[str]:
    """The answer for each text, without its last line feed. `place` is the number of the first line."""
    match predictor:
        case Classifier():
            return [_labels(found, options.top) for found in predictor(texts)]
        case Tagger():
            return ["".join(f"{word}\t{tag}\n" for word, tag in found) for found in predictor(texts)]
        case ImageClassifier():
            config = predictor.model.config
            size = config.image_size if config.resize is None else None  # the predictor scales them
            for i, path in enumerate(texts):
                if not path.strip():
                    raise ValueError(f"ImageClassifier: text[{i}] must name an image file, got an empty line")
            images = [read_image(path, size, config.channels) for path in texts]
            return [_labels(each, options.top) for each in predictor(images)]
        case Translator():
            return predictor(texts, max_length=options.max_length)
        case LanguageModel():
            found = predictor(texts, max_length=options.max_length, place=place, **draws)
            return [" ".join(text.splitlines()) for text in found]
        case _:
            return [_numbers(vector) for vector in predictor(texts)]


def _labels(found: Labels, top: int | None) -> str:
    return "\t".join(f"{label}\t{probability:.4f}" for label, probability in [*found.items()][: top or 1])


def _numbers(vector: Sequence[float]) -> str:
    return "\t".join(f"{value:.6g}" for value in vector)
