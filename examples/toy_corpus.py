"""Writes a small parallel corpus: numbers in English words and in German ones, which say the ones before the tens.

python examples/toy_corpus.py [FOLDER]
"""

import random
import sys
from pathlib import Path

ONES = list(
    zip(
        ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"],
        ["ein", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"],
        strict=True,
    )
)
TENS = list(
    zip(
        ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"],
        ["zwanzig", "dreißig", "vierzig", "fünfzig", "sechzig", "siebzig", "achtzig", "neunzig"],
        strict=True,
    )
)


def pairs(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """`count` sentence pairs such as ("two hundred forty seven", "zwei hundert sieben und vierzig")."""
    generator = random.Random(seed)
    result = []
    for _ in range(count):
        thousands, hundreds, ones = generator.choices(ONES, k=3)
        tens = generator.choice(TENS)
        english, german = f"{tens[0]} {ones[0]}", f"{ones[1]} und {tens[1]}"
        if generator.random() < 0.9:
            english, german = f"{hundreds[0]} hundred {english}", f"{hundreds[1]} hundert {german}"
        if generator.random() < 0.7:
            english, german = f"{thousands[0]} thousand {english}", f"{thousands[1]} tausend {german}"
        result.append((english, german))
    return result


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "toy")
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, lines in zip(("en", "de"), zip(*pairs(3000), strict=True), strict=True):
        (folder / f"train.{suffix}").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main()
