"""Options of a search that may be texts: what an output begins with, what it contains, what it never contains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dragoman import arguments
from dragoman.data.texts import check_text, is_blank
from dragoman.data.tokenizer import Tokenizer

_SPACES = ("\u2581", "\u0120", " ")  # the names of a space, in vocabularies of pieces and of bytes


def with_ids(op: str, tokenizer: Tokenizer, options: Mapping[str, Any], before: Sequence[int] = ()) -> dict[str, Any]:
    """Options of a search with ids in the place of texts; ids stay as they are.

    - `prefix`: a text, or a list with a text for each of several requests. The ids `before` come first.
    - `constraints`: a list of phrases, each a text or ids. A phrase has a space before it, unless it begins with
      punctuation.
    - `suppress`: a list of texts or of ids. A text is suppressed as it is written at the beginning and after a space,
      and punctuation after a word, too. A spelling of several tokens becomes one of `bad_words`.

    Raises:
        TypeError, ValueError: naming what is no text, or is blank.
    """
    read = {name: value for name, value in options.items() if value is not None}
    if "prefix" in read:
        read["prefix"] = _prefix(op, tokenizer, read["prefix"], before)
    if "constraints" in read:
        read["constraints"] = _constraints(op, tokenizer, read["constraints"])
    if "suppress" in read:
        read["suppress"], sequences = _suppress(op, tokenizer, read["suppress"])
        if sequences:
            read["bad_words"] = [*read.get("bad_words", ()), *sequences]
    return {**options, **read}


def _prefix(op: str, tokenizer: Tokenizer, value: Any, before: Sequence[int]) -> Any:
    if isinstance(value, list | tuple) and any(isinstance(each, str) for each in value):
        return [[*before, *_encoded(op, f"prefix[{i}]", tokenizer, text)] for i, text in enumerate(value)]
    return [*before, *_encoded(op, "prefix", tokenizer, value)] if isinstance(value, str) else value


def _constraints(op: str, tokenizer: Tokenizer, value: Any) -> Any:
    return [
        _phrase(op, f"constraints[{i}]", tokenizer, each) if isinstance(each, str) else each
        for i, each in enumerate(_listed(op, "constraints", value))
    ]


def _suppress(op: str, tokenizer: Tokenizer, value: Any) -> tuple[list[Any], list[list[int]]]:
    """Ids, and sequences of them."""
    ids: list[Any] = []
    sequences = []
    for i, each in enumerate(_listed(op, "suppress", value)):
        if not isinstance(each, str):
            ids.append(each)
            continue
        for found in _spellings(op, f"suppress[{i}]", tokenizer, each):
            if len(found) == 1:
                ids += found
            else:
                sequences.append(found)
    return ids, sequences


def _listed(op: str, name: str, value: Any) -> Iterable[Any]:
    """TypeError for a single text, whose characters could be taken for a list, and for what is no list."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"{op}: {name} must be a list of texts or ids, got {arguments.described(value)}")
    return value


def _encoded(op: str, name: str, tokenizer: Tokenizer, text: Any) -> list[int]:
    check_text(op, name, text)
    return tokenizer.encode(*tokenizer.trimmed([text]))


def _phrase(op: str, name: str, tokenizer: Tokenizer, text: str) -> list[int]:
    ids, text = _visible(op, name, tokenizer, text), text.strip()
    return (_after_word(tokenizer, f" {text}") or ids) if text[0].isalnum() else _without_space(tokenizer, ids)


def _spellings(op: str, name: str, tokenizer: Tokenizer, text: str) -> list[list[int]]:
    """The ids of a text at the beginning and after a space, without the mark of a space that is a token of its own; of
    punctuation also after a word."""
    found, text = [_visible(op, name, tokenizer, text)], text.strip()
    found.append(_after_word(tokenizer, f" {text}"))
    if not text[0].isalnum():
        found.append(_after_word(tokenizer, text))
    different = dict.fromkeys(tuple(_without_space(tokenizer, ids)) for ids in found if ids)
    return [list(ids) for ids in different]


def _after_word(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids that a text adds to a word before it; none where the word then has other ids."""
    word, both = tokenizer.encode("a"), tokenizer.encode(f"a{text}")
    return both[len(word) :] if both[: len(word)] == word else []


def _visible(op: str, name: str, tokenizer: Tokenizer, text: str) -> list[int]:
    ids = _encoded(op, name, tokenizer, text)
    if is_blank(text):
        raise ValueError(f"{op}: {name} must have a visible character, got {arguments.shown(text)}")
    return ids


def _without_space(tokenizer: Tokenizer, ids: list[int]) -> list[int]:
    """Without the mark of the space before them, where it is a token of its own."""
    return ids[1:] if len(ids) > 1 and tokenizer.tokens(ids[:1])[0] in _SPACES else ids
