"""What decoding takes at least on this machine, from its rates of reading memory and of multiply-adds.

A step reads each weight once and multiplies it with every row: whichever takes longer. Then it reads the keys and
values of the rows and of their sources, those of a source once for all its beams, and writes and reads the logits. The
source is read once. Norms, the search and the quantisation of activations are left out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from decoders import LENGTH
from machine import rates_of_machine
from works import MODELS, Model

Cell = tuple[int, int]  # batch and beam

WEIGHT_SIZE = {"float32": 4, "bfloat16": 2, "int8": 1}
CACHE_SIZE = {"float32": 4, "bfloat16": 2, "int8": 2}
LOGIT_SIZE = 4


@dataclass(frozen=True)
class Bound:
    """Milliseconds of a whole translation, by parts."""

    tokens: int
    source: float = 0.0
    weights: float = 0.0
    caches: float = 0.0
    logits: float = 0.0

    @property
    def total(self) -> float:
        return self.source + self.weights + self.caches + self.logits

    @property
    def tokens_per_s(self) -> float:
        return 1e3 * self.tokens / self.total


@dataclass(frozen=True)
class Work:
    """What a translation of `batch` sources by `beam` hypotheses reads and computes."""

    model: Model
    dtype: str
    batch: int
    beam: int

    @property
    def layer_weights(self) -> int:
        """Weights of all layers that a step reads: keys and values of cross-attention are projected once a source."""
        square = self.model.d_model**2
        attention = (4 if self.model.decoder_only else 6) * square
        return self.model.layers * (attention + 2 * self.model.d_model * self.model.d_ff)

    @property
    def source_weights(self) -> int:
        if self.model.decoder_only:
            return self.layer_weights
        square = self.model.d_model**2
        return self.model.layers * (6 * square + 2 * self.model.d_model * self.model.d_ff)

    @property
    def projection(self) -> int:
        return self.model.d_model * self.model.vocab_size

    def rows(self, step: int) -> int:
        """The first step has a row a source."""
        return self.batch * (self.beam if step else 1)

    def keys(self, step: int) -> int:
        """Tokens whose keys and values are read: the sources', which beams share, and each row's own."""
        return self.batch * LENGTH + self.rows(step) * (step + 1)

    def cache_bytes(self, keys: int) -> int:
        return keys * 2 * self.model.layers * self.model.d_model * CACHE_SIZE[self.dtype]

    @property
    def footprint(self) -> int:
        """Bytes that each step reads, as many as the last one."""
        weights = (self.layer_weights + self.projection) * WEIGHT_SIZE[self.dtype]
        return weights + self.cache_bytes(self.keys(LENGTH - 1))

    @property
    def logit_bytes(self) -> int:
        return self.batch * self.beam * self.model.vocab_size * LOGIT_SIZE

    @property
    def source_bytes(self) -> int:
        return self.source_weights * WEIGHT_SIZE[self.dtype]

    def sizes(self) -> list[int]:
        """The buffers whose rates `bound` asks for."""
        return [self.footprint, self.logit_bytes, self.source_bytes]

    def bound(self, rates: dict[str, float], read: dict[int, float]) -> Bound:
        """Rates are GFLOP/s and GB/s."""
        step_rate = read[self.footprint]

        def product(weights: int, rows: int, rate: float) -> float:
            """Milliseconds: the weights are read or multiplied."""
            return 1e-6 * max(weights * WEIGHT_SIZE[self.dtype] / rate, 2 * weights * rows / rates[self.dtype])

        def attention(queries: int, keys: int) -> float:
            return 1e-6 * 4 * queries * keys * self.model.layers * self.model.d_model / rates["float32"]

        tokens = self.batch * LENGTH
        source = product(self.source_weights, tokens, read[self.source_bytes]) + attention(tokens, LENGTH)
        weights = caches = logits = 0.0
        for step in range(LENGTH):
            rows = self.rows(step)
            weights += product(self.projection, rows, step_rate)
            logits += 1e-6 * 2 * rows * self.model.vocab_size * LOGIT_SIZE / read[self.logit_bytes]
            if step or not self.model.decoder_only:  # the first token comes with the prompt
                weights += product(self.layer_weights, rows, step_rate)
                read_ms = 1e-6 * self.cache_bytes(self.keys(step)) / step_rate
                caches += max(read_ms, attention(rows, LENGTH + step + 1))
        return Bound(self.batch * LENGTH, source, weights, caches, logits)


def bounds_of(arguments: argparse.Namespace, executable: Path) -> dict[Cell, Bound]:
    """By batch and beam."""
    model = MODELS[arguments.model]
    cells = [(batch, beam) for beam in arguments.beam for batch in arguments.batch]
    works = {cell: Work(model, arguments.dtype, *cell) for cell in cells}
    sizes = [size for work in works.values() for size in work.sizes()]
    rates = rates_of_machine(executable, arguments.threads, sizes)
    return {cell: work.bound(rates, rates["read"]) for cell, work in works.items()}


def print_bounds(arguments: argparse.Namespace, bounds: dict[Cell, Bound]) -> None:
    """A table, with what dragoman reaches in the records of --json."""
    print(f"decode {arguments.model}, {arguments.dtype}, threads: {arguments.threads}")

    def row(title: str, value: Callable[[Cell], str]) -> None:
        print(f"{title:32}" + "".join(f"{value(cell):>10}" for cell in bounds))

    row("batch x beam", lambda cell: f"{cell[0]}x{cell[1]}")
    for part in ("source", "weights", "caches", "logits", "total"):
        row(f"{part}, ms", lambda cell: f"{getattr(bounds[cell], part):.2f}")  # noqa: B023
    row("bound, output tokens/s", lambda cell: f"{bounds[cell].tokens_per_s:,.0f}")
    if arguments.json:
        speeds = {}
        for record in map(json.loads, arguments.json.read_text().splitlines()):
            same = all(record.get(name) == getattr(arguments, name) for name in ("dtype", "threads"))
            if same and (record["work"], record["system"]) == (f"decode {arguments.model}", "dragoman"):
                speeds[record["batch"], record["beam"]] = record["tokens_per_s"]
        row("dragoman", lambda cell: f"{speeds[cell]:,.0f}" if cell in speeds else "-")
        row("share", lambda cell: f"{speeds[cell] / bounds[cell].tokens_per_s:.1%}" if cell in speeds else "-")
