"""The model of a folder, for a command."""

from __future__ import annotations

import argparse
from typing import Any


def load_served(kind: Any, options: argparse.Namespace, **more: Any) -> Any:
    """`kind.load`, of a class in `dragoman.predict`, with what a command's options say of the model, and more.

    ValueError, naming the folder, for another kind of model, too.
    """
    try:
        return kind.load(options.folder, options.device, options.compute_type, **more)
    except TypeError as error:
        raise ValueError(f"{options.folder}: {str(error).removeprefix(f'{kind.__name__}: ')}") from None
