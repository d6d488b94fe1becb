"""Frame: the special ids around those of a text."""

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
