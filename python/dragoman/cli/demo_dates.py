"""The data of the demo: dates as people write them, and the same dates in ISO 8601.

A source is a locale and a date of 1900 to 2099 in one of the locale's four CLDR patterns, "ko 2020년 4월 3일 금요일",
and its target "2020-04-03". The locale is part of the source because "03/04/2020" alone has no one meaning.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

LOCALES = (
    "ar", "cs", "de", "el", "en", "en_GB", "es", "fi", "fr", "he", "hi", "hu", "id",
    "it", "ja", "ko", "nl", "pl", "pt", "ru", "sv", "th", "tr", "uk", "vi", "zh",
)  # fmt: skip
FORMATS = ("short", "medium", "long", "full")
FIRST, LAST = datetime.date(1900, 1, 1), datetime.date(2099, 12, 31)


class DateWriter:
    """Writes dates in the patterns of every locale. Make it once, because reading CLDR takes time.

    Raises:
        ModuleNotFoundError: without the Babel library.
    """

    def __init__(self) -> None:
        from babel import Locale
        from babel.dates import format_date

        self._format_date = format_date
        self._locales = {name: Locale.parse(name) for name in LOCALES}
        # Two digits of a year leave the century open, so numeric patterns get all four.
        self._patterns = {
            (name, format): locale.date_formats[format].pattern.replace("yy", "y")
            for name, locale in self._locales.items()
            for format in FORMATS
        }

    def pair(self, locale: str, format: str, day: datetime.date) -> tuple[str, str]:
        """Source and target: ("en_GB 03/04/2020", "2020-04-03") for "en_GB", "short" and that day."""
        written = self._format_date(day, self._patterns[locale, format], self._locales[locale])
        return f"{locale} {written}", day.isoformat()


@dataclass(frozen=True)
class DateCorpus:
    """Pairs of three sets of days that have no day in common.

    Attributes:
        train: random days in random locales and formats.
        validation: the same. The number of pairs is a quarter of the number of its days.
        test: the same number of pairs for each locale, with the formats in turn.
    """

    train: list[tuple[str, str]]
    validation: list[tuple[str, str]]
    test: dict[str, list[tuple[str, str]]]


def make_corpus(pairs: int, tests: int, held_out: int, seed: int) -> DateCorpus:
    """Draws the corpus.

    Args:
        pairs: number of training pairs.
        tests: number of test pairs for each locale.
        held_out: number of days only for the test, and of days only for validation, out of 73,049.
        seed: seed of every random choice.

    Raises:
        ModuleNotFoundError: without the Babel library.
    """
    writer = DateWriter()
    generator = np.random.default_rng(seed)
    order = generator.permutation((LAST - FIRST).days + 1).tolist()
    test, validation, train = (
        [FIRST + datetime.timedelta(days) for days in part]
        for part in (order[:held_out], order[held_out : 2 * held_out], order[2 * held_out :])
    )

    def random_pairs(days: Sequence[datetime.date], count: int) -> Iterator[tuple[str, str]]:
        choices = (generator.integers(0, len(of), count).tolist() for of in (LOCALES, FORMATS, days))
        for locale, format, day in zip(*choices, strict=True):
            yield writer.pair(LOCALES[locale], FORMATS[format], days[day])

    def test_pairs(locale: str) -> list[tuple[str, str]]:
        days = generator.integers(0, len(test), tests).tolist()
        return [writer.pair(locale, FORMATS[i % len(FORMATS)], test[day]) for i, day in enumerate(days)]

    return DateCorpus(
        list(random_pairs(train, pairs)),
        list(random_pairs(validation, held_out // 4)),
        {locale: test_pairs(locale) for locale in LOCALES},
    )
