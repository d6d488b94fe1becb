"""dragoman explain: a page that shows where a model's tokens look."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dragoman.arguments import with_article
from dragoman.cli.device_option import add_device_argument
from dragoman.cli.served import add_language_arguments
from dragoman.data.framing import framed_texts, framed_words, prompts
from dragoman.data.images import read_image
from dragoman.data.pairs import source_ids, target_ids
from dragoman.data.tokenizer import Tokenizer, with_token
from dragoman.generate.search import generate, limit_of
from dragoman.models.decoder import TextDecoder
from dragoman.models.encoder import TextEncoder
from dragoman.models.encoder_decoder import EncoderDecoder
from dragoman.models.folder import load
from dragoman.models.special_ids import start_ids
from dragoman.models.speech import SpeechTransformer
from dragoman.models.vision import VisionConfig, VisionTransformer
from dragoman.plot.page import attention_page

DESCRIPTION = """\
Writes an HTML page that shows, for one text, which tokens each token reads: every layer and head of the encoder, the
decoder, and from the decoder to the encoder. Any browser opens it, without a network. Of a language model, the text is
what it would go on from; of a model of images, TEXT names an image file, and a token is a patch.

TEXT has at most 500 tokens: the page grows with their square.

example:
  dragoman explain en-de "a child sees a boat" --output attention.html
"""


LONGEST = 500  # tokens of a page


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="a trained model")
    parser.add_argument("text", metavar="TEXT", help="what the model reads")
    parser.add_argument("--target", metavar="TEXT", help="its translation (default: the model's own)")
    parser.add_argument("--output", metavar="FILE", default="attention.html", help="the page (default: attention.html)")
    add_language_arguments(parser)
    add_device_argument(parser)


def command(options: argparse.Namespace) -> None:
    """Writes the page and prints its path and, of a translator, the translation."""
    folder = Path(options.folder)
    model: Any = load(folder).to(options.device)
    if isinstance(model, SpeechTransformer):
        raise ValueError(f"{folder}: must hold a model of texts or images, got a SpeechTransformer")
    if isinstance(model, EncoderDecoder):
        tokenizer = Tokenizer.load(folder).with_languages(options.source_language, options.target_language)
        model.config = tokenizer.config_of(model.config)
        _pair(model, tokenizer, options)
    elif options.target is not None:
        raise ValueError(f"--target needs a model that translates, got {with_article(type(model).__name__)}")
    elif isinstance(model, VisionTransformer):
        config = model.config
        image = read_image(options.text, config.image_size, config.channels)
        names = _patches(config)
        attention_page(model.attention_weights(image), names, None, options.output)
    elif isinstance(model, TextEncoder | TextDecoder):
        tokenizer = Tokenizer.load(folder)
        ids = _read_by(model, tokenizer, options.text)
        _check_length("TEXT", ids)
        names = tokenizer.tokens(ids)
        attention_page(model.attention_weights(ids), names, names, options.output)
    else:
        raise ValueError(f"{folder}: must hold a model of dragoman.models, got {with_article(type(model).__name__)}")
    print(options.output)


def _pair(model: Any, tokenizer: Tokenizer, options: argparse.Namespace) -> None:
    """Writes the page of a text and its translation, and prints the model's own."""
    (whole,) = source_ids(tokenizer, [options.text])
    source = list(tokenizer.source_frame.cut(whole, model.config.max_source_length))
    _check_length("TEXT", source)
    if options.target is None:
        longest = min(LONGEST, limit_of("explain", model, len(source), None))
        ids = generate(model, [source], beam=5, max_length=longest)[0][0].ids
        print(tokenizer.target.decode(with_token(ids, tokenizer.target)))
    else:
        (ids,) = target_ids(tokenizer, [options.target])
    fed = [*start_ids(model.config), *ids]
    _check_length("--target", fed)
    weights = model.attention_weights(source, fed)
    attention_page(weights, tokenizer.tokens(source), tokenizer.target.tokens(fed), options.output)


def _read_by(model: TextEncoder | TextDecoder, tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids that the model reads of a text, as in training and in use."""
    if isinstance(model, TextDecoder):
        return prompts(tokenizer, [text])[0][: model.config.max_length]
    ids = framed_words(tokenizer, [text.split()])[0] if model.config.head == "tag" else framed_texts(tokenizer, [text])
    return list(tokenizer.text_frame.cut(ids[0], model.config.max_length))


def _check_length(name: str, ids: Sequence[int]) -> None:
    if len(ids) > LONGEST + 1:  # a token that frames it
        raise ValueError(f"{name} must have at most {LONGEST} tokens, got {len(ids)}")


def _patches(config: VisionConfig) -> list[str]:
    """Names of the rows of an image: those of the tokens before the patches, and `row,column` of each, from 1."""
    side = range(1, config.image_size // config.patch_size + 1)
    patches = [f"{row},{column}" for row in side for column in side]
    first = ["class"] if config.pooling == "class" else []
    return [*first, *(["distillation"] if config.distillation != "none" else []), *patches]
