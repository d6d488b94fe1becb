"""Translator: what it takes, what it returns, and what it does in a forked child.

DRAGOMAN_FORKS=1000 forks a thousand times in each test of forks.
"""

import dataclasses
import os
import pickle
import re
import subprocess
import sys
import threading
import time

import dragoman as dg
import numpy as np
import pytest
from dragoman.generate import generate
from dragoman.predict import Candidate
from dragoman.predict.translator import LONGEST

pytest.importorskip("tokenizers")

TEXTS = ["a man", "", "two dogs", "a man sees two dogs"]
FORKS = int(os.environ.get("DRAGOMAN_FORKS", "40"))
INVISIBLE = [
    "",
    " \t",
    "\u200b",
    "\u200b\u200b \u200d",
    "\ufeff",
    "\u00ad",
    "\u2060\u3000",
    "\x00\x1b",
    "\u3164",
    "\u2800",
]


@pytest.fixture(scope="module")
def translator():
    dg.manual_seed(3)
    tokenizer = dg.Tokenizer.train(["a man sees two dogs", "\u200b\u00ad"] * 3, 64)
    config = dg.TransformerConfig(
        vocab_size=tokenizer.vocab_size, d_model=16, num_heads=2, d_ff=24, num_encoder_layers=1, num_decoder_layers=1
    )
    return dg.Translator(dg.Transformer(config), tokenizer)


def test_candidates_are_the_hypotheses_of_the_search(translator):
    found = translator.candidates(TEXTS, beam=3, max_length=6)
    for text, candidates in zip(TEXTS, found, strict=True):
        if not text:
            assert candidates == [Candidate("", 0.0)]
            continue
        ids = [*translator.tokenizer.encode(text), 2]
        [hypotheses] = generate(translator.model, [ids], beam=3, max_length=6)
        assert [c.text for c in candidates] == [translator.tokenizer.decode(h.ids) for h in hypotheses]
        assert [c.score for c in candidates] == pytest.approx([h.score for h in hypotheses], abs=1e-6)
        assert len(candidates) == 3
    assert translator(TEXTS, beam=3, max_length=6) == [candidates[0].text for candidates in found]
    assert translator.candidates("two dogs", beam=3, max_length=6) == found[2]
    assert translator.candidates("two dogs", beam=3, max_length=6, count=2) == found[2][:2]
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        translator.candidates("two dogs", count=0)


@pytest.mark.parametrize("text", INVISIBLE, ids=ascii)
def test_a_text_without_a_visible_character_becomes_empty(translator, text):
    assert translator(text) == ""
    assert translator([text, "a man"], max_length=5) == ["", translator("a man", max_length=5)]


@pytest.mark.parametrize("text", ["a\u200b", "\u200b.", "e\u0301", "👩\u200d🚀", "\ue000"], ids=ascii)
def test_a_text_with_a_visible_character_is_translated(translator, text):
    assert translator.candidates(text, max_length=5)[0].score < 0


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (None, TypeError, "text must be a str or a list of them, got NoneType"),
        (b"a", TypeError, "text must be a str or a list of them, got bytes"),
        (["a", None], TypeError, r"text\[1\] must be a str, got None"),
        (["a", "b", float("nan")], TypeError, r"text\[2\] must be a str, got float nan"),
        (["a", ["b"]], TypeError, r"text\[1\] must be a str, got list \['b'\]"),
        ([[5, 6, 7]], TypeError, r"text\[0\] must be a str, got list \[5, 6, 7\]"),
        ("a\udc80", ValueError, "text must be Unicode text, got half of a surrogate pair at 1"),
        (["a", "\ud800"], ValueError, r"text\[1\] must be Unicode text, got half of a surrogate pair at 0"),
    ],
)
def test_what_is_no_text_is_named(translator, text, error, message):
    with pytest.raises(error, match=f"^Translator: {message}$"):
        translator(text)
    with pytest.raises((TypeError, ValueError), match=r"^Translator: text"):
        translator.submit(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam": 0}, "beam must be at least 1, got 0"),
        ({"beam": 10**12}, "beam must be at most 1000, got 1000000000000"),
        ({"length_penalty": 1e30}, r"length_penalty must be at most 10, got 1e\+30"),
        ({"max_length": -1}, "max_length must be at least 0, got -1"),
    ],
)
@pytest.mark.parametrize("texts", [[], ["a man"]])
def test_options_are_checked_before_anything_is_translated(translator, options, message, texts):
    with pytest.raises(ValueError, match=f"^Translator: {message}$"):
        translator(texts, **options)
    with pytest.raises(ValueError, match=f"^Translator: {message}$"):
        translator.submit("a man", **options)


def test_a_text_longer_than_learned_positions_is_named(translator):
    config = dataclasses.replace(translator.model.config, positions="learned", max_length=8)
    short = dg.Translator(dg.Transformer(config), translator.tokenizer)
    with pytest.raises(ValueError, match=r"^Translator: text\[1\] must have at most 8 tokens, got \d+; translate"):
        short(["a man", "a man sees two dogs " * 5])
    assert short(["a man"], max_length=2) == [short("a man", max_length=2)]


def test_a_text_that_is_far_too_long_is_named(translator, monkeypatch):
    assert LONGEST == 10_000
    monkeypatch.setattr("dragoman.predict.translator.LONGEST", 8)
    with pytest.raises(ValueError, match=r"^Translator: text\[1\] must have at most 8 tokens, got \d+; translate"):
        translator(["a man", "a man sees two dogs " * 5])
    cutting = dataclasses.replace(translator.model.config, max_source_length=12)
    model = dg.Transformer(cutting)
    assert dg.Translator(model, translator.tokenizer)("a man sees two dogs " * 5, max_length=2) is not None


def test_a_folder_that_is_no_model_is_named(tmp_path):
    for folder, lacks in (("none", ""), (".", r" \(it has no config.json\)")):
        with pytest.raises(
            FileNotFoundError, match=f"not a model folder{lacks}: '{re.escape(str(tmp_path / folder))}'"
        ):
            dg.Translator.load(tmp_path / folder)
    with pytest.raises(FileNotFoundError, match=r"not a model folder \(it has no config.json\)"):
        dg.load(tmp_path)


def test_a_child_of_a_process_that_has_used_the_threads_of_the_tokenizers(translator, tmp_path):
    """Rust's threads do not live in the child; what the user sets for them must not make it wait for them."""
    translator.model.save(tmp_path)
    translator.tokenizer.save(tmp_path / "tokenizer.json")
    code = """
import os, sys, dragoman as dg
translator = dg.Translator.load(sys.argv[1])
words = [f"a{i}" for i in range(100)]
ids = translator.tokenizer.encode_batch(words)
child = os.fork()
if child == 0:
    tokenizer = dg.Tokenizer.load(f"{sys.argv[1]}/tokenizer.json")  # remembers no word
    os._exit(0 if tokenizer.encode_batch(words) == ids else 3)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "true"}
    command = [sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.run(command, env=environment, timeout=60).returncode == 0


def test_translations_follow_the_model(translator):
    """As of a translator that is kept while its model is trained."""
    translator = pickle.loads(pickle.dumps(translator))
    text, ids = "two dogs", [*translator.tokenizer.encode("two dogs"), 2]
    for _ in range(3):
        (found,) = translator.candidates([text], beam=2, max_length=8)
        (expected,) = generate(translator.model, [ids], beam=2, max_length=8)
        assert [c.score for c in found] == pytest.approx([h.score for h in expected], abs=1e-6)
        for parameter in translator.model.parameters():
            parameter.copy_(parameter.numpy() * 1.5)


def test_repr_says_what_it_holds(translator):
    assert repr(translator) == (
        f"Translator(Transformer, {translator.model.num_parameters():,} parameters, "
        f"vocab_size={translator.tokenizer.vocab_size})"
    )


def test_numbers_of_numpy_are_numbers(translator):
    options = {"beam": np.int64(2), "length_penalty": np.float32(0.5), "max_length": np.int32(4)}
    assert translator("a man", **options) == translator("a man", beam=2, length_penalty=0.5, max_length=4)


def in_a_child(work, seconds=60.0):
    """Whether `work()` is true in a forked child; a child that hangs is killed."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if work() else 2
        finally:
            os._exit(code)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if (done := os.waitpid(child, os.WNOHANG))[0]:
            return os.waitstatus_to_exitcode(done[1]) == 0
        time.sleep(0.002)
    os.kill(child, 9)
    os.waitpid(child, 0)
    raise AssertionError("the child hangs")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_translates_after_submit(translator):
    expected = translator.submit("a man", max_length=5).result()

    def work():
        both = translator.submit("a man", max_length=5), translator("a man", max_length=5)
        return [both[0].result(30), both[1]] == [expected] * 2

    for _ in range(FORKS):
        assert in_a_child(work)
    assert in_a_child(lambda: in_a_child(work)), "a child of a child"
    assert work()


@pytest.mark.usefixtures("one_thread")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_forks_while_other_threads_translate(translator):
    """The lock is held, the queue is full and the model is in inference mode at the moment of the fork."""
    model = translator.model
    assert model.training
    expected = translator(TEXTS, beam=2, max_length=5)
    stop, right = threading.Event(), []

    def busy():
        while not stop.is_set():
            futures = [translator.submit(text, beam=2, max_length=5) for text in TEXTS]
            right.append(translator(TEXTS, beam=2, max_length=5) == expected)
            right.append([future.result() for future in futures] == expected)

    def work():
        modes = {module.training for _, module in model.named_modules()}
        future = translator.submit(TEXTS[0], beam=2, max_length=5)
        return (
            modes == {True} and translator(TEXTS, beam=2, max_length=5) == expected and future.result(30) == expected[0]
        )

    threads = [threading.Thread(target=busy) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for i in range(FORKS):
            time.sleep(0.0007 * (i % 7))  # at another moment of the search
            assert in_a_child(work)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert right
    assert all(right)
    assert model.training


def test_a_copy_works_in_a_child(translator):
    copy = pickle.loads(pickle.dumps(translator))
    copy.submit("a man", max_length=3).result()
    assert in_a_child(lambda: copy.submit("a man", max_length=3).result(30) is not None)
