"""Limits: what a request may ask of the server."""

from __future__ import annotations

from dataclasses import dataclass, fields

from dragoman import arguments


@dataclass(frozen=True)
class Limits:
    """What a request may ask of the server; what asks more is refused.

    Attributes:
        max_body: bytes of a request.
        max_texts: texts of a request, and phrases of `constraints`.
        max_characters: characters of a text.
        max_beam: `beam`, and `count`.
        max_length: `max_length`, in tokens of an output.
        body_seconds: for a request to arrive.

    Raises:
        TypeError, ValueError: a limit that is no int of at least 1.
    """

    max_body: int = 1 << 20
    max_texts: int = 256
    max_characters: int = 10_000
    max_beam: int = 16
    max_length: int = 1000
    body_seconds: int = 30

    def __post_init__(self) -> None:
        for field in fields(self):
            value = arguments.integer("Limits", field.name, getattr(self, field.name), 1)
            object.__setattr__(self, field.name, value)
