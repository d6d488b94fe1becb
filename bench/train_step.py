"""One training step of an encoder-decoder Transformer on random ids, dragoman beside PyTorch.

    python bench/train_step.py [--system dragoman|torch|both] [--model base|small] [--rounds 3]

A step is forward, loss with label smoothing 0.1, backward and AdamW, with dropout 0.1, in float32. Every measurement
runs in a process of its own, and with `both` the systems take turns. Prints a JSON line per process (median and best
milliseconds, peak resident memory) and, with `both`, the ratio of the medians.
"""

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from machine import machine

SMOOTHING = 0.1
DROPOUT = 0.1
LR = 1e-4


@dataclass(frozen=True)
class Shape:
    layers: int
    d_model: int
    num_heads: int
    d_ff: int
    vocab_size: int


MODELS = {"base": Shape(6, 512, 8, 2048, 32000), "small": Shape(4, 256, 4, 1024, 8000)}

Step = Callable[[], float]  # runs one step and returns its loss


def random_ids(shape: Shape, batch: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Source ids (batch, length), and target ids (batch, length + 1) that begin with bos (1) and end with eos (2)."""
    generator = np.random.default_rng(0)
    source = generator.integers(4, shape.vocab_size, (batch, length))
    target = generator.integers(4, shape.vocab_size, (batch, length + 1))
    target[:, 0], target[:, -1] = 1, 2
    return source, target


def torch_step(shape: Shape, batch: int, length: int, threads: int) -> tuple[Step, int, str]:
    import torch
    from torch import nn
    from torch.nn import functional

    torch.manual_seed(0)
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("highest")

    class Translator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(shape.vocab_size, shape.d_model)
            nn.init.normal_(self.embedding.weight, std=shape.d_model**-0.5)
            self.dropout = nn.Dropout(DROPOUT)
            self.transformer = nn.Transformer(
                shape.d_model,
                shape.num_heads,
                shape.layers,
                shape.layers,
                shape.d_ff,
                DROPOUT,
                batch_first=True,
            )
            angles = torch.arange(length)[:, None] * 1e4 ** (-torch.arange(0, shape.d_model, 2) / shape.d_model)
            positions = torch.stack([angles.sin(), angles.cos()], dim=-1).reshape(length, shape.d_model)
            self.register_buffer("positions", positions)
            self.register_buffer("future", nn.Transformer.generate_square_subsequent_mask(length))

        def embed(self, ids: torch.Tensor) -> torch.Tensor:
            return self.dropout(self.embedding(ids) * math.sqrt(shape.d_model) + self.positions)

        def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            hidden = self.transformer(self.embed(source), self.embed(target), tgt_mask=self.future, tgt_is_causal=True)
            return functional.linear(hidden, self.embedding.weight)

    model = Translator().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, fused=True)
    source, target = (torch.from_numpy(ids) for ids in random_ids(shape, batch, length))

    def step() -> float:
        logits = model(source, target[:, :-1]).flatten(0, 1)
        loss = functional.cross_entropy(logits, target[:, 1:].flatten(), label_smoothing=SMOOTHING)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step, sum(parameter.numel() for parameter in model.parameters()), torch.__version__


def dragoman_step(shape: Shape, batch: int, length: int, threads: int) -> tuple[Step, int, str]:
    import dragoman as dg

    dg.manual_seed(0)
    dg.set_num_threads(threads)
    config = dg.TransformerConfig(
        vocab_size=shape.vocab_size,
        d_model=shape.d_model,
        num_heads=shape.num_heads,
        d_ff=shape.d_ff,
        num_encoder_layers=shape.layers,
        num_decoder_layers=shape.layers,
    ).with_dropout(DROPOUT)
    model = dg.Transformer(config)
    optimizer = dg.optim.AdamW(model, lr=LR)
    source, target = (ids.tolist() for ids in random_ids(shape, batch, length))
    target = [ids[1:-1] for ids in target]  # the loss adds bos and eos

    def step() -> float:
        loss = model.loss(source, target, SMOOTHING)
        value = loss.item()
        loss.backward()
        optimizer.step()
        return value

    return step, model.num_parameters(), dg.__version__


STEPS = {"dragoman": dragoman_step, "torch": torch_step}


def measure(arguments: argparse.Namespace) -> None:
    """Runs in a process of its own: one system, its figures as one JSON line."""
    make_step = STEPS[arguments.system]
    step, parameters, version = make_step(MODELS[arguments.model], arguments.batch, arguments.length, arguments.threads)
    losses, seconds = [step()], []
    for _ in range(arguments.steps):
        start = time.perf_counter()
        losses.append(step())
        seconds.append(time.perf_counter() - start)
    if not losses[-1] < losses[0]:
        sys.exit(f"{arguments.system}: the loss must fall on a repeated batch, got {losses}")
    tokens = 2 * arguments.batch * arguments.length
    figures = {
        "bench": "train_step",
        "system": arguments.system,
        "version": version,
        "model": arguments.model,
        "parameters": parameters,
        "batch": arguments.batch,
        "length": arguments.length,
        "threads": arguments.threads,
        "median_ms": round(1e3 * statistics.median(seconds), 1),
        "min_ms": round(1e3 * min(seconds), 1),
        "tokens_per_second": round(tokens / statistics.median(seconds)),
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "loss": round(losses[-1], 4),
        **machine(),
    }
    print(json.dumps(figures), flush=True)


def compare(arguments: argparse.Namespace) -> None:
    """Measures the systems in turns, a fresh process each time."""
    systems = list(STEPS) if arguments.system == "both" else [arguments.system]
    medians: dict[str, list[float]] = {system: [] for system in systems}
    settings = ["--worker"]
    for name in ("model", "batch", "length", "threads", "steps"):
        settings += [f"--{name}", str(getattr(arguments, name))]
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
    for _ in range(arguments.rounds):
        for system in systems:
            command = [sys.executable, __file__, "--system", system, *settings]
            line = subprocess.run(
                command, check=True, stdout=subprocess.PIPE, text=True, env=environment
            ).stdout.strip()
            print(line, flush=True)
            medians[system].append(json.loads(line)["median_ms"])
    if len(systems) > 1:
        median = {f"{system}_ms": statistics.median(times) for system, times in medians.items()}
        ratio = round(median["torch_ms"] / median["dragoman_ms"], 3)
        print(json.dumps({"bench": "train_step", **median, "torch_over_dragoman": ratio}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--system", choices=[*STEPS, "both"], default="both")
    parser.add_argument("--model", choices=MODELS, default="base")
    parser.add_argument("--batch", type=int, default=32, help="sentence pairs")
    parser.add_argument("--length", type=int, default=64, help="tokens of each source and each target")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--steps", type=int, default=5, help="timed steps in a process, after one to warm up")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each system")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    measure(arguments) if arguments.worker else compare(arguments)


if __name__ == "__main__":
    main()
