"""The model of a folder, for a command."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def load_served(kind: Any, folder: str | Path, device: str) -> Any:
    """`kind.load`, of a class in `dragoman.predict`. ValueError, naming the folder, for another kind of model, too."""
    try:
        return kind.load(folder, device)
    except TypeError as error:
        raise ValueError(f"{folder}: {str(error).removeprefix(f'{kind.__name__}: ')}") from None
