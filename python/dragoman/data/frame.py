"""Frames: the special ids around those of a text, or of two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dragoman.data.columns import Ids


@dataclass(frozen=True)
class Frame:
    """What stands before and after the ids of a text where a model reads it.

    Attributes:
        prefix, suffix: special ids.
    """

    prefix: tuple[int, ...] = ()
    suffix: tuple[int, ...] = ()

    def around(self, ids: Sequence[int]) -> list[int]:
        """The ids of a text in the frame."""
        return [*self.prefix, *ids, *self.suffix]

    def cut(self, ids: Ids, maximum: int | None) -> Ids:
        """Framed ids, at most `maximum` of them: the suffix stays. All for None."""
        if maximum is None or len(ids) <= maximum:
            return ids
        last = len(self.suffix)
        return [*ids[: maximum - last], *ids[len(ids) - last :]]


@dataclass(frozen=True)
class PairFrame:
    """What stands around the ids of two texts where a model reads both.

    Attributes:
        prefix, middle, suffix: special ids.
        second: the type of the second text's tokens and of the suffix; others are of type 0.
    """

    prefix: tuple[int, ...]
    middle: tuple[int, ...]
    suffix: tuple[int, ...]
    second: int = 0

    def around(self, first: Ids, second: Ids, maximum: int) -> tuple[list[int], list[int]]:
        """The ids of two texts in the frame, at most `maximum`, and their types. The longer text is cut first."""
        room = max(maximum - len(self.prefix) - len(self.middle) - len(self.suffix), 0)
        if len(first) + len(second) > room:
            short = min(len(first), len(second), room // 2)
            kept = (short, room - short) if len(first) <= len(second) else (room - short, short)
            first, second = first[: kept[0]], second[: kept[1]]
        before = [*self.prefix, *first, *self.middle]
        after = [*second, *self.suffix]
        return before + after, [0] * len(before) + [self.second] * len(after)
