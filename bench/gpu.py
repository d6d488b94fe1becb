"""One stage of bench/gpu.sh, or its table. Prints JSON lines.

    python bench/gpu.py ready|facts|ceilings|parity|ops|train|decode [--model base] [--device cuda] [--no-torch]
    python bench/gpu.py table FOLDER

ready: nothing, where the device can be used. facts: the machine. ceilings: what the GPU copies and multiplies at most,
by PyTorch. parity: gradients of the first step beside the CPU's, the losses of 100 steps beside the CPU's, and two runs
bit by bit, in float32. ops: linear, attention, layer norm, losses and AdamW beside PyTorch (its flash and cuDNN
attention too). train: bfloat16 steps beside PyTorch, eager and compiled, of a big model too where time is left. decode:
greedy search and beam search. table: what the stages of gpu.sh left in FOLDER.

A stage that finds no GPU ends with status 77 and says why in a line. Without PyTorch dragoman is measured alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import dragoman as dg
import numpy as np
from machine import machine
from training import ADAMW, SMOOTHING, Step, dragoman_model, dragoman_step, torch_step
from works import MODELS, Model, count_tokens, make_batches

Line = dict[str, Any]
PARITY_STEPS = 100
NOT_RUN = 77  # the exit status of a stage that cannot run here
TRAIN_SECONDS = 45  # of train: then no more works begin
GRADIENT_BAR, LOSS_BAR = 1e-4, 1e-3  # relative: of the largest gradient of a parameter; of the loss


def facts(options: argparse.Namespace) -> Iterator[Line]:
    try:
        command = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        gpu = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        gpu = str(error)
    torch = None
    if options.torch:
        import torch as torch_module

        torch = torch_module.__version__
    yield {"gpu": gpu, "status": dg.cuda.status(), "kernel": platform.release(), "torch": torch, **machine()}


def ready(options: argparse.Namespace) -> Iterator[Line]:
    yield from ()


def ceilings(options: argparse.Namespace) -> Iterator[Line]:
    """Bytes read and written by a copy in device memory; a bfloat16 product of squares."""
    if not options.torch:
        return
    import torch

    x = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    y = torch.empty_like(x)
    ms = ms_of(lambda: y.copy_(x), torch.cuda.synchronize)
    yield {"ceiling": "copy", "GB/s": 2 * x.numel() / ms / 1e6}
    size = 8192
    a, b = (torch.randn(size, size, device="cuda").bfloat16() for _ in range(2))
    ms = ms_of(lambda: a @ b, torch.cuda.synchronize)
    yield {"ceiling": "bfloat16 product", "TFLOP/s": 2 * size**3 / ms / 1e9}


def parity(options: argparse.Namespace) -> Iterator[Line]:
    model = MODELS[options.model]
    batches = make_batches(model, "random", 4)

    def built(device: str) -> dg.Transformer:
        return dragoman_model(model, "float32", 0.1).to(device)

    def gradients(device: str) -> dict[str, Any]:
        transformer = built(device)
        sources, targets = zip(*batches[0], strict=True)
        transformer.loss(sources, targets, SMOOTHING).backward()
        return {name: parameter.grad.numpy() for name, parameter in transformer.named_parameters()}

    there, here = gradients(options.device), gradients("cpu")
    largest = {name: float(np.abs(values).max()) for name, values in here.items()}
    least = 1e-3 * max(largest.values())  # the gradients of keys' biases are roundings
    errors = {name: float(np.abs(there[name] - here[name]).max()) / max(largest[name], least) for name in here}
    worst = max(errors, key=lambda name: errors[name])
    yield {"what": "gradients", "worst": worst, "error": errors[worst], "right": errors[worst] <= GRADIENT_BAR}

    def losses(device: str) -> list[float]:
        step = dragoman_step(built(device))
        return [step(batches[i % len(batches)]) for i in range(options.steps)]

    first, second, cpu = losses(options.device), losses(options.device), losses("cpu")
    yield {"what": "two runs", "right": first == second}
    error = max(abs(a - b) / b for a, b in zip(first, cpu, strict=True))
    yield {"what": f"losses of {options.steps} steps", "error": error, "right": error <= LOSS_BAR}


def ms_of(function: Callable[[], Any], finish: Callable[[], Any], calls: int = 10) -> float:
    """Milliseconds a call, the median of five times `calls` calls; `finish` waits for the device."""
    times = []
    for turn in range(6):
        begin = time.perf_counter()
        for _ in range(calls if turn > 0 else 1):
            function()
        finish()
        times.append((time.perf_counter() - begin) / calls)
    return 1e3 * statistics.median(times[1:])


def waiter(device: str) -> Callable[[], Any]:
    """Waits for the device: what is read comes after all that was started before."""
    return dg.tensor(np.zeros(1, np.float32), device).numpy


def own(array: np.ndarray, dtype: str, device: str) -> dg.Tensor:
    tensor = dg.tensor(array, device, dtype)
    tensor.requires_grad = True
    return tensor


def ops(options: argparse.Namespace) -> Iterator[Line]:
    """Forward and backward of each op, in bfloat16."""
    model, device = MODELS[options.model], options.device
    rng = np.random.default_rng(0)
    rows, features, heads = model.batch * model.length, model.d_model, model.num_heads
    x = rng.standard_normal((rows, features), np.float32)
    weight = rng.standard_normal((model.d_ff, features), np.float32) * features**-0.5
    table = rng.standard_normal((model.vocab_size, features), np.float32) * features**-0.5
    ids = rng.integers(0, model.vocab_size, rows)
    sequences = dg.Sequences([model.length] * model.batch)
    ones, zeros = np.ones(features, np.float32), np.zeros(features, np.float32)
    F = dg.functional
    cases: dict[str, tuple[list[np.ndarray], Callable[..., dg.Tensor]]] = {
        "linear": ([x, weight], lambda x, w: F.linear(x, w)),
        "layer_norm": ([x, ones, zeros], lambda x, w, b: F.layer_norm(x, w, b)),
        "attention": ([x, x, x], lambda q, k, v: F.attention(q, k, v, sequences, sequences, num_heads=heads)),
        "linear_cross_entropy": ([x, table], lambda x, w: F.linear_cross_entropy(x, w, ids)),
    }
    logits = rng.standard_normal((rows, model.vocab_size), np.float32)
    cases["cross_entropy"] = ([logits], lambda x: F.cross_entropy(x, ids))
    others = torch_ops(model, ids) if options.torch else {}
    for name, (arrays, op) in cases.items():
        tensors = [own(array, "bfloat16" if array.ndim > 1 else "float32", device) for array in arrays]
        seed = dg.tensor(rng.standard_normal(op(*tensors).shape), device, op(*tensors).dtype)

        def run(op: Any = op, tensors: Any = tensors, seed: Any = seed) -> None:
            op(*tensors).backward(seed)

        yield {"op": name, "system": "dragoman", "ms": ms_of(run, waiter(device))}
        for system, measure in others.get(name, {}).items():
            yield {"op": name, "system": system, "ms": measure(arrays)}
    yield from adamw(model, options)


def adamw(model: Model, options: argparse.Namespace) -> Iterator[Line]:
    """A step with its bfloat16 copies, after gradients are there; PyTorch's is fused, of float32 alone."""
    step = dragoman_step(transformer := dragoman_model(model, "bfloat16", 0.1).to(options.device))
    step(make_batches(model, "random", 1)[0])
    optimizer = dg.optim.AdamW(transformer, **ADAMW)
    yield {"op": "adamw", "system": "dragoman", "ms": ms_of(optimizer.step, waiter(options.device))}
    if not options.torch:
        return
    import torch

    copies = [torch.zeros(parameter.shape, device="cuda") for parameter in transformer.parameters()]
    for copy in copies:
        copy.requires_grad_().grad = torch.zeros_like(copy)
    fused = torch.optim.AdamW(copies, fused=True, **ADAMW)
    yield {"op": "adamw", "system": "torch fused", "ms": ms_of(fused.step, torch.cuda.synchronize)}


def torch_ops(model: Model, ids: np.ndarray) -> dict[str, dict[str, Callable[[list[np.ndarray]], float]]]:
    """For each op, PyTorch's ways of computing it."""
    import torch
    from torch.nn import functional
    from torch.nn.attention import SDPBackend, sdpa_kernel

    targets = torch.from_numpy(ids).cuda()

    def attention(backend: Any) -> Any:
        def run(q: Any, k: Any, v: Any) -> Any:
            shape = (model.batch, model.length, model.num_heads, -1)
            q, k, v = (x.view(shape).transpose(1, 2) for x in (q, k, v))
            with sdpa_kernel(backend):
                return functional.scaled_dot_product_attention(q, k, v)

        return run

    def layer_norm(x: Any, weight: Any, bias: Any) -> Any:
        return functional.layer_norm(x, x.shape[1:], weight, bias)

    def measured(function: Any) -> Callable[[list[np.ndarray]], float]:
        def measure(arrays: list[np.ndarray]) -> float:
            tensors = [torch.from_numpy(array).cuda().bfloat16().requires_grad_() for array in arrays]
            seed = torch.ones_like(function(*tensors))
            return ms_of(lambda: function(*tensors).backward(seed), torch.cuda.synchronize)

        return measure

    return {
        "linear": {"torch": measured(functional.linear)},
        "layer_norm": {"torch": measured(layer_norm)},
        "attention": {
            "torch flash": measured(attention(SDPBackend.FLASH_ATTENTION)),
            "torch cuDNN": measured(attention(SDPBackend.CUDNN_ATTENTION)),
        },
        "linear_cross_entropy": {
            "torch": measured(lambda x, w: functional.cross_entropy(functional.linear(x, w), targets))
        },
        "cross_entropy": {"torch": measured(lambda x: functional.cross_entropy(x, targets))},
    }


def train(options: argparse.Namespace) -> Iterator[Line]:
    end = time.perf_counter() + TRAIN_SECONDS
    works = [(options.model, order) for order in ("rectangle", "sorted")]
    if options.model == "base":
        works.append(("big", "rectangle"))
    for name, order in works:
        model = MODELS[name]
        systems: dict[str, Callable[[], Step]] = {
            "dragoman": partial(_dragoman_train, model, options.device),
        }
        if options.torch:
            systems["torch"] = partial(_torch_train, model, compiled=False)
            if order == "rectangle":  # other shapes are compiled anew, for longer than there is time
                systems["torch compiled"] = partial(_torch_train, model, compiled=True)
        batches = make_batches(model, order, options.batches)
        for system, build in systems.items():
            work = {"model": name, "work": order, "system": system}
            if time.perf_counter() > end:
                yield {**work, "not run": "no time"}
                continue
            step = build()
            for batch in batches[:3]:
                step(batch)
            begin = time.perf_counter()
            for batch in batches:
                step(batch)  # reads the loss
            seconds = time.perf_counter() - begin
            tokens = sum(count_tokens(batch) for batch in batches)
            yield {**work, "ms": 1e3 * seconds / len(batches), "tokens/s": tokens / seconds}


def _dragoman_train(model: Model, device: str) -> Step:
    return dragoman_step(dragoman_model(model, "bfloat16", 0.1).to(device))


def _torch_train(model: Model, compiled: bool) -> Step:
    return torch_step(model, "bfloat16", 0.1, "cuda", compiled=compiled)[0]


def decode(options: argparse.Namespace) -> Iterator[Line]:
    from dragoman.generate import generate

    model = MODELS[options.model]
    transformer = dragoman_model(model, "bfloat16", 0.0).to(options.device)
    sources = [source for source, _ in make_batches(model, "random", 4)[0]]
    for batch, beam in ((1, 1), (128, 1), (128, 4)):
        chosen = (sources * (batch // len(sources) + 1))[:batch]
        generate(transformer, chosen, beam=beam, max_length=model.length)
        begin = time.perf_counter()
        tokens = sum(len(ids) for ids in generate(transformer, chosen, beam=beam, max_length=model.length))
        seconds = time.perf_counter() - begin
        yield {"batch": batch, "beam": beam, "ms": 1e3 * seconds, "tokens/s": tokens / seconds}


def table(folder: Path) -> None:
    """A line for each line of JSON of each stage, after the stage's outcome."""
    for outcome in json.loads(f"[{','.join((folder / 'stages.jsonl').read_text().splitlines())}]"):
        print(f"{outcome['stage']:12} {outcome['outcome']:>10} {outcome['seconds']:>4} s  {outcome['why']}".rstrip())
        lines = folder / f"{outcome['stage']}.jsonl"
        for line in lines.read_text().splitlines() if lines.exists() else []:
            shown = json.loads(line)
            print("    " + ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in shown.items()))


STAGES = {
    "ready": ready,
    "facts": facts,
    "ceilings": ceilings,
    "parity": parity,
    "ops": ops,
    "train": train,
    "decode": decode,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=[*STAGES, "table"])
    parser.add_argument("folder", nargs="?", type=Path, help="of the table: where the stages' lines are")
    parser.add_argument("--model", choices=MODELS, default="base")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=PARITY_STEPS, help="of parity")
    parser.add_argument("--batches", type=int, default=30, help="of train")
    parser.add_argument("--no-torch", dest="torch", action="store_false", help="dragoman alone")
    options = parser.parse_args()
    if options.stage == "table":
        return table(options.folder)
    if options.stage != "facts" and options.device == "cuda" and not dg.cuda.is_available():
        print(dg.cuda.status(), file=sys.stderr)
        raise SystemExit(NOT_RUN)
    if options.torch and importlib.util.find_spec("torch") is None:
        options.torch = False
        if options.stage in ("ceilings", "ops", "train"):
            print(json.dumps({"torch": "is not installed"}), flush=True)
    wrong = 0
    for line in STAGES[options.stage](options):
        print(json.dumps(line), flush=True)
        wrong += line.get("right") is False
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
