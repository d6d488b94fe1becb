"""The n-gram model that language models are compared with in bench/ngram.py."""

import importlib.util
import math
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "bench" / "ngram.py"
pytestmark = pytest.mark.skipif(not PATH.exists(), reason="the benchmark is not here")
TEXTS = ["abab", "abc", "adcab", "bcab", "cc", "abba"]


@pytest.fixture(scope="module")
def ngram():
    spec = importlib.util.spec_from_file_location("ngram", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("order", [1, 2, 4])
def test_probabilities_of_a_history_have_the_sum_one(ngram, order):
    """Of all characters that were seen, of the end, and of one more that stands for all others."""
    model = ngram.KneserNey(TEXTS, order)
    model.tune(model.table(["abcab", "ba"]))
    for text in ["", "a", "abc", "zz"]:
        whole = 0.0
        for character in [*"abcd?", ""]:
            table = model.table([text + character])
            place = len(text)  # of the character, or of the end
            whole += 2 ** -model.bits(table[:, place : place + 1])
        assert whole == pytest.approx(1.0)


def test_a_bigram_by_hand(ngram):
    model = ngram.KneserNey(["ab", "ac"], 2)
    # After "a", b and c came once each: 0.75 of either goes to the order below. There a, b and c follow one character
    # each and the end follows two, so the sum is 5, and 4 * 0.75 of it goes to 5 characters: these, and one never seen.
    lower = (1 - 0.75) / 5 + (0.75 * 4 / 5) / 5
    expected = (1 - 0.75) / 2 + 1.5 / 2 * lower
    table = model.table(["ab"])
    assert model.bits(table[:, 1:2]) == pytest.approx(-math.log2(expected))


def test_tuning_does_not_lose(ngram):
    model = ngram.KneserNey(TEXTS, 3)
    table = model.table(["abab", "cab"])
    before = model.bits(table)
    assert model.tune(table) <= before
    assert model.bits(table) == pytest.approx(model.tune(table))
