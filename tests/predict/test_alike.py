"""All classes that serve a model take a text, a list, an empty list and `submit` alike, and say so in their types."""

import typing

import dragoman as dg
import numpy as np
import pytest
from dragoman.cli import main
from dragoman.models import DecoderConfig, TextDecoder
from dragoman.train import Classification, ImageClassification, Tagging
from family import SIZES, encoder_for, tokenizer_of, vision_for

pytest.importorskip("tokenizers")
pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = ["the dog runs", "they fish", "", "the cat is good"]


def language_model(tokenizer):
    dg.manual_seed(0)
    config = DecoderConfig(vocab_size=tokenizer.vocab_size, max_length=40, **SIZES)
    return dg.LanguageModel(TextDecoder(config).eval(), tokenizer)


def translator(tokenizer):
    dg.manual_seed(0)
    layers = {"num_encoder_layers": 1, "num_decoder_layers": 1, "d_model": 16, "num_heads": 2, "d_ff": 32}
    config = dg.TransformerConfig(vocab_size=tokenizer.vocab_size, **layers)
    return dg.Translator(dg.Transformer(config).eval(), tokenizer)


MAKE = {
    "Classifier": lambda t: dg.Classifier(encoder_for(Classification(t, ["neg", "pos"])).eval(), t),
    "Tagger": lambda t: dg.Tagger(encoder_for(Tagging(t, ["NOUN", "VERB"])).eval(), t),
    "SentenceEncoder": lambda t: dg.SentenceEncoder(encoder_for(Classification(t, ["neg", "pos"])).eval(), t),
    "LanguageModel": language_model,
    "Translator": translator,
}
each = pytest.mark.parametrize("name", MAKE)
KINDS = {"Classifier": dict, "Tagger": list, "SentenceEncoder": np.ndarray, "LanguageModel": str, "Translator": str}


@each
def test_a_text_a_list_an_empty_list_and_submit(name):
    served = MAKE[name](tokenizer_of())
    found = served(TEXTS)
    assert len(found) == len(TEXTS)
    for text, one in zip(TEXTS, found, strict=True):
        assert isinstance(served(text), KINDS[name])
        np.testing.assert_equal(served(text), one)
        np.testing.assert_equal(served([text])[0], one)
        np.testing.assert_equal(served.submit(text).result(), one)
    assert len(served([])) == 0 and isinstance(served([]), np.ndarray if name == "SentenceEncoder" else list)
    np.testing.assert_equal(served(tuple(TEXTS)), found)


@each
def test_what_is_no_text_is_refused_at_once(name):
    served = MAKE[name](tokenizer_of())
    for bad, error in ((3, TypeError), (None, TypeError), (b"a", TypeError), ({"a"}, TypeError)):
        with pytest.raises(error, match=f"^{name}: text must be a str or a list of "):
            served(bad)
    with pytest.raises(ValueError, match=rf"^{name}: text\[1\] must be Unicode text, got half of a surrogate"):
        served(["a", "\ud800"])
    with pytest.raises(ValueError, match=rf"^{name}: text(\[0\])? must be Unicode text"):
        served("\ud800")
    for bad, error in ((3, TypeError), (["a"], TypeError), ("\ud800", ValueError)):
        with pytest.raises(error, match=f"^{name}: text must be "):
            served.submit(bad)


def test_words_are_checked_too():
    served = MAKE["Tagger"](tokenizer_of())
    assert served([["they", "fish"]]) == served(["they fish"]) == served([("they", "fish")])
    with pytest.raises(ValueError, match=r"^Tagger: text\[0\]\[1\] must be Unicode text"):
        served([["they", "\ud800"]])
    with pytest.raises(TypeError, match=r"^Tagger: text\[0\]\[0\] must be a str, got int 3"):
        served([[3]])


def test_images_alike(rng):
    served = dg.ImageClassifier(vision_for(ImageClassification(["cat", "dog"], 4, 1)).eval())
    images = rng.integers(0, 256, (3, 4, 4), np.uint8)
    found = served(images)
    assert served(list(images)) == found == [served(image) for image in images]
    assert served([]) == served(images[:0]) == []
    assert served.submit(images[0]).result() == found[0]
    for call in (served, served.submit):
        with pytest.raises(ValueError, match=r"^ImageClassifier: images must have shape \(images, 4, 4, 1\), got"):
            call(np.zeros((5, 5), np.uint8))
        with pytest.raises(TypeError, match=r"^ImageClassifier: images must be uint8 or floats, got dtype int64"):
            call(np.zeros((4, 4), np.int64))
        with pytest.raises(ValueError, match=r"^ImageClassifier: images must be a rectangular array"):
            call([np.zeros((4, 4)), np.zeros((4, 5))])


@each
def test_types_say_what_a_text_and_a_list_give(name):
    call = getattr(dg, name).__call__
    hints = [typing.get_type_hints(each) for each in typing.get_overloads(call)] or [typing.get_type_hints(call)]
    results = {str(hint["text"]): hint["return"] for hint in hints}
    assert typing.Any not in results.values()
    if name != "SentenceEncoder":  # a vector, or a matrix: one type
        of_text, of_list = results.values()
        assert of_list == list[of_text]


def test_what_is_drawn_depends_on_the_place_alone(rng):
    served = language_model(tokenizer_of())
    options = {"temperature": 1.0, "seed": 3, "max_length": 12}
    texts = ["the", "they fish and the dog", "the", "a", "the"]
    found = served(texts, **options)
    assert len({found[0], found[2], found[4]}) > 1
    assert [served([text], **options, place=i)[0] for i, text in enumerate(texts)] == found
    assert served(texts[:2], **options) == found[:2]
    assert served.submit("the", **options).result() == found[0]


def test_options_of_draws_are_checked_at_once():
    served = language_model(tokenizer_of())
    for call in (served, served.submit):
        with pytest.raises(ValueError, match=r"^LanguageModel: top_k must be at least 1, got 0"):
            call("a", temperature=1.0, top_k=0)
        with pytest.raises(ValueError, match=r"^LanguageModel: top_k needs a temperature above 0, got 0"):
            call("a", top_k=5)
        with pytest.raises(ValueError, match=r"^LanguageModel: top_p needs a temperature above 0, got 0"):
            call("a", top_p=0.5)
        with pytest.raises(ValueError, match=r"^LanguageModel: temperature must be at least 0, got -1"):
            call("a", temperature=-1)


def test_lines_draw_the_same_however_they_come(tmp_path, monkeypatch, capsys):
    served = language_model(tokenizer_of())
    served.model.save(tmp_path)
    served.tokenizer.save(tmp_path / "tokenizer.json")
    lines = [f"{text}\n".encode() for text in ("the", "they fish", "the", "the")]

    def predicted(parts):
        monkeypatch.setattr("dragoman.cli.translate.arriving_lines", lambda source, most: iter(parts))
        with open("/dev/null") as file:
            monkeypatch.setattr("sys.stdin", file)
            assert main(["predict", str(tmp_path), "--temperature", "1", "--max-length", "40", "--seed", "2"]) == 0
        return capsys.readouterr().out

    together = predicted([list(lines)])
    assert predicted([[line] for line in lines]) == predicted([lines[:1], lines[1:]]) == together
    assert len(set(together.splitlines())) == 4


def test_an_option_of_draws_without_a_temperature_is_named(tmp_path, monkeypatch, capsys):
    served = language_model(tokenizer_of())
    served.model.save(tmp_path)
    served.tokenizer.save(tmp_path / "tokenizer.json")
    (tmp_path / "in").write_text("the\n")
    with open(tmp_path / "in") as file:
        monkeypatch.setattr("sys.stdin", file)
        assert main(["predict", str(tmp_path), "--top-k", "5"]) == 2
    assert "--top-k needs a temperature above 0, got 0" in capsys.readouterr().err


def test_what_follows_a_line_contains(tmp_path, monkeypatch, capsys):
    served = language_model(tokenizer_of())
    served.model.save(tmp_path)
    served.tokenizer.save(tmp_path / "tokenizer.json")
    (tmp_path / "in").write_text("the\nthey\n")
    flags = ["--max-length=12", "--prefix=dog", "--constraint=cat", "--suppress=e", "--suppress=f"]
    with open(tmp_path / "in") as file:
        monkeypatch.setattr("sys.stdin", file)
        assert main(["predict", str(tmp_path), *flags]) == 0
    options = {"prefix": "dog", "constraints": ["cat"], "suppress": ["e", "f"]}
    found = served(["the", "they"], max_length=12, **options)
    assert capsys.readouterr().out.splitlines() == [" ".join(text.splitlines()) for text in found]
    assert all(text.startswith(" dog") and "cat" in text and not {*text} & {*"ef"} for text in found)
