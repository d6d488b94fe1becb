"""The tasks that the command line knows by name."""

from __future__ import annotations

from dragoman.train.task import Task
from dragoman.train.translation import Translation

TASKS: dict[str, type[Task]] = {task.name: task for task in (Translation,)}
