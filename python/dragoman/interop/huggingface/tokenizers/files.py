"""TokenizerFiles: what a checkpoint's folder says about text, read when it is asked for, and kept."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dragoman.arguments import shown
from dragoman.data.tokenizer import PACKED
from dragoman.data.tokenizer_file import MAXIMUM
from dragoman.json_file import parse_object, read_bytes

NAMES = (
    "config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "target_vocab.json", "source.spm", "target.spm",
    "spiece.model", "sentencepiece.bpe.model", "tokenizer.model",
)  # fmt: skip


class TokenizerFiles:
    """Some files of a folder, by their names.

    Args:
        origin: the folder, or the file that holds them, for errors.
        contents: the files; None for those of the folder.
    """

    def __init__(self, origin: Path, contents: Mapping[str, bytes] | None = None) -> None:
        self.origin = origin
        self.contents = {} if contents is None else dict(contents)
        self._reads = contents is None

    def __contains__(self, name: str) -> bool:
        return name in self.contents or (self._reads and (self.origin / name).exists())

    def path(self, name: str) -> str:
        """What errors call a file."""
        return str(self.origin / name)

    def read(self, name: str) -> bytes:
        """The content of a file. OSError where it is missing, ValueError where it is too large."""
        if name not in self.contents:
            if not self._reads:
                raise FileNotFoundError(f"{self.origin}: holds no {name}")
            self.contents[name] = read_bytes(self.origin / name, MAXIMUM)
        return self.contents[name]

    def object(self, name: str) -> dict[str, Any]:
        """The JSON object in a file; {} where there is no such file. ValueError as of `parse_object`."""
        return parse_object(self.read(name), self.path(name)) if name in self else {}

    def vocabulary(self, name: str) -> dict[str, int]:
        """The ids of tokens in a JSON file. ValueError, naming the file, for anything else."""
        values = self.object(name)
        for token, id in values.items():
            if type(id) is not int or not 0 <= id < 1 << 24:
                raise ValueError(f"{self.path(name)}: {shown(token)} must have an id, got {shown(id)}")
        if len(set(values.values())) != len(values):
            raise ValueError(f"{self.path(name)}: ids must be different, got one twice")
        return values

    def lines(self, name: str) -> list[str]:
        """The lines of a text file. ValueError, naming it, unless it is UTF-8."""
        try:
            text = self.read(name).decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.path(name)}: must be UTF-8 ({error})") from None
        return text.removesuffix("\n").replace("\r\n", "\n").split("\n")

    def packed(self, **settings: str | None) -> bytes:
        """One tokenizer.json that holds the files that were read, and settings."""
        files: dict[str, Any] = {}
        for name in sorted(self.contents):
            try:
                files[name] = self.contents[name].decode()
            except UnicodeDecodeError:
                files[name] = {"base64": b64encode(self.contents[name]).decode()}
        return json.dumps({"format": PACKED, **settings, "files": files}, ensure_ascii=False).encode()


def unpacked(values: Mapping[str, Any], origin: Path) -> TokenizerFiles:
    """The files that `TokenizerFiles.packed` wrote, from its fields. ValueError, naming `origin`, for others."""
    files = values.get("files")
    if not isinstance(files, dict):
        raise ValueError(f"{origin}: files must be an object, got {shown(files)}")
    contents = {}
    for name, value in files.items():
        if name not in NAMES:
            raise ValueError(f"{origin}: files must be of {', '.join(NAMES)}, got {shown(name)}")
        if isinstance(value, dict) and list(value) == ["base64"] and isinstance(value["base64"], str):
            try:
                contents[name] = b64decode(value["base64"], validate=True)
            except ValueError as error:
                raise ValueError(f"{origin}: {name} must be base64 ({error})") from None
        elif isinstance(value, str):
            contents[name] = value.encode()
        else:
            raise ValueError(f"{origin}: {name} must be a text, got {shown(value)}")
    return TokenizerFiles(origin, contents)
