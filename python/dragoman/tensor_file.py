"""safetensors files, written array by array: the library's own writer holds the whole file in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman.atomic import atomic_write

DIGEST = b'"sha256":"'  # before the digest in a header; quotes inside other fields are escaped, so it occurs once
BLANK = b"0" * 64  # stands for the digest while it is taken

_KINDS = {"f": "F", "i": "I", "u": "U"}


def write_arrays(
    path: str | Path, arrays: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str], *, digest: bool = False
) -> None:
    """Writes arrays as one safetensors file, atomically; needs no memory but for those that are not contiguous.

    Args:
        path: of the file.
        arrays: of floats or integers, by name.
        metadata: of the file.
        digest: add a field "sha256" to the metadata, of the whole file with the field's 64 digits as zeros.

    Raises:
        OSError: naming the file; what was there before is untouched.
    """
    # The order of the library, in which every array is aligned.
    ordered = dict(sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0])))
    header = _header(ordered, {**metadata, "sha256": BLANK.decode()} if digest else metadata)
    parts = [np.ascontiguousarray(array).reshape(-1).view(np.uint8).data for array in ordered.values()]
    if digest:
        taken = sha256(header)
        for part in parts:
            taken.update(part)
        header = header.replace(DIGEST + BLANK, DIGEST + taken.hexdigest().encode(), 1)
    atomic_write(path, header, *parts)


def _header(arrays: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    fields: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        dtype = f"{_KINDS[array.dtype.kind]}{8 * array.itemsize}"
        fields[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": (begin, end)}
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
