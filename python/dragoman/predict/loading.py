"""A model and its tokenizer from one folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dragoman import arguments
from dragoman.arrays import check_device
from dragoman.data.tokenizer import Tokenizer
from dragoman.data.tokenizer_file import MAXIMUM
from dragoman.json_file import read_bytes
from dragoman.models.base import TOKENIZER
from dragoman.models.folder import load_with, model_folder


def load_with_tokenizer(
    op: str, folder: str | Path, device: str, compute_type: str = "default"
) -> tuple[Any, Tokenizer]:
    """The model on `device`, in inference mode, and the tokenizer that its weights were saved with.

    Raises:
        OSError: a file is missing.
        TypeError: in the name of `op`: a folder that is no path.
        ValueError: a file that cannot be used, naming it; a device that is not there; a compute type that is none or
            does not fit device or folder.
    """
    check_device(op, device)
    arguments.check_path(op, "folder", folder)
    path = Path(folder) / TOKENIZER
    with model_folder(Path(folder)):
        content = read_bytes(path, MAXIMUM)
    model = load_with(op, Path(folder), {TOKENIZER: content}, device, compute_type)
    return model, Tokenizer.parse(content, path)
