"""Texts and pairs are checked where they are taken: the error names the place and what was got."""

import dragoman as dg
import numpy as np
import pytest
from dragoman.arguments import described
from dragoman.data import Table
from dragoman.data.columns import flat_ids
from dragoman.data.pairs import encode_pairs
from dragoman.data.texts import check_texts, is_blank
from dragoman.train import Trainer, Translation
from toy_runs import model_of

pytest.importorskip("tokenizers")

GOOD = ("a", "b")
BAD_TEXTS = [
    (("x", float("nan")), TypeError, r"\[1\]\[1\] must be a str, got float nan"),
    (("x", None), TypeError, r"\[1\]\[1\] must be a str, got None"),
    ((5, "x"), TypeError, r"\[1\]\[0\] must be a str, got int 5"),
    (([4, 5], [6]), TypeError, r"\[1\]\[0\] must be a str, got list \[4, 5\]"),
    ((b"x", "x"), TypeError, r"\[1\]\[0\] must be a str, got bytes b'x'"),
    (("x", "y\udcff"), ValueError, r"\[1\]\[1\] must be Unicode text, got half of a surrogate pair at 1"),
    (("x", "y", "z"), TypeError, r"\[1\] must be two texts, got tuple \('x', 'y', 'z'\)"),
    (("x",), TypeError, r"\[1\] must be two texts, got tuple \('x',\)"),
    ("xy", TypeError, r"\[1\] must be two texts, got str 'xy'"),
    (None, TypeError, r"\[1\] must be two texts, got None"),
    ({"x": 1, "y": 2}, TypeError, r"\[1\] must be two texts, got dict"),
]
BAD_IDS = [
    (([4], [5.0]), r"\[1\]\[1\]\[0\] must be an int, got float"),
    (([4, True], [5]), r"\[1\]\[0\]\[1\] must be an int, got bool"),
    (([4, None], [5]), r"\[1\]\[0\]\[1\] must be an int, got NoneType"),
    ((np.array([4.0, 5.0]), [5]), r"\[1\]\[0\]\[0\] must be an int, got float64"),
    (("a", "b"), r"\[1\] must be two lists of ids, got tuple \('a', 'b'\)"),
    (([4], "b"), r"\[1\] must be two lists of ids, got tuple \(\[4\], 'b'\)"),
    (([4], [5], [6]), r"\[1\] must be two lists of ids, got tuple \(\[4\], \[5\], \[6\]\)"),
    (([4], np.zeros((1, 1), np.int32)), r"\[1\] must be two lists of ids, got tuple"),
    (([4], 5), r"\[1\] must be two lists of ids, got tuple \(\[4\], 5\)"),
]


@pytest.fixture(scope="module")
def tokenizer():
    return dg.Tokenizer.train(["a b x y"], 64)


@pytest.fixture(scope="module")
def trainer(tokenizer):
    config = dg.TransformerConfig(
        vocab_size=tokenizer.vocab_size, d_model=16, num_heads=2, d_ff=16, num_encoder_layers=1, num_decoder_layers=1
    )
    return Trainer(dg.Transformer(config), tokenizer=tokenizer, max_steps=1, warmup=1)


@pytest.mark.parametrize(("pair", "error", "message"), BAD_TEXTS)
def test_a_bad_pair_of_texts_is_named(tokenizer, trainer, pair, error, message):
    with pytest.raises(error, match=f"^encode_pairs: pairs{message}"):
        encode_pairs(tokenizer, [GOOD, pair])
    with pytest.raises(error, match=f"^Trainer: train{message}"):
        trainer.fit([GOOD, pair, GOOD])
    with pytest.raises(error, match=f"^Trainer: validation{message}"):
        trainer.fit([GOOD], [list(GOOD), pair])
    with pytest.raises(error, match=f"^encode_pairs: pairs{message}"):
        Translation(tokenizer).encode([GOOD, pair])


@pytest.mark.parametrize(("pair", "message"), BAD_IDS)
def test_a_bad_pair_of_ids_is_named(pair, message):
    trainer = Trainer(model_of(), max_steps=1, warmup=1)
    with pytest.raises(TypeError, match=f"^Trainer: train{message}"):
        trainer.fit([([4], [5]), pair])


@pytest.mark.parametrize("first", ["ab", ("a", [4]), ("a", "b", "c"), None, (None, "a"), (4, 5)])
def test_the_first_pair_decides_the_kind(trainer, first):
    with pytest.raises(TypeError, match=r"^Trainer: train\[0\] must be two texts or two lists of ids, got "):
        trainer.fit([first, GOOD])


def test_good_pairs_of_every_form_are_taken():
    trainer = Trainer(model_of(), max_steps=1, warmup=1)
    trainer.fit([([4, 5], []), [np.array([6], np.int64), (7,)], (np.array([], np.float64), [np.int32(8)])])


def test_lines_of_a_tokenizer_are_named(tokenizer):
    train = dg.Tokenizer.train
    for lines, message in (
        (["a", None], r"lines\[1\] must be a str, got None"),
        (iter(["a", "b", 3]), r"lines\[2\] must be a str, got int 3"),
        ("a b", "lines must be several texts, got str 'a b'"),
        (None, "lines must be several texts, got None"),
    ):
        with pytest.raises(TypeError, match=f"^tokenizer: {message}$"):
            train(lines, 64)
    with pytest.raises(ValueError, match=r"^tokenizer: lines\[0\] must be Unicode text"):
        train(["\ud800"], 64)
    assert train((line for line in ["a b x y"]), 64).digest() == tokenizer.digest()


def test_texts_of_a_tokenizer_are_named(tokenizer):
    with pytest.raises(TypeError, match=r"^Tokenizer: text must be a str, got float nan$"):
        tokenizer.encode(float("nan"))
    with pytest.raises(TypeError, match=r"^Tokenizer: texts\[1\] must be a str, got list \['b'\]$"):
        tokenizer.encode_batch(["a", ["b"]])
    with pytest.raises(TypeError, match=r"^Tokenizer: texts must be several texts, got str 'ab'$"):
        tokenizer.encode_batch("ab")
    assert tokenizer.encode_batch(("a", "b")) == [tokenizer.encode("a"), tokenizer.encode("b")]


def test_cells_of_a_table_are_named():
    for cell, shows in ((None, "None"), ("ab", "str 'ab'"), (5, "int 5")):
        with pytest.raises(TypeError, match=f"^Table: column b must hold lists of ids, got {shows} in row 1$"):
            Table({"a": [[1], [2]], "b": [[1], cell]})
    with pytest.raises(
        ValueError, match=r"^data: column a must hold integers of 32 bits, got list \[2147483648\] in row 3$"
    ):
        flat_ids("a", [[1], [2**31]], 2)


def test_check_texts_takes_what_yields_texts():
    assert check_texts("x", "y", iter(["a", "é"])) == ["a", "é"]
    assert check_texts("x", "y", []) == []
    assert check_texts("x", "y", np.array(["a", "b"])) == ["a", "b"]


def test_long_values_are_cut_in_messages():
    text = described("x" * 1000)
    assert text.startswith("str 'xxx") and "..." in text and len(text) < 100
    assert described(None) == "None"


def test_every_space_is_blank_and_no_letter():
    assert all(is_blank(character) for character in map(chr, range(0x110000)) if character.isspace())
    assert not any(is_blank(character) for character in "a1.é漢한ก☃👩")
