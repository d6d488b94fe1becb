"""What a training step takes of memory, found by rehearsing one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dragoman import _core, random
from dragoman.arguments import integer
from dragoman.nn.init import skip_init
from dragoman.optim import AdamW

_LENGTH = 64  # tokens of a sentence in the rehearsal; the plan hardly depends on it


def memory_plan(model: Any, tokens: int | tuple[int, int], compute_dtype: str | None = None) -> dict[str, int]:
    """Bytes that a training step of `model` with AdamW takes at its peak, without running one.

    A copy of the model goes through a step whose ops take their memory and do nothing, so the plan counts what a step
    would count. It leaves out what kernels take for less than their own call, the interpreter, and the data.

    Args:
        model: of any compute_dtype, which stands where `compute_dtype` is None.
        tokens: of the batch's sources and as many of its targets, <s> included; or a pair of both.
        compute_dtype: "float32" or "bfloat16".

    Returns:
        "parameters", "gradients", "optimizer" (moments and bfloat16 copies), "activations", and their sum, "peak".

    Raises:
        TypeError, ValueError: tokens that are no int above 0; an unknown compute_dtype.
    """
    source, target = tokens if isinstance(tokens, tuple) else (tokens, tokens)
    for side in (source, target):
        integer("memory_plan", "tokens", side, minimum=1)
    with _rehearsal() as rehearsal, skip_init():
        twin = type(model)(model.config, compute_dtype or model.compute_dtype)
        parameters = rehearsal.memory_stats()["allocated"]
        optimizer = AdamW(twin, lr=0.0)
        held = rehearsal.memory_stats()["allocated"]
        sentences = -(-max(source, target) // _LENGTH)
        loss = twin.loss(_ids(source, sentences), _ids(target - sentences, sentences))
        loss.backward()
        peak = rehearsal.memory_stats()["peak_allocated"]
        del loss, optimizer, twin
    return {
        "parameters": parameters,
        "gradients": parameters,
        "optimizer": held - 2 * parameters,
        "activations": peak - held,
        "peak": peak,
    }


def _ids(tokens: int, sentences: int) -> list[list[int]]:
    """A batch of so many tokens, spread evenly; a target's <s> are not among them."""
    return [[0] * (tokens // sentences + (i < tokens % sentences)) for i in range(sentences)]


@contextmanager
def _rehearsal() -> Iterator[_core.Rehearsal]:
    """Inside, this thread's ops compute nothing and their memory is counted apart; dropout draws nothing."""
    rehearsal, state = _core.Rehearsal(), random.get_state()
    try:
        yield rehearsal
    finally:
        rehearsal.stop()
        random.set_state(state)
