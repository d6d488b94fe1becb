"""The library's random state: one seed, the training step, and a counter of dropout masks.

Dropout masks are Philox4x32-10 bits at (seed, step, id): see csrc/core/random.h. Parameters are initialised from a
NumPy generator of the same seed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dragoman import _core, arguments

_CALLS = 2**16  # dropout calls of a batch whose masks differ from those of the next one


@dataclass
class _State:
    seed: int
    step: int = 0
    next_id: int = 0

    @cached_property
    def generator(self) -> np.random.Generator:
        """Made at its first use: the import of numpy.random takes time."""
        return np.random.Generator(np.random.Philox(self.seed))


_state = _State(0)

# The step in the memory of each device, for the kernels of recorded calls. Never freed: Programs point to it.
_step_at: dict[str, _core.Tensor] = {}


def manual_seed(n: int) -> None:
    """Sets the seed of every random stream of the library: weights at first and dropout masks.

    Args:
        n: in [0, 2^64).

    Raises:
        TypeError: `n` is not an int.
        ValueError: `n` is out of range.
    """
    global _state
    _state = _State(arguments.integer("manual_seed", "n", n, below=2**64))
    _write_step()


def generator() -> np.random.Generator:
    """The generator that initialises parameters."""
    with _drawing:
        return _state.generator


class MaskPosition(NamedTuple):
    """Which mask a dropout call draws next: a place in the stream of masks."""

    seed: int
    step: int
    next_id: int


class _Replay(threading.local):
    position: MaskPosition | None = None


_replay = _Replay()
_drawing = threading.Lock()


def _after_fork() -> None:
    """A child's lock: another thread of the parent may have held the old one."""
    global _drawing
    _drawing = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def next_dropout(p: float, device: str = "cpu") -> _core.Dropout:
    """The mask of the next dropout call of this step; p in [0, 1). ValueError otherwise.

    While a Program is recorded, the call's kernel reads the step from memory of `device`: a replay draws the mask of
    the step it runs in. Outside, the mask stays that of this step, in a backward that runs after the step too.
    """
    if p == 0:
        return _core.Dropout()
    step_at = _step_of(device) if _core.is_recording() else None
    if (position := _replay.position) is not None:
        _replay.position = position._replace(next_id=(position.next_id + 1) % 2**32)
        return _core.Dropout(p, *position, step_at if position.step == _state.step else None)
    with _drawing:
        dropout = _core.Dropout(p, _state.seed, _state.step, _state.next_id, step_at)
        _state.next_id = (_state.next_id + 1) % 2**32
    return dropout


def mask_position() -> MaskPosition:
    """Where the next dropout call of this thread takes its mask from, for `masks_from`."""
    return _replay.position or MaskPosition(_state.seed, _state.step, _state.next_id)


@contextmanager
def masks_from(position: MaskPosition) -> Iterator[None]:
    """Inside, the dropout calls of this thread draw the masks that calls drew from `position` on.

    So a forward pass runs again with the same masks::

        position = dragoman.random.mask_position()
        y = layer(x)
        with dragoman.random.masks_from(position):
            same = layer(x)

    Afterwards the stream goes on where it was. Other threads, and later calls, notice nothing.

    Raises:
        TypeError: `position` is none that `mask_position` returned.
    """
    if not isinstance(position, MaskPosition):
        raise TypeError(f"masks_from: position must be a MaskPosition, got {type(position).__name__}")
    before = _replay.position
    _replay.position = position
    try:
        yield
    finally:
        _replay.position = before


def begin_batch(place: int) -> None:
    """Moves to the masks of a batch by its place in the step, which do not depend on who runs the others.

    TypeError, ValueError unless `place` is an int in [0, 2^16).
    """
    place = arguments.integer("begin_batch", "place", place, below=2**16)
    with _drawing:
        _state.next_id = place * _CALLS


def advance_step() -> None:
    """Moves on to the masks of the next step. The optimizer calls it."""
    _state.step += 1
    _state.next_id = 0
    _write_step()


def _step_of(device: str) -> _core.Tensor:
    """The step in the memory of a device."""
    if device not in _step_at:
        _step_at[device] = _core.Tensor.empty([], "int64", device)
        _write_step()
    return _step_at[device]


def _write_step() -> None:
    for tensor in _step_at.values():
        tensor.copy_(np.array(_state.step, np.uint64).view(np.int64))


def get_state() -> dict[str, Any]:
    """All of the random state, as values that JSON can hold."""
    philox = _state.generator.bit_generator.state
    return {
        "seed": _state.seed,
        "step": _state.step,
        "next_id": _state.next_id,
        "generator": {
            "counter": [int(x) for x in philox["state"]["counter"]],
            "key": [int(x) for x in philox["state"]["key"]],
            "buffer": [int(x) for x in philox["buffer"]],
            "buffer_pos": int(philox["buffer_pos"]),
            "has_uint32": int(philox["has_uint32"]),
            "uinteger": int(philox["uinteger"]),
        },
    }


def set_state(state: dict[str, Any]) -> None:
    """Restores what `get_state` returned. ValueError when a field is missing or holds what it cannot hold."""
    global _state
    arguments.check_types("set_state", Mapping, state=state)
    try:
        new = _State(*(_within(state[name], bits) for name, bits in (("seed", 64), ("step", 63), ("next_id", 32))))
        saved = state["generator"]
        new.generator.bit_generator.state = {
            "bit_generator": "Philox",
            "state": {
                "counter": _words(saved["counter"], 4),
                "key": _words(saved["key"], 2),
            },
            "buffer": _words(saved["buffer"], 4),
            "buffer_pos": _within(saved["buffer_pos"], 3),  # 4: the buffer is empty
            "has_uint32": _within(saved["has_uint32"], 1),
            "uinteger": _within(saved["uinteger"], 32),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"set_state: state is not one that get_state returned: {error!r}") from error
    _state = new
    _write_step()


def _within(value: Any, bits: int) -> int:
    """An int of so many bits. ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value < 1 << bits:
        raise ValueError(f"must be an int of {bits} bits, got {arguments.shown(value)}")
    return int(value)


def _words(values: Any, count: int) -> npt.NDArray[np.uint64]:
    """So many ints of 64 bits. ValueError otherwise."""
    if not isinstance(values, list | tuple) or len(values) != count:
        raise ValueError(f"must be a list of {count} ints, got {arguments.shown(values)}")
    return np.array([_within(value, 64) for value in values], np.uint64)
