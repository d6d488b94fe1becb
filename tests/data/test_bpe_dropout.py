import json

import numpy as np
import pytest
from dragoman.data.bpe_dropout import BpeDropout
from dragoman.data.tokenizer import Tokenizer
from dragoman.data.vocabulary import EOS

tokenizers = pytest.importorskip("tokenizers")

STEMS = ["sing", "jump", "stand", "play", "walk", "hold", "climb", "watch", "paint", "look"]
WORDS = [stem + ending for stem in STEMS for ending in ("", "s", "ing", "ed", "er", "ers")]
TEXT = f"{' '.join(WORDS)}. 😀 größer, T-shirt!"


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train([TEXT] * 5, 200)


def test_without_dropout_it_merges_as_the_library(tokenizer):
    ids = [*tokenizer.encode(TEXT), EOS]
    assert BpeDropout(tokenizer, 0.0, 1000)([ids, [], ids[:1]], (0,)) == [ids, [], ids[:1]]


def test_the_text_stays(tokenizer):
    text = f"{TEXT} 🚀"  # of four bytes
    ids = tokenizer.encode(text)
    for rate in (0.1, 0.5, 0.999999):
        split = BpeDropout(tokenizer, rate, 1000)
        first, again, other = split([ids], (1, 2)), split([np.array(ids)], (1, 2)), split([ids], (1, 3))
        assert tokenizer.decode(first[0]) == tokenizer.decode(other[0]) == text
        assert first == again == BpeDropout(tokenizer, rate, 1000)([ids], (1, 2))
        assert (first == other) == (rate > 0.9)  # almost every merge is left out: only characters and bytes
    assert len(first[0]) == len(text) + 1 + 3  # a mark comes first


def test_splits_are_as_long_as_the_library_s(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    theirs = json.loads((tmp_path / "tokenizer.json").read_text())
    theirs["model"]["dropout"] = 0.3
    backend = tokenizers.Tokenizer.from_str(json.dumps(theirs))
    lengths = [len(backend.encode(word).ids) for word in WORDS * 40]
    split = BpeDropout(tokenizer, 0.3, 1000)
    rows = [row for seed in range(40) for row in split([tokenizer.encode(word) for word in WORDS], (seed,))]
    plain = np.mean([len(tokenizer.encode(word)) for word in WORDS])
    assert np.mean(lengths) > 1.2 * plain
    assert np.mean([len(row) for row in rows]) == pytest.approx(np.mean(lengths), rel=0.04)


def test_a_row_that_would_be_too_long_keeps_its_split(tokenizer):
    long, short = tokenizer.encode(TEXT), tokenizer.encode("singing")
    found = BpeDropout(tokenizer, 0.999999, len(long))([long, short], (0,))
    assert found[0] == long
    assert len(found[1]) == len("singing") + 1 > len(short)


def test_splits_that_do_not_fit_are_made_again(tokenizer, monkeypatch):
    ids = tokenizer.encode(TEXT)
    expected = BpeDropout(tokenizer, 0.3, 1000)([ids], (0,))
    monkeypatch.setattr("dragoman.data.bpe_dropout.MAXIMUM", 3)
    assert BpeDropout(tokenizer, 0.3, 1000)([ids], (0,)) == expected


@pytest.mark.parametrize("kind", ["unigram", "char"])
def test_other_kinds_have_no_merges(kind):
    with pytest.raises(ValueError, match=r"^Tokenizer: bpe_dropout needs the kind bpe$"):
        BpeDropout(Tokenizer.train([TEXT], 100, kind), 0.1, 100)


def test_bad_arguments_are_named(tokenizer):
    with pytest.raises(TypeError, match=r"^BpeDropout: tokenizer must be a Tokenizer, got type$"):
        BpeDropout(int, 0.1, 100)
    with pytest.raises(ValueError, match=r"^BpeDropout: rate must lie in .* got 1.0$"):
        BpeDropout(tokenizer, 1.0, 100)
    with pytest.raises(ValueError, match=r"^BpeDropout: longest must be .* got -1$"):
        BpeDropout(tokenizer, 0.1, -1)
