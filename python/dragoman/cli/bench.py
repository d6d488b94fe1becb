"""`dragoman bench`: how fast this machine computes, trains and translates, in less than a minute."""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import dragoman
from dragoman import functional
from dragoman.cli.numbers import Number
from dragoman.cli.presets import PRESETS
from dragoman.creation import tensor
from dragoman.functional.operands import ACTIVATION_DTYPES
from dragoman.generate.search import generate
from dragoman.grad_mode import no_grad
from dragoman.models.batch import IdBatch
from dragoman.models.encoder_decoder import Transformer
from dragoman.models.transformer_config import TransformerConfig
from dragoman.optim import AdamW
from dragoman.random import manual_seed

SIZE = 2048  # of the matrices
SENTENCES, LENGTH = 64, 32  # of a batch; a translation may be as long
DESCRIPTION = """\
Measures in less than a minute how fast this machine multiplies matrices, trains and translates. The last line of
standard output is a JSON object with all figures.

example:
  dragoman bench --threads 2
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--preset", choices=PRESETS, default="small", help="model that trains and translates (default: small)"
    )
    parser.add_argument(
        "--seconds", type=Number(float, 0, 3600), default=5.0, metavar="X", help="spent on each figure (default: 5)"
    )


def command(options: argparse.Namespace) -> None:
    """How fast this machine is."""
    run(PRESETS[options.preset](), options.seconds)


def run(config: TransformerConfig, seconds: float = 5.0) -> dict[str, Any]:
    """Prints a table; the last line is the returned dictionary as JSON.

    Args:
        config: of the model that trains and translates random sentences.
        seconds: minimum time for each figure.

    Returns:
        "cpu", "isa", "threads" and "version"; "product_gflops", "train_tokens_per_s" (source and target) and
        "decode_tokens_per_s" (target, greedy search), each a dictionary of figures by dtype.
    """
    result: dict[str, Any] = {
        "cpu": cpu_name(),
        "isa": dragoman.cpu_isa(),
        "threads": dragoman.num_threads(),
        "version": dragoman.__version__,
    }
    print(f"{result['cpu']}, {result['threads']} threads, {result['isa']}, dragoman {result['version']}")

    def report(name: str, title: str, dtype: str, figure: float) -> None:
        result.setdefault(name, {})[dtype] = round(figure, 1)
        print(f"{title:56} {dtype:8} {figure:10,.0f}", flush=True)

    for dtype in ACTIVATION_DTYPES:
        title = f"product of {SIZE} x {SIZE} matrices, GFLOP/s"
        report("product_gflops", title, dtype, product_gflops(dtype, seconds))
    manual_seed(0)
    model = Transformer(config)
    about = f"model of {model.num_parameters() / 1e6:.1f} M parameters, tokens/s"
    # Decoding first: a model that has learnt from random sentences may give empty translations.
    report("decode_tokens_per_s", f"translating with a {about}", "float32", decode_tokens_per_s(model, seconds))
    for dtype in ACTIVATION_DTYPES:
        model.compute_dtype = dtype
        report("train_tokens_per_s", f"training a {about}", dtype, train_tokens_per_s(model, seconds))
    print(json.dumps(result))
    return result


def product_gflops(dtype: str, seconds: float) -> float:
    """GFLOP/s of the product of two square matrices."""
    values = np.random.default_rng(0).uniform(-1, 1, (SIZE, SIZE)).astype(np.float32)
    x, weight = tensor(values, dtype=dtype), tensor(values, dtype=dtype)
    with no_grad():
        return 2e-9 * SIZE**3 / median(times_of(lambda: functional.linear(x, weight), seconds))


def train_tokens_per_s(model: Transformer, seconds: float) -> float:
    """Source and target tokens a second, in forward, backward and AdamW."""
    optimizer = AdamW(model, lr=1e-4)
    sources, targets = _sentences(model, LENGTH), _sentences(model, LENGTH - 1)  # an eos follows

    def step() -> None:
        model.loss(sources, targets).backward()
        optimizer.step()

    model.train()
    return 2 * SENTENCES * LENGTH / median(times_of(step, seconds))


def decode_tokens_per_s(model: Transformer, seconds: float) -> float:
    """Target tokens a second, of SENTENCES at a time."""
    sources = _sentences(model, LENGTH)
    tokens = sum(len(best.ids) for best, *_ in generate(model, sources, max_length=LENGTH))
    return tokens / median(times_of(lambda: generate(model, sources, max_length=LENGTH), seconds))


def cpu_name() -> str:
    """The name of the processor, from Linux where possible."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def times_of(function: Callable[[], Any], seconds: float) -> list[float]:
    """The times of at least three calls, which take at least `seconds` together, after one call to warm up."""
    function()
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return times


def _sentences(model: Transformer, length: int) -> IdBatch:
    """SENTENCES of random ids from the upper half of the vocabulary, which has no special ids."""
    size = min(model.config.vocab_size, model.config.output_size)
    batch: IdBatch = np.random.default_rng(0).integers(size // 2, size, (SENTENCES, length)).tolist()
    return batch
