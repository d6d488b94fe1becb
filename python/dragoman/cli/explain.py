"""dragoman explain: a page that shows where a model's tokens look."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import cast

from dragoman.cli.device_option import add_device_argument
from dragoman.data.pairs import cut_source, source_ids, target_ids
from dragoman.data.tokenizer import Tokenizer
from dragoman.generate.search import generate
from dragoman.models.base import Model
from dragoman.models.encoder_decoder import EncoderDecoder
from dragoman.models.folder import load
from dragoman.plot.page import attention_page

DESCRIPTION = """\
Writes an HTML page that shows, for one text, which tokens each token reads: every layer and head of the encoder, the
decoder, and from the decoder to the encoder. Any browser opens it, without a network.

example:
  dragoman explain en-de "a child sees a boat" --output attention.html
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="a trained model")
    parser.add_argument("text", metavar="TEXT", help="what the model reads")
    parser.add_argument("--target", metavar="TEXT", help="its translation (default: the model's own)")
    parser.add_argument("--output", metavar="FILE", default="attention.html", help="the page (default: attention.html)")
    add_device_argument(parser)


def command(options: argparse.Namespace) -> None:
    """Writes the page and prints its path and, of a translator, the translation."""
    folder = Path(options.folder)
    model = load(folder).to(options.device)
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    (source,) = source_ids(tokenizer, [options.text])
    if not isinstance(model, EncoderDecoder):
        names = tokenizer.tokens(source)
        attention_page(model.attention_weights(source), names, names, options.output)
        print(options.output)
        return
    source = list(cut_source(source, model.config.max_source_length))
    if options.target is None:
        ids = generate(model, [source], beam=5)[0][0].ids
        print(tokenizer.decode(ids))
    else:
        (ids,) = target_ids(tokenizer, [options.target])
    fed = [model.config.bos_id, *ids]
    weights = cast(Model, model).attention_weights(source, fed)
    attention_page(weights, tokenizer.tokens(source), tokenizer.tokens(fed), options.output)
    print(options.output)
