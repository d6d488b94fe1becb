"""dragoman serve: a model over HTTP."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any

from dragoman.cli.device_option import add_compute_type_argument, add_device_argument
from dragoman.cli.numbers import COUNT, Number
from dragoman.cli.served import add_language_arguments, load_served
from dragoman.cli.translate import add_batch_argument
from dragoman.predict import Transcriber, predictor_class
from dragoman.server import Limits

DESCRIPTION = """\
Serves a trained model over HTTP, until SIGTERM or Ctrl-C. POST JSON to /translate, /generate or /predict, whichever the
model can do: {"text": "A man."} is answered by {"result": "Ein Mann."}, and a list of texts by {"results": [...]}. The
options of a call go beside "text"; "count": 3 answers with that many candidates and their scores, and "stream": true
with server-sent events. GET /health and GET /metrics, in the text format of Prometheus.
There is no encryption and no password: to be reached from other machines, put it behind a server that has them.

example:
  dragoman serve en-de --port 8000
  curl -d '{"text": "A man is reading."}' http://127.0.0.1:8000/translate
"""

_WORDS = {
    "max_body": "bytes of a request",
    "max_texts": "texts of a request",
    "max_characters": "characters of a text",
    "max_beam": "beam that a request may ask for",
    "max_length": "tokens of an output that a request may ask for",
    "body_seconds": "seconds for a request to arrive",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="a trained model")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 for every address (default: 127.0.0.1)")
    parser.add_argument("--port", type=Number(int, 0, 65535), default=8000, help="0 for a free one (default: 8000)")
    parser.add_argument(
        "--queue-limit", type=COUNT, default=1000, metavar="N",
        help="refuse requests while N texts wait (default: 1000)",
    )  # fmt: skip
    add_batch_argument(parser)
    add_language_arguments(parser)
    for field in fields(Limits):
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", type=COUNT, default=field.default, metavar="N",
            help=f"maximum {_WORDS[field.name]} (default: {field.default})",
        )  # fmt: skip
    add_compute_type_argument(parser)
    add_device_argument(parser)


def command(options: argparse.Namespace) -> None:
    """Loads the model and serves it."""
    from dragoman.server import serve

    limits = Limits(**{field.name: getattr(options, field.name) for field in fields(Limits)})
    kind: Any = predictor_class(options.folder)
    if issubclass(kind, Transcriber):
        raise ValueError(f"{options.folder}: holds a model of speech, which cannot be served; use dragoman transcribe")
    predictor = load_served(kind, options, queue_limit=options.queue_limit, batch_tokens=options.batch_tokens)
    serve(predictor, options.host, options.port, limits)
