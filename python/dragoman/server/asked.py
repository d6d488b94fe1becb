"""Asked: a request's JSON, checked; and the futures of its answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np

from dragoman import arguments
from dragoman.predict import Candidate, LanguageModel, Predictor, Translator
from dragoman.server.limits import Limits


@dataclass(frozen=True)
class Asked:
    """What a request asks for.

    Attributes:
        texts: to be answered.
        one: whether it was a single text.
        stream: whether the answer is sent in pieces.
        all: whether all candidates are asked for, with their scores.
        options: of a call of the predictor.
    """

    texts: list[str]
    one: bool
    stream: bool
    all: bool
    options: dict[str, Any]


def read(body: bytes, limits: Limits) -> Asked:
    """The JSON object of a request: "text", "stream" and the options of a call. TypeError, ValueError otherwise."""
    try:
        fields = json.loads(body)
    except RecursionError:
        raise ValueError("the body is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"the body must be JSON: {error}") from None
    if not isinstance(fields, dict):
        raise TypeError(f"the body must be a JSON object, got {arguments.described(fields)}")
    if "text" not in fields:
        raise ValueError('the body must have "text": a text, or a list of them')
    text, stream = fields.pop("text"), arguments.flag("request", "stream", fields.pop("stream", False))
    one = isinstance(text, str)
    texts = [text] if one else text
    if not isinstance(texts, list):
        raise TypeError(f"request: text must be a text or a list of them, got {arguments.described(text)}")
    if len(texts) > limits.max_texts:
        raise ValueError(f"request: text must hold at most {limits.max_texts} texts, got {len(texts)}")
    for i, each in enumerate(texts):
        if isinstance(each, str) and len(each) > limits.max_characters:
            raise ValueError(
                f"request: text[{i}] must have at most {limits.max_characters:,} characters, got {len(each):,}"
            )
    if stream and not one:
        raise ValueError("request: stream needs a single text, got a list")
    _check_limits(fields, limits)
    return Asked(texts, one, stream, fields.get("count") is not None, fields)


def _check_limits(options: Mapping[str, Any], limits: Limits) -> None:
    for name, maximum in (("beam", limits.max_beam), ("count", limits.max_beam), ("max_length", limits.max_length)):
        value = options.get(name)
        if value is not None and arguments.is_integer(value) and value > maximum:
            raise ValueError(f"request: {name} must be at most {maximum:,}, got {arguments.shown(value)}")
    phrases = options.get("constraints")
    if isinstance(phrases, list) and len(phrases) > limits.max_texts:
        raise ValueError(f"request: constraints must hold at most {limits.max_texts} phrases, got {len(phrases)}")


def submit(predictor: Predictor, asked: Asked) -> list[Future[Any]]:
    """The futures of an answer, for `answer_of`. TypeError, ValueError at once."""
    if isinstance(predictor, Translator | LanguageModel):
        options = asked.options if asked.all else {"count": 1, **asked.options}
        return [predictor.submit_candidates(asked.texts, **options)]
    served: Any = predictor
    return [served.submit(text, **asked.options) for text in asked.texts]


def answer_of(predictor: Predictor, asked: Asked, found: list[Any]) -> dict[str, Any]:
    """An answer's JSON, from the results of the futures."""
    if isinstance(predictor, Translator | LanguageModel):
        results = [_candidates(each) if asked.all else each[0].text for each in found[0]]
    else:
        results = [each.tolist() if isinstance(each, np.ndarray) else each for each in found]
    return {"result": results[0]} if asked.one else {"results": results}


def _candidates(found: list[Candidate]) -> list[dict[str, Any]]:
    return [{"text": each.text, "score": each.score, "sum_logprob": each.sum_logprob} for each in found]
