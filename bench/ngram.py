"""An interpolated n-gram model of characters: the baseline of a language model.

    python bench/ngram.py TRAIN VALID TEST [--order 5]

Modified Kneser-Ney smoothing (Chen & Goodman 1999): each order takes a discount from its counts and gives it to the
order below, which counts different characters before. The discounts, for the counts 1, 2 and more, are tuned on the
validation set. Each line is a text, and its end is one character, as in the score of `dragoman evaluate`.
"""

import argparse
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import product

import numpy as np
from dragoman.data import iter_texts

BEGIN, END = "\x02", "\n"


class KneserNey:
    """Counts of character n-grams, up to an order."""

    def __init__(self, texts: Iterable[str], order: int) -> None:
        self.order = order
        counts = Counter[str]()  # of n-grams of the highest order; those at a beginning are padded
        for text in texts:
            padded = BEGIN * (order - 1) + text.strip() + END
            counts.update(padded[i : i + order] for i in range(len(padded) - order + 1))
        self.counts = [counts]
        for _ in range(order - 1):  # a lower order counts how many n-grams of the order above end in it
            self.counts.insert(0, Counter(gram[1:] for gram in self.counts[0]))
        self.sums = [defaultdict[str, int](int) for _ in self.counts]  # by history
        self.kinds = [Counter((gram[:-1], min(count, 3)) for gram, count in grams.items()) for grams in self.counts]
        for grams, sums in zip(self.counts, self.sums, strict=True):
            for gram, count in grams.items():
                sums[gram[:-1]] += count
        self.discounts = np.full((order, 4), 0.75)  # of the counts 0, 1, 2 and 3 or more
        self.discounts[:, 0] = 0

    def table(self, texts: Iterable[str]) -> np.ndarray:
        """(order, characters, 5): for each character its count, the sum of its history's counts, and how many of these
        are 1, 2, and more."""
        rows = []
        for text in texts:
            padded = BEGIN * (self.order - 1) + text.strip() + END
            rows += [padded[i : i + self.order] for i in range(len(padded) - self.order + 1)]
        parts = []
        for n in range(1, self.order + 1):
            counts, sums, kinds = self.counts[n - 1], self.sums[n - 1], self.kinds[n - 1]
            grams = (row[self.order - n :] for row in rows)
            parts.append(
                [(counts[g], sums.get(g[:-1], 0), *(kinds[g[:-1], count] for count in (1, 2, 3))) for g in grams]
            )
        return np.array(parts, np.int64)

    def bits(self, table: np.ndarray) -> float:
        """Bits per character of what a table was made of."""
        p = np.full(table.shape[1], 1 / (len(self.counts[0]) + 1))  # one more, for characters never seen
        for rows, discount in zip(table, self.discounts, strict=True):
            count, total = rows[:, 0], rows[:, 1]
            kept, left = count - discount[np.minimum(count, 3)], rows[:, 2:] @ discount[1:]
            p = np.where(total > 0, (kept + left * p) / np.maximum(total, 1), p)
        return float(-np.log(p).mean() / math.log(2))

    def tune(self, table: np.ndarray) -> float:
        """Chooses the discounts one after the other, twice; returns the bits per character."""
        best = self.bits(table)
        for place in [*product(range(self.order), (1, 2, 3))] * 2:
            for discount in np.linspace(0.05, 1, 20) * place[1]:
                before = self.discounts[place]
                self.discounts[place] = discount
                if (bits := self.bits(table)) < best:
                    best = bits
                else:
                    self.discounts[place] = before
        return best


def measure(train: str, valid: str, test: str, order: int) -> dict[str, object]:
    """Bits per character of the validation and the test set, with the discounts."""
    model = KneserNey(iter_texts(train), order)
    return {
        "order": order,
        "validation_bits_per_character": round(model.tune(model.table(iter_texts(valid))), 4),
        "test_bits_per_character": round(model.bits(model.table(iter_texts(test))), 4),
        "discounts": model.discounts[:, 1:].round(2).tolist(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("train", "valid", "test"):
        parser.add_argument(name)
    parser.add_argument("--order", type=int, default=5)
    print(json.dumps(measure(**vars(parser.parse_args()))))
