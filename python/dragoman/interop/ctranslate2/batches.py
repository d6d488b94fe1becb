"""Iterables and files, batch after batch."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import zip_longest
from typing import Any

from dragoman import arguments
from dragoman.data.text import iter_lines
from dragoman.interop.ctranslate2.results import AsyncResult, ExecutionStats, Tokens

AHEAD = 16  # batches that are read before the first of them is answered


def answered(
    name: str,
    call: Callable[..., list[AsyncResult]],
    streams: Mapping[str, Iterable[Any]],
    max_batch_size: int,
    batch_type: str,
    options: dict[str, Any],
) -> Iterator[Any]:
    """The results of an asynchronous `call` for what iterables hold, in their order, while more is read.

    Args:
        name: whose name errors begin with.
        streams: the iterables, by the names of the arguments of `call`.
        max_batch_size, batch_type: of the examples that are asked for together, "examples" or "tokens".
        options: others of `call`.

    Raises:
        TypeError, ValueError: naming the argument, as soon as the first result is asked for.
    """
    size = arguments.integer(name, "max_batch_size", max_batch_size, 1)
    arguments.choice(name, "batch_type", batch_type, ("examples", "tokens"))
    for option, each in streams.items():
        if isinstance(each, str) or not isinstance(each, Iterable):
            raise TypeError(f"{name}: {option} must be an iterable of lists of tokens, got {type(each).__name__}")
    waiting: deque[AsyncResult] = deque()
    try:
        for batch in _batches(name, streams, size * AHEAD, batch_type == "tokens"):
            waiting += call(*batch, asynchronous=True, **options)
            while waiting and (waiting[0].done() or len(waiting) > 2 * len(batch[0])):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # an iterator that nobody reads to its end
        for result in waiting:
            result.cancel()


def _batches(name: str, streams: Mapping[str, Iterable[Any]], size: int, tokens: bool) -> Iterator[list[list[Any]]]:
    batch: list[list[Any]] = [[] for _ in streams]
    longest = 0
    missing = object()
    for rows in zip_longest(*streams.values(), fillvalue=missing):
        if missing in rows:
            raise ValueError(f"{name}: {' and '.join(streams)} must hold as many examples as one another")
        longest = max(longest, len(rows[0])) if tokens else 1
        if batch[0] and (len(batch[0]) + 1) * longest > size:
            yield batch
            batch, longest = [[] for _ in streams], len(rows[0]) if tokens else 1
        for column, row in zip(batch, rows, strict=True):
            column.append(row)
    if batch[0]:
        yield batch


def tokens_of(path: str, tokenize: Callable[[str], Tokens] | None) -> Iterator[Tokens]:
    """The tokens of each line of a file; by default those between spaces."""
    return map(tokenize or str.split, iter_lines(path))


def write_file(
    path: str, results: Iterable[Any], lines_of: Callable[[Any], list[str]], count: Callable[[Any], int]
) -> ExecutionStats:
    """Writes the lines of each result. `count` says how many tokens a result has."""
    begin, examples, tokens = time.perf_counter(), 0, 0
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for result in results:
            file.writelines(f"{line}\n" for line in lines_of(result))
            examples, tokens = examples + 1, tokens + count(result)
    return ExecutionStats(tokens, examples, 1000 * (time.perf_counter() - begin))


def detokenized(tokens: Tokens, detokenize: Callable[[Tokens], str] | None) -> str:
    """The text of tokens; by default with spaces between them."""
    return detokenize(tokens) if detokenize else " ".join(tokens)
