"""Parallel text: reading it, turning it into token ids and cutting it into batches."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from dragoman.tokenizer import EOS, Tokenizer

Pair = tuple[Sequence[int], Sequence[int]]  # source ids, target ids

POOL = 100  # batches whose sentences are sorted by length together


def read_lines(path: str | Path) -> list[str]:
    """The lines of a UTF-8 text file, plain or `.gz`, split at line feeds alone.

    Raises:
        OSError: for a file that is missing or cannot be read.
        ValueError: for a broken gzip file, or bytes that are not UTF-8 (naming the line).
    """
    data = Path(path).read_bytes()
    if str(path).endswith(".gz"):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: not a gzip file ({error})") from None
    raw = data.removeprefix(codecs.BOM_UTF8).split(b"\n")
    if not raw[-1]:
        raw.pop()
    return [decode_line(line, path, number) for number, line in enumerate(raw, 1)]


def decode_line(line: bytes, path: str | Path, number: int) -> str:
    """One line as text, without its ending. Raises ValueError, naming file and line, if it is not UTF-8."""
    try:
        return line.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: line {number} is not UTF-8") from None


def read_parallel(source: str | Path, target: str | Path) -> list[tuple[str, str]]:
    """Reads two files, line i of one the translation of line i of the other.

    Raises:
        OSError, ValueError: as `read_lines`; ValueError for files without lines, for unequal numbers of lines
        and for
            an empty line.
    """
    sides = {path: read_lines(path) for path in (source, target)}
    counts = [len(sides[path]) for path in (source, target)]
    if counts[0] != counts[1]:
        raise ValueError(f"{source} has {counts[0]} lines, {target} has {counts[1]}: they must pair up")
    if not counts[0]:
        raise ValueError(f"{source} has no lines")
    for path, lines in sides.items():
        for number, line in enumerate(lines, 1):
            if not line.strip():
                raise ValueError(f"{path}: line {number} is empty")
    return list(zip(sides[source], sides[target], strict=True))


def source_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """What the encoder reads of each text, in training and in translation: its ids and </s>."""
    return [[*ids, EOS] for ids in tokenizer.encode_batch([text.strip() for text in texts])]


def encode_pairs(tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]]) -> list[Pair]:
    """Token ids of text pairs: `source_ids`, and the target's alone (the model's loss adds <s> and </s>)."""
    sources = source_ids(tokenizer, [source for source, _ in pairs])
    targets = tokenizer.encode_batch([target.strip() for _, target in pairs])
    return list(zip(sources, targets, strict=True))


def cut_batches(order: Iterable[int], costs: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Cuts `order`, indices into `costs`, into runs that cost at most `batch_tokens` each or hold one."""
    batches: list[list[int]] = []
    room = 0
    for index in order:
        if costs[index] > room or not batches:
            batches.append([])
            room = batch_tokens
        batches[-1].append(index)
        room -= costs[index]
    return batches


class Batches:
    """Cuts pairs into batches by a budget of tokens, in an order that depends on (seed, epoch) alone.

    A pair costs the tokens of its longer side, </s> of the target included. Every epoch shuffles the pairs,
    sorts them by length within pools, cuts the pools into batches and shuffles these, so that batches hold
    similar lengths.

    Args:
        pairs: (source ids, target ids) each.
        batch_tokens: the largest sum of costs in one batch.
        max_length: pairs that cost more are left out and counted in `.dropped`; None keeps all.
        seed: of the order.

    Raises:
        ValueError: when no pair is left, or a pair alone exceeds `batch_tokens` (naming it).
    """

    def __init__(
        self, pairs: Sequence[Pair], batch_tokens: int, *, max_length: int | None = None, seed: int = 0
    ) -> None:
        self.pairs = pairs
        self.batch_tokens = batch_tokens
        self.seed = seed
        self.costs = [max(len(source), len(target) + 1) for source, target in pairs]
        self.kept = [i for i, cost in enumerate(self.costs) if max_length is None or cost <= max_length]
        self.dropped = len(pairs) - len(self.kept)
        if not self.kept:
            raise ValueError(f"batches: no pairs are left of {len(pairs)} (max_length={max_length})")
        longest = max(self.kept, key=self.costs.__getitem__)
        if self.costs[longest] > batch_tokens:
            raise ValueError(
                f"batches: pair {longest + 1} has {self.costs[longest]} tokens, more than "
                f"batch_tokens={batch_tokens}; raise it or set max_length"
            )

    def epoch(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch, as indices into `pairs`: every kept pair exactly once."""
        generator = np.random.default_rng([self.seed, epoch])
        shuffled = [self.kept[i] for i in generator.permutation(len(self.kept))]
        batches: list[list[int]] = []
        for pool in cut_batches(shuffled, self.costs, POOL * self.batch_tokens):
            pool.sort(key=self.costs.__getitem__)
            batches += cut_batches(pool, self.costs, self.batch_tokens)
        return [batches[i] for i in generator.permutation(len(batches))]

    def in_order(self) -> list[list[int]]:
        """Batches from the shortest to the longest pair, for validation."""
        order = sorted(self.kept, key=self.costs.__getitem__)
        return cut_batches(order, self.costs, self.batch_tokens)

    def sides(self, batch: Sequence[int]) -> tuple[list[Sequence[int]], list[Sequence[int]]]:
        """The source and the target ids of a batch."""
        return [self.pairs[i][0] for i in batch], [self.pairs[i][1] for i in batch]
