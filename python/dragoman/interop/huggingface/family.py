"""Family: how checkpoints of a family of models become a model of ours, and back; and the table of families.

One table of names serves both ways. Loading asks, for each parameter of ours, which tensor of theirs holds it; saving
writes each parameter under that name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman.arguments import shown
from dragoman.interop.huggingface.fields import Fields
from dragoman.interop.huggingface.weights import Tensors
from dragoman.models import ModelConfig

Array = npt.NDArray[Any]

# By model_type, the module of families/ that reads it.
_MODULES = {
    "gpt2": "gpt2",
    "llama": "llama",
    "mistral": "llama",
    "smollm3": "llama",
    "qwen2": "qwen",
    "qwen3": "qwen",
    "gemma": "gemma",
    "gemma2": "gemma",
    "gemma3": "gemma",
    "gemma3_text": "gemma",
    "bart": "bart",
    "marian": "bart",
    "mbart": "bart",
    "m2m_100": "bart",
    "pegasus": "bart",
    "t5": "t5",
    "mt5": "t5",
    "umt5": "t5",
    "bert": "bert",
    "roberta": "roberta",
    "xlm-roberta": "roberta",
    "camembert": "roberta",
    "distilbert": "distilbert",
    "mpnet": "mpnet",
    "vit": "vit",
    "deit": "vit",
    "whisper": "whisper",
}

# Activations by their names.
ACTIVATIONS: dict[str, Any] = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "linear": "none",
}

# And back.
ACTIVATION_NAMES: dict[str, str] = {
    **{ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())},
    "gelu_tanh": "gelu_new",
}


class Form:
    """How a tensor of theirs holds a parameter of ours. This one: as it is."""

    def read(self, array: Array) -> Array:
        """Theirs -> ours."""
        return array

    def write(self, array: Array) -> Array:
        """Ours -> theirs."""
        return array

    def shape(self, ours: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of theirs, for a parameter of that shape."""
        return self.write(np.broadcast_to(np.float32(0), ours)).shape


class _Transposed(Form):
    """Weights (inputs, outputs), where ours are (outputs, inputs)."""

    def read(self, array: Array) -> Array:
        return array.T

    def write(self, array: Array) -> Array:
        return array.T


class _PlusOne(Form):
    """Norms that multiply by weight + 1."""

    def read(self, array: Array) -> Array:
        return array + np.float32(1)

    def write(self, array: Array) -> Array:
        return array - np.float32(1)


class _Row(Form):
    """A vector as a matrix of one row."""

    def read(self, array: Array) -> Array:
        return array.reshape(-1)

    def write(self, array: Array) -> Array:
        return array.reshape(1, -1)


SAME = Form()
TRANSPOSED = _Transposed()
PLUS_ONE = _PlusOne()
ROW = _Row()


@dataclass(frozen=True)
class Part(Form):
    """Part i of n equal parts of the last axis of theirs, as the queries, keys and values of GPT-2's c_attn.

    Attributes:
        i, n: which part, of how many.
        then: the form of the part.
    """

    i: int
    n: int
    then: Form = TRANSPOSED

    def read(self, array: Array) -> Array:
        size = array.shape[-1] // self.n
        part = array[..., self.i * size : (self.i + 1) * size]
        return self.then.read(part) if part.ndim > 1 else part

    def write(self, array: Array) -> Array:
        """The part alone; `joined` puts the parts together."""
        return self.then.write(array) if array.ndim > 1 else array

    def shape(self, ours: tuple[int, ...]) -> tuple[int, ...]:
        *first, last = super().shape(ours)
        return (*first, last * self.n)


@dataclass(frozen=True)
class Layout:
    """One checkpoint as a model of ours.

    Attributes:
        config: of the model.
        names: regex rules. Applied in order by `re.sub` to the name of a parameter of ours, they give the name of
            theirs.
        forms: regexes that fully match names of ours, each with a Form. The first that matches holds; without one, the
            tensor is the parameter as it is.
        ignored: regexes that fully match tensors of theirs for which the model has no use.
        copies: pairs of names of theirs. Saving writes a tensor under the first name too, where nothing else has it, if
            there is one of the second.
    """

    config: ModelConfig
    names: Sequence[tuple[str, str]]
    forms: Sequence[tuple[str, Form]] = ()
    ignored: Sequence[str] = ()
    copies: Sequence[tuple[str, str]] = ()

    def name(self, ours: str) -> str:
        """Their name of a parameter of ours."""
        for pattern, replacement in self.names:
            ours = re.sub(pattern, replacement, ours)
        return ours

    def form(self, ours: str) -> Form:
        """How their tensor holds a parameter of ours."""
        return next((form for pattern, form in self.forms if re.fullmatch(pattern, ours)), SAME)

    def ignores(self, theirs: str) -> bool:
        """Whether a tensor of theirs does not matter."""
        return any(re.fullmatch(pattern, theirs) for pattern in self.ignored)


@dataclass(frozen=True)
class Family:
    """A family of models of theirs.

    Attributes:
        model_types: the values of "model_type" in config.json.
        layout: from the fields of config.json and the tensors that the files hold. Saving calls it with the fields that
            `fields` gave and with no tensors at all: names and forms must not need any.
        fields: their config.json for a model of ours, "model_type" and "architectures" among it.
        aliases: regex rules, applied in order by `re.sub` to the names in files: prefixes and old spellings become the
            one name that `layout` knows.
    """

    model_types: tuple[str, ...]
    layout: Callable[[Fields, Tensors], Layout]
    fields: Callable[[Any], dict[str, Any]]
    aliases: Sequence[tuple[str, str]] = ()


def family_of(fields: Fields) -> Family:
    """The family of a config.json. ValueError, with the known ones, for an unknown model_type."""
    kind = fields.text("model_type")
    if kind not in _MODULES:
        raise fields.error("model_type", f"one of {', '.join(sorted(_MODULES))}")
    return family_named(kind)


def family_named(model_type: str) -> Family:
    """The family of a model_type. ValueError, with the known ones, for an unknown one."""
    if model_type not in _MODULES:
        raise ValueError(f"model_type must be one of {', '.join(sorted(_MODULES))}, got {shown(model_type)}")
    module = import_module(f"dragoman.interop.huggingface.families.{_MODULES[model_type]}")
    families: Sequence[Family] = module.FAMILIES if hasattr(module, "FAMILIES") else (module.FAMILY,)
    return next(family for family in families if model_type in family.model_types)


def joined(parts: Mapping[int, Array]) -> Array:
    """The parts of one tensor of theirs, by their places, as one array."""
    return np.concatenate([parts[i] for i in range(len(parts))], axis=-1)
