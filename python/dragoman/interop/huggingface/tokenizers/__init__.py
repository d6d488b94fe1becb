"""Tokenizers of folders from elsewhere, by the `tokenizers` library alone."""

from __future__ import annotations

from pathlib import Path

from dragoman.data.tokenizer import Tokenizer
from dragoman.interop.huggingface.tokenizers.building import build
from dragoman.interop.huggingface.tokenizers.files import TokenizerFiles, unpacked
from dragoman.interop.huggingface.tokenizers.pretrained import PretrainedTokenizer
from dragoman.json_file import parse_object

__all__ = ["PretrainedTokenizer", "load_tokenizer", "parse_tokenizer"]


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a folder, of this package's layout too. OSError, ValueError as of `Tokenizer.load`."""
    files = TokenizerFiles(folder)
    if "format" in files.object("config.json"):
        return Tokenizer.load(folder / "tokenizer.json")
    for name in ("config.json", "generation_config.json"):  # they go along where the tokenizer is saved
        files.object(name)
    return build(files)


def parse_tokenizer(content: bytes, path: Path) -> Tokenizer:
    """The tokenizer that `PretrainedTokenizer.save` wrote. ValueError, naming `path`, for what it did not."""
    values = parse_object(content, str(path))
    tokenizer = build(unpacked(values, path))
    codes = values.get("source_language"), values.get("target_language")
    for name, code in zip(("source_language", "target_language"), codes, strict=True):
        if code is not None and not isinstance(code, str):
            raise ValueError(f"{path}: {name} must be a text, got {code!r}")
    return tokenizer if codes == (None, None) else tokenizer.with_languages(*codes)
