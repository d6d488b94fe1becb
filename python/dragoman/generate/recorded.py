"""Recorded steps: what a search asks of a model, as two Programs that the core replays without Python.

They are recorded once and kept as long as the model stays as it is: its modules, their settings and the versions of its
parameters. So packed copies of weights may be constants of the Programs.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

import numpy as np

from dragoman import _core, functional
from dragoman._core import Sequences
from dragoman.creation import tensor
from dragoman.frozen import FrozenWeight
from dragoman.generate.aligning import covering_attention
from dragoman.generate.models import output_size
from dragoman.generate.narrowing import can_narrow, narrowed
from dragoman.models.decoder import TextDecoder
from dragoman.models.encoder_decoder import EncoderDecoder
from dragoman.models.speech import SpeechTransformer
from dragoman.nn import KVCache, Module, Parameter
from dragoman.nn.attention import is_recording_attention, record_attention
from dragoman.nn.kv_cache import cache_dtype
from dragoman.nn.lora import Choice
from dragoman.nn.weight import packing_at_once
from dragoman.program import record
from dragoman.tensor import Tensor

FIRST_LENGTH = 128  # of the longest text that a model's first Programs hold for
MOST_SHORTLISTS = 7  # that a model keeps Programs of, beside the newest
LONGEST_EXAMPLE = 8  # tokens of a text that Programs are recorded with, or a few more

# Whether Programs keep attention, and the tokens that their logits are of: () for all.
Kind = tuple[bool, tuple[int, ...]]
PLAIN: Kind = (False, ())
# The state of a model, and its Programs of each kind that was asked for.
Kept = tuple[Hashable, dict[Kind, _core.StepPrograms | None]]

_kept: WeakKeyDictionary[Any, Kept] = WeakKeyDictionary()
_recording = threading.Lock()


def replayed_steps(model: EncoderDecoder | TextDecoder) -> _core.ReplayedSteps | None:
    """The native steps of a model; None where they cannot be recorded: each sentence has its own adapter, attention
    weights are asked for, or the model's code reads values of tensors, which gives a RuntimeWarning."""
    state = None if is_recording_attention() else _state_of(model)
    if state is None:
        return None
    with _recording:
        kept = _kept.get(model)
        if kept is None or kept[0] != state:
            kept = state, {PLAIN: _first_programs(model)}
            _keep(model, *kept)
    programs = kept[1][PLAIN]
    return None if programs is None else _core.ReplayedSteps(programs, partial(_programs_for, model))


def _first_programs(model: Any) -> _core.StepPrograms | None:
    source, text = (min(length, FIRST_LENGTH) for length in _max_lengths(model))
    try:
        return _record(model, source, text)
    except ValueError as error:
        if min(source, text) > LONGEST_EXAMPLE:  # a model that takes only shorter texts cannot read the examples
            name = type(model).__name__
            warnings.warn(
                f"{name} decodes slowly: its steps cannot be recorded ({error})", RuntimeWarning, stacklevel=2
            )
        return None


def _programs_for(
    model: Any, longest_source: int, longest: int, keeps_attention: bool, tokens: Sequence[int]
) -> _core.StepPrograms:
    """Programs of the model as it is, for at least these lengths, kept in the place of the others."""
    kind = keeps_attention, tuple(tokens) if can_narrow(model) else ()
    with _recording:
        state = _state_of(model)
        kept = _kept.get(model)
        by_kind = kept[1] if kept is not None and kept[0] == state else {}
        known = by_kind.get(kind)
        old = (longest_source, longest) if known is None else (known.longest_source, known.longest)
        least = tuple(max(pair) for pair in zip(old, (longest_source, longest), strict=True))
        if known is not None and least == old:
            return known
        # Twice as long, so that it is seldom done; the longest that the model takes; or just long enough.
        twice = tuple(length if length == before else 2 * length for length, before in zip(least, old, strict=True))
        longest_of_model = tuple(max(pair) for pair in zip(least, _max_lengths(model), strict=True))
        for source, text in (twice, longest_of_model, least):
            try:
                programs = _record(model, source, text, kind)
                break
            except ValueError:  # a learned table of positions ends
                if (source, text) == least:
                    raise
        if state is not None:
            narrow = [each for each in by_kind if each[1]]
            old_kinds = narrow[:-MOST_SHORTLISTS] if kind[1] else []
            _keep(model, state, {k: p for k, p in by_kind.items() if k not in old_kinds} | {kind: programs})
        return programs


def _keep(model: Any, state: Hashable, programs: dict[Kind, _core.StepPrograms | None]) -> None:
    """Until the model's weights drop their packed copies, which are constants of the Programs."""
    _kept[model] = state, programs
    forget = partial(_forget, ref(model))
    for parameter in model.parameters():
        parameter.forms.on_drop = forget


def _forget(model: ReferenceType[Any]) -> None:
    owner = model()
    if owner is not None:
        _kept.pop(owner, None)


def _max_lengths(model: Any) -> tuple[int, int]:
    """Of a source and a text."""
    config = model.config
    sides = getattr(config, "encoder_side", config), getattr(config, "decoder_side", config)
    source, text = (getattr(side, "max_length", FIRST_LENGTH) for side in sides)
    return source, text


def _state_of(model: Any) -> Hashable | None:
    """Equal as long as recorded Programs hold. None where each sentence of a batch has an adapter of its own, and for
    what is no Module, whose changes nobody sees."""
    if not isinstance(model, Module):
        return None
    parts: list[Hashable] = []
    for _, module in model.named_modules():
        parts.append(id(module))
        for name, value in vars(module).items():
            if name == "training":  # the steps of a search are always those of inference
                continue
            if isinstance(value, Parameter):
                parts.append((id(value.data), value.data.version))
            elif isinstance(value, FrozenWeight):
                parts.append(id(value))
            elif value is None or isinstance(value, int | float | str):
                parts.append(value)
            elif isinstance(value, Choice):
                if isinstance(value.names, list):
                    return None
                parts.append(value.names)
    return tuple(parts)


class _Example:
    """Inputs to record with. Those of two examples differ in all that may differ in a search."""

    def __init__(
        self, model: Any, sources: list[int], prefixes: list[int], lengths: tuple[int, int], left: int = 1
    ) -> None:
        """The longest tables of positions are asked for: the source says that it is as long as the first of `lengths`,
        and the cache counts so many tokens that only `left` may follow the prefixes."""
        longest_source, longest = lengths
        rows = len(sources)
        read = _memory(model, sum(sources)) if isinstance(model, SpeechTransformer) else _zeros(sum(sources))
        self.source = read, Sequences(sources, max_length=max(longest_source, *sources))
        self.prefix = _zeros(sum(prefixes)), Sequences(prefixes)
        self.last = Tensor(_int32(np.cumsum(prefixes) - 1))
        self.next_ids = _zeros(rows)
        self.one_each = Sequences([1] * rows)
        self.cache = KVCache(rows, cache_dtype(model))
        room = longest - max(prefixes) - left
        self.cache.extend(Sequences([max(room - i, 0) for i in range(rows)]))


def _int32(values: Any) -> _core.Tensor:
    return _core.Tensor.from_numpy(np.ascontiguousarray(values, np.int32), "int32")


def _zeros(count: int) -> Tensor:
    return Tensor(_int32(np.zeros(count)))


def _memory(model: SpeechTransformer, rows: int) -> Tensor:
    """A memory, which entries of a model that reads sound bring."""
    values = np.zeros((rows, model.config.encoder_side.d_model), np.float32)
    return tensor(values, next(iter(model.parameters())).device)


def _record(model: Any, longest_source: int, longest: int, kind: Kind = PLAIN) -> _core.StepPrograms:
    """The Programs of a model. ValueError where its code does what cannot be recorded, or takes no such lengths."""
    keeps_attention, tokens = kind
    hears = isinstance(model, SpeechTransformer)  # its encoder runs before
    vocabulary = output_size(model)
    model = narrowed(model, tokens) if tokens else model
    translates = isinstance(model, EncoderDecoder)
    # By cache. The memory is no input: a step that read it, and not its keys and values in the cache, would be refused.
    memories: dict[int, tuple[Tensor, Sequences]] = {}

    def decode(ids: Tensor, sequences: Sequences, cache: KVCache) -> tuple[Tensor, ...]:
        """The decoder's output, and the weights of its attention to the source if they are kept."""
        memory = memories[id(cache)] if translates else ()
        if not keeps_attention:
            return (model.decode(ids, sequences, *memory, cache),)
        chosen = covering_attention("record", model)
        with record_attention([chosen]) as weights:
            hidden = model.decode(ids, sequences, *memory, cache)
        return hidden, weights[chosen].packed

    def first(*inputs: Any) -> tuple[Tensor, ...]:
        *source, ids, sequences, last, one_each, cache = inputs
        if translates:
            memories[id(cache)] = source[0] if hears else model.encode(*source), source[1]
        hidden, *weights = decode(ids, sequences, cache)
        return model.project(functional.gather(hidden, last), one_each), *weights

    def step(ids: Tensor, one_each: Sequences, cache: KVCache) -> tuple[Tensor, ...]:
        hidden, *weights = decode(ids, one_each, cache)
        return model.project(hidden, one_each), *weights

    def of_first(e: _Example) -> tuple[Any, ...]:
        return *(e.source if translates else ()), *e.prefix, e.last, e.one_each, e.cache

    lengths = longest_source, longest
    with model.inference():
        with packing_at_once():
            first(*of_first(_Example(model, [1], [1], lengths, left=0)))  # makes tables and packed weights
        rehearsal = _core.Rehearsal()  # from here on no kernel runs
        try:
            examples = [_Example(model, *rows, lengths) for rows in (([2, 3], [2, 1]), ([1, 4, 2], [3, 1, 2]))]
            first_program = record(first, *map(of_first, examples), frozen=True).data
            step_inputs = ((e.next_ids, e.one_each, e.cache) for e in examples)
            step_program = record(step, *step_inputs, frozen=True).data
        finally:
            rehearsal.stop()
    return _core.StepPrograms(
        first_program,
        step_program,
        translates,
        longest_source,
        longest,
        keeps_attention,
        cache_dtype(model),
        tokens,
        vocabulary,
    )


def _after_fork() -> None:
    global _recording
    _recording = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
