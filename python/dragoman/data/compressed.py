"""Files that are compressed, as their endings say: .gz, .bz2, .xz and .zst, in small or capital letters."""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LINE_BYTES = 1 << 24  # of the longest line

# By the ending: the format's name, its module in Python, and the module's own error.
_FORMATS = {
    ".gz": ("gzip", "gzip", "BadGzipFile"),
    ".bz2": ("bzip2", "bz2", None),
    ".xz": ("xz", "lzma", "LZMAError"),
    ".zst": ("zstd", "compression.zstd", "ZstdError"),
}


def iter_bytes(path: str | Path) -> Iterator[bytes]:
    """The lines of a file with their line feeds, unpacked if it is compressed. Memory holds one line.

    Raises:
        OSError: naming the file.
        ValueError: a damaged file, a line of more than LINE_BYTES, a format that this Python cannot read.
    """
    name, module_name, error_name = _FORMATS.get(Path(path).suffix.lower(), ("", "", None))
    module = _module(path, name, module_name) if name else None
    errors: tuple[type[Exception], ...] = (EOFError, zlib.error)
    if error_name is not None:
        errors += (getattr(module, error_name),)
    with open(path, "rb") as raw, module.open(raw) if module else raw as file:
        number = 0
        while True:
            number += 1
            try:
                line = file.readline(LINE_BYTES + 1)
            except errors as error:
                raise ValueError(f"{path}: not a {name} file ({error})") from None
            except OSError as error:
                if error.errno is None:  # of bzip2
                    raise ValueError(f"{path}: not a {name} file ({error})") from None
                raise OSError(error.errno, error.strerror, str(path)) from None
            if len(line) > LINE_BYTES:
                raise ValueError(f"{path}: line {number} has more than {LINE_BYTES:,} bytes; {_ending(line)}")
            if not line:
                return
            yield line


def _ending(line: bytes) -> str:
    return "lines must end in a line feed" + (", not in a carriage return alone" if b"\r" in line else "")


def _module(path: str | Path, name: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        needs = "needs Python 3.14 or newer" if name == "zstd" else f"needs a Python that was built with {module}"
        raise ValueError(f"{path}: {name} {needs}; unpack the file first") from None
