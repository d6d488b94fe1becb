"""Texts as the library takes them: what is one, and what has nothing to read."""

from __future__ import annotations

from collections.abc import Iterable

from dragoman.arguments import described

# Neither spaces nor controls by their category, and yet nothing is to be seen: fillers and the empty Braille pattern.
_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_INVISIBLE = frozenset(("Zs", "Zl", "Zp", "Cc", "Cf", "Mn"))  # spaces, controls, formats, marks on nothing


def is_blank(text: str) -> bool:
    """Whether no character of a text is to be seen: it is empty, or of spaces, zero-width spaces, controls."""
    if "!" <= text[:1] <= "~":  # most are not, by their first character
        return False
    from unicodedata import category

    return all(c.isspace() or c in _FILLERS or category(c) in _INVISIBLE for c in text)


def check_text(op: str, name: str, text: object) -> None:
    """TypeError unless `text` is a str; ValueError, naming the place, if it holds half of a surrogate pair."""
    if not isinstance(text, str):
        raise TypeError(f"{op}: {name} must be a str, got {described(text)}")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{op}: {name} must be Unicode text, got half of a surrogate pair at {error.start}"
            ) from None


def check_texts(op: str, name: str, texts: Iterable[object]) -> list[str]:
    """`texts` as a list of str. TypeError, ValueError as in `check_text`, naming the index; TypeError for one str."""
    try:
        items = iter(() if isinstance(texts, str | bytes) else texts)
    except TypeError:
        items = None
    if items is None or isinstance(texts, str | bytes):
        raise TypeError(f"{op}: {name} must be several texts, got {described(texts)}")
    checked = []
    for i, text in enumerate(items):
        if type(text) is not str or not text.isascii():
            check_text(op, f"{name}[{i}]", text)
        checked.append(text)
    return checked  # type: ignore[return-value]
