"""What a model of speech reads before the text: the start, a language, a task, and that no times are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dragoman import arguments, functional
from dragoman._core import Sequences
from dragoman.models.special_ids import start_ids
from dragoman.models.speech import SpeechTransformer
from dragoman.tensor import Tensor


@dataclass(frozen=True)
class SpeechPrompts:
    """The prompts that a model knows.

    Attributes:
        start: ids that every prompt begins with.
        languages: the id of each language, by its code; empty for a model of one language.
        tasks: the id of each task, by its name.
        end: ids that every prompt ends with.
    """

    start: tuple[int, ...]
    languages: Mapping[str, int]
    tasks: Mapping[str, int]
    end: tuple[int, ...]

    @classmethod
    def of(cls, config: Any, generation: Mapping[str, Any]) -> SpeechPrompts:
        """The prompts that a generation_config.json describes. ValueError, naming the field, for an id that is none."""
        languages = {name.strip("<|>"): id for name, id in _ids(generation, "lang_to_id", config).items()}
        tasks = _ids(generation, "task_to_id", config)
        if not generation.get("is_multilingual", bool(languages)):
            languages, tasks = {}, {}
        name = "no_timestamps_token_id"
        last = generation.get(name)
        return cls(start_ids(config), languages, tasks, () if last is None else (_id(name, last, config),))

    def ids(self, op: str, language: str | None, task: str) -> tuple[int, ...] | None:
        """The prompt of a language and a task; None where the language is not known yet. ValueError for one that the
        model does not know."""
        if language is not None:
            arguments.check_types(op, str, language=language)
        arguments.check_types(op, str, task=task)
        if language is not None and language not in self.languages:
            expected = f"one of {', '.join(self.languages)}" if self.languages else "None for this model"
            raise ValueError(f"{op}: language must be {expected}, got {arguments.shown(language)}")
        known = self.tasks or {"transcribe": -1}
        if task not in known:
            raise ValueError(f"{op}: task must be one of {', '.join(known)}, got {arguments.shown(task)}")
        if not self.languages:
            return (*self.start, *self.end)
        return None if language is None else self._of(self.languages[language], task)

    def finder(
        self, op: str, model: SpeechTransformer, language: str | None, task: str
    ) -> Callable[[Tensor], Sequence[int]]:
        """Gives the prompt for a memory: without a language, that of the most probable one. Errors as of `ids`."""
        fixed = self.ids(op, language, task)
        if fixed is not None:
            return lambda memory: fixed

        def find(memory: Tensor) -> Sequence[int]:
            one, source = Sequences([len(self.start)]), Sequences([memory.shape[0]])
            hidden = model.decode(np.array(self.start, np.int32), one, memory, source)
            logits = model.project(functional.gather(hidden, [len(self.start) - 1]), Sequences([1])).numpy()[0]
            return self._of(max(self.languages.values(), key=lambda id: float(logits[id])), task)

        return find

    def _of(self, language_id: int, task: str) -> tuple[int, ...]:
        spoken = (self.tasks[task],) if self.tasks else ()
        return (*self.start, language_id, *spoken, *self.end)


def _ids(generation: Mapping[str, Any], name: str, config: Any) -> dict[str, int]:
    values = generation.get(name) or {}
    if not isinstance(values, dict):
        raise ValueError(f"{name} must be an object of ids, got {arguments.shown(values)}")
    return {str(key): _id(f"{name}[{arguments.shown(key)}]", id, config) for key, id in values.items()}


def _id(name: str, value: Any, config: Any) -> int:
    if not arguments.is_integer(value) or not 0 <= value < config.output_size:
        raise ValueError(f"{name} must be an id in [0, {config.output_size}), got {arguments.shown(value)}")
    return int(value)
