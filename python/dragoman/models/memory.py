"""What a training step takes of memory, found by rehearsing one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dragoman import _core, random
from dragoman.arguments import integer
from dragoman.distributed.ranks import Ranks
from dragoman.nn.init import skip_init


def memory_plan(
    model: Any, tokens: int | tuple[int, int], compute_dtype: str | None = None, ranks: int = 1
) -> dict[str, int]:
    """Bytes that a training step of `model` with AdamW takes at its peak, without running one.

    A copy of the model, `type(model)(model.config, compute_dtype)`, goes through a step on `example_batch(tokens)`, on
    the model's device. Its ops take their memory and do nothing, so the plan counts what a step would count. It leaves
    out the memory of matrix products (some 100 KiB a thread; on cuda at most 32 MiB), the interpreter, and the data.

    Args:
        model: a Model of any compute_dtype, which is used where `compute_dtype` is None.
        tokens: of the batch. For a Transformer: of the sources and as many of the targets, <s> included; or a pair.
        compute_dtype: "float32" or "bfloat16".
        ranks: processes that train together, in docs/guide/scaling.md. The plan is of one of them, that which keeps
            most; what arrives from the others while gradients are exchanged is left out.

    Returns:
        "parameters", "gradients", "optimizer" (moments and bfloat16 copies; on several ranks the rank's share of the
        moments and of the sum of gradients), "activations", and their sum, "peak".

    Raises:
        TypeError, ValueError: tokens or ranks that are no int above 0; an unknown compute_dtype.
    """
    from dragoman.optim import AdamW  # most models that are loaded are not trained

    batch, together = model.example_batch(tokens), _Planned(integer("memory_plan", "ranks", ranks, 1))
    with _rehearsal() as rehearsal, skip_init():
        twin = type(model)(model.config, compute_dtype or model.compute_dtype)
        twin.checkpoint_layers = model.checkpoint_layers
        parameters = rehearsal.memory_stats()["allocated"]
        twin.to(next(iter(model.parameters())).device)
        tables = rehearsal.memory_stats()["allocated"] - parameters  # of positions; on the CPU, NumPy has their memory
        optimizer = AdamW(twin, lr=0.0, ranks=together)
        held = rehearsal.memory_stats()["allocated"] - tables
        loss = twin.loss(*batch)
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


class _Planned(Ranks):
    """The last one of several ranks, none of which runs. Its share is the largest."""

    def __init__(self, size: int) -> None:
        self.rank, self.size = size - 1, size


@contextmanager
def _rehearsal() -> Iterator[_core.Rehearsal]:
    """Inside, this thread's ops compute nothing and their memory is counted apart; dropout draws nothing."""
    rehearsal, state = _core.Rehearsal(), random.get_state()
    try:
        yield rehearsal
    finally:
        rehearsal.stop()
        random.set_state(state)
