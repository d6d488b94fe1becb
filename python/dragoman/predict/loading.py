"""A model and its tokenizer from one folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dragoman import arguments
from dragoman.arrays import check_device
from dragoman.data.tokenizer import Tokenizer
from dragoman.data.tokenizer_file import MAXIMUM
from dragoman.json_file import read_bytes, read_object
from dragoman.models.base import CONFIG, TOKENIZER
from dragoman.models.folder import is_theirs, load_with, model_folder


def load_with_tokenizer(
    op: str,
    folder: str | Path,
    device: str,
    compute_type: str = "default",
    languages: tuple[str | None, str | None] | None = None,
) -> tuple[Any, Tokenizer]:
    """The model on `device`, in inference mode, and the tokenizer that its weights were saved with.

    Args:
        op: in whose name.
        folder, device, compute_type: as of `dragoman.load`.
        languages: of sources and targets, for what translates.

    Raises:
        OSError: a file is missing.
        TypeError: in the name of `op`: a folder that is no path.
        ValueError: a file that cannot be used, naming it; a device that is not there; a compute type that is none or
            does not fit device or folder; a language that the tokenizer does not know.
    """
    check_device(op, device)
    arguments.check_path(op, "folder", folder)
    tokenizer, contents = _tokenizer(Path(folder))
    if languages is not None:
        try:
            tokenizer = tokenizer.with_languages(*languages)
        except ValueError as error:
            raise ValueError(str(error).replace("Tokenizer", op, 1)) from None
    model = load_with(op, Path(folder), contents, device, compute_type)
    model.config = tokenizer.config_of(model.config)
    return model, tokenizer


def _tokenizer(folder: Path) -> tuple[Tokenizer, dict[str, bytes]]:
    """The tokenizer of a folder, and the file that the weights know, of those that were saved here."""
    with model_folder(folder):
        theirs = is_theirs(read_object(folder / CONFIG))
    if theirs:
        return Tokenizer.load(folder), {}
    with model_folder(folder):
        content = read_bytes(folder / TOKENIZER, MAXIMUM)
    return Tokenizer.parse(content, folder / TOKENIZER), {TOKENIZER: content}
