import dataclasses
import datetime
import json
import re
import sys

import dragoman as dg
import pytest
from dragoman.cli import demo, demo_dates, main

for name in ("babel", "matplotlib", "tokenizers"):
    pytest.importorskip(name)

DAY = datetime.date(2020, 4, 3)


@pytest.fixture(scope="module")
def writer():
    return demo_dates.DateWriter()


@pytest.fixture(scope="module")
def corpus():
    return demo_dates.make_corpus(pairs=2000, tests=8, held_out=300, seed=1)


@pytest.mark.parametrize(
    ("locale", "format", "source"),
    [
        ("en", "short", "en 4/3/2020"),
        ("en_GB", "short", "en_GB 03/04/2020"),
        ("en", "full", "en Friday, April 3, 2020"),
        ("de", "medium", "de 03.04.2020"),
        ("de", "long", "de 3. April 2020"),
        ("es", "short", "es 3/4/2020"),
        ("ko", "short", "ko 2020. 4. 3."),
        ("ko", "full", "ko 2020년 4월 3일 금요일"),
        ("ja", "long", "ja 2020年4月3日"),
    ],
)
def test_dates_are_written_as_cldr_says_with_four_digits_of_the_year(writer, locale, format, source):
    assert writer.pair(locale, format, DAY) == (source, "2020-04-03")


def test_no_locale_leaves_a_day_open(writer):
    """The numeric patterns have day, month and year, and two days never look the same."""
    days = [
        datetime.date(year, month, day) for year in (1910, 2010) for month in (1, 2, 11, 12) for day in (1, 2, 11, 12)
    ]
    for locale in demo_dates.LOCALES:
        for format in demo_dates.FORMATS:
            assert len({writer.pair(locale, format, day)[0] for day in days}) == len(days), (locale, format)


def test_there_are_enough_languages():
    languages = {locale.partition("_")[0] for locale in demo_dates.LOCALES}
    assert len(languages) >= 20
    assert "ko" in languages


def test_no_test_day_occurs_in_training(corpus):
    days = {
        "train": {target for _, target in corpus.train},
        "validation": {target for _, target in corpus.validation},
        "test": {target for pairs in corpus.test.values() for _, target in pairs},
    }
    assert not days["test"] & (days["train"] | days["validation"])
    assert not days["train"] & days["validation"]
    assert all("1900-01-01" <= day <= "2099-12-31" for found in days.values() for day in found)


def test_the_corpus_depends_on_the_seed_alone(corpus):
    assert demo_dates.make_corpus(2000, 8, 300, 1) == corpus
    assert demo_dates.make_corpus(2000, 8, 300, 2).train != corpus.train


def test_the_test_has_as_many_pairs_of_every_locale(corpus):
    assert tuple(corpus.test) == demo_dates.LOCALES
    for locale, pairs in corpus.test.items():
        assert len(pairs) == 8
        assert all(source.startswith(f"{locale} ") for source, _ in pairs)


def test_locales_and_digits_are_tokens_and_text_comes_back(corpus):
    tokenizer = demo.make_tokenizer(line for pair in corpus.train for line in pair)
    for locale, pairs in corpus.test.items():
        (locale_id,) = tokenizer.encode(locale)
        for source, target in pairs:
            ids = tokenizer.encode(source)
            assert ids[0] == locale_id
            assert tokenizer.decode(ids) == source
            assert len(tokenizer.encode(target)) == len(target)
            digits = [text for id in ids if re.search(r"\d", text := tokenizer.decode([id]))]
            assert all(len(text) == 1 for text in digits), source
    assert tokenizer.decode(tokenizer.encode("en 3 ☃ 日\u0378 1")) == "en 3 ☃ 日\u0378 1"


@pytest.fixture
def small(monkeypatch):
    """A demo of a few seconds: it learns nothing, but runs every part."""
    monkeypatch.setattr(demo, "PAIRS", 400)
    monkeypatch.setattr(demo, "TESTS", 4)
    monkeypatch.setattr(demo, "HELD_OUT", 40)
    monkeypatch.setitem(demo.TRAINING, "warmup", 1)
    config = demo.make_config

    def narrow(vocab_size):
        return dataclasses.replace(config(vocab_size), d_model=16, d_ff=16)

    monkeypatch.setattr(demo, "make_config", narrow)


def test_the_demo_ends_with_its_figures_and_leaves_a_model(small, tmp_path, capsys):
    output = tmp_path / "dates"
    assert main(["demo", "--output", str(output), "--seed", "3", "--threads", "1"]) == 0
    *shown, last = capsys.readouterr().out.splitlines()
    figures = json.loads(last)
    assert 0 <= figures["worst_exact_match"] <= figures["exact_match"] <= 100
    assert figures["worst_locale"] in demo_dates.LOCALES
    assert figures["seconds"] > 0
    assert (figures["seed"], figures["locales"], figures["test_pairs"]) == (3, 26, 104)
    for locale in demo_dates.LOCALES:
        assert any(re.match(rf"{locale} +\d+\.\d %   ", line) for line in shown)
    assert {path.name for path in output.iterdir()} == demo.FILES
    assert isinstance(dg.Translator.load(output)("ko 2020년 4월 3일", beam=1, max_length=12), str)

    assert main(["demo", "--output", str(output), "--seed", "4", "--threads", "1"]) == 0  # again, over the old one
    assert {path.name for path in output.iterdir()} == demo.FILES


def test_the_demo_replaces_no_model_of_another_origin(tmp_path, capsys):
    (tmp_path / "model.safetensors").write_text("precious")
    (tmp_path / "loss.png").write_text("a picture")
    assert main(["demo", "--output", str(tmp_path)]) == 2
    message = f"{tmp_path}: holds loss.png, model.safetensors, which the demo did not write; choose another --output"
    assert capsys.readouterr().err == f"dragoman demo: {message}\n"
    assert (tmp_path / "model.safetensors").read_text() == "precious"


def test_the_demo_refuses_a_negative_seed(tmp_path, capsys):
    assert main(["demo", "--output", str(tmp_path / "dates"), "--seed", "-1"]) == 2
    assert "--seed must be an integer in [0, " in capsys.readouterr().err
    assert not (tmp_path / "dates").exists()


@pytest.mark.parametrize("library", ["babel", "matplotlib", "tokenizers"])
def test_the_demo_without_a_library_names_the_extra(library, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, library, None)
    assert main(["demo", "--output", str(tmp_path / "dates")]) == 2
    assert "pip install 'dragoman[demo]'" in capsys.readouterr().err
    assert not (tmp_path / "dates").exists()
