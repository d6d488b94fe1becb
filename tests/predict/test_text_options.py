"""What outputs begin with, contain and never contain, asked for as text: the same as by ids."""

import dragoman as dg
import pytest
from dragoman.generate import generate
from dragoman.models import DecoderConfig, TextDecoder
from dragoman.predict.text_options import with_ids
from family import SIZES
from pretrained_files import byte_level

pytest.importorskip("tokenizers")
pytestmark = pytest.mark.usefixtures("one_thread")

LINES = ["a man sees two dogs .", "two dogs , a man and a cat !", "cats see dogs ."]
SOURCE = "a man sees"


@pytest.fixture(scope="module", params=["bpe", "char"])
def translator(request):
    tokenizer = dg.Tokenizer.train(LINES * 3, 90, request.param)
    dg.manual_seed(3)
    sizes = {"d_model": 16, "num_heads": 2, "d_ff": 24, "num_encoder_layers": 1, "num_decoder_layers": 1}
    return dg.Translator(dg.Transformer(dg.TransformerConfig(vocab_size=tokenizer.vocab_size, **sizes)), tokenizer)


@pytest.fixture(scope="module")
def language_model(translator):
    dg.manual_seed(0)
    config = DecoderConfig(vocab_size=translator.tokenizer.vocab_size, max_length=60, **SIZES)
    return dg.LanguageModel(TextDecoder(config), translator.tokenizer)


@pytest.fixture(params=["translator", "language_model"])
def served(request, translator, language_model):
    return translator if request.param == "translator" else language_model


def searched(served, text, **options):
    """The texts of `generate`, which takes ids."""
    ids = served.tokenizer.encode(text)
    if isinstance(served, dg.Translator):
        return [served.tokenizer.decode(found.ids) for found in generate(served.model, [[*ids, 2]], **options)[0]]
    prompt = [1, *ids]
    outputs = [[*prompt, *found.ids] for found in generate(served.model, [prompt], **options)[0]]
    return [served.tokenizer.decode(output)[len(text) :] for output in outputs]


def of(served, text):
    """The ids of a text without the mark of the space before it."""
    ids = served.tokenizer.encode(text)
    return ids[served.tokenizer.tokens(ids[:1]) == ["\u2581"] :]


def test_a_prefix(served):
    options = {"beam": 3, "max_length": 20}
    expected = searched(served, SOURCE, prefix=served.tokenizer.encode("two dogs"), **options)
    found = served.candidates([SOURCE], prefix=" two dogs\n", **options)[0]
    assert [each.text for each in found] == expected
    assert all(each.text.strip().startswith("two dogs") for each in found)
    assert served(SOURCE, prefix="", **options) == served(SOURCE, **options)
    assert "".join(served.stream(SOURCE, prefix="two dogs", **options)) == expected[0]


def test_a_prefix_for_each_text(served):
    options = {"beam": 2, "max_length": 20}
    prefixes = ["two dogs", "", "cat !"]
    expected = [served(SOURCE, prefix=prefix, **options) for prefix in prefixes]
    assert served([SOURCE] * 3, prefix=prefixes, **options) == expected
    ids = [served.tokenizer.encode(prefix) for prefix in prefixes]
    assert served([SOURCE] * 3, prefix=ids, **options) == expected
    assert served(SOURCE, prefix=prefixes[:1], **options) == expected[0]
    with pytest.raises(ValueError, match=r"prefix must hold 2, one for each text, got 3$"):
        served([SOURCE] * 2, prefix=prefixes)


def test_a_prefix_after_the_one_of_a_folder(served, monkeypatch):
    """As of a model that begins with the code of a language."""
    code = of(served, "!")
    monkeypatch.setattr(served, "_defaults", {"prefix": tuple(code)})
    options = {"beam": 2, "max_length": 20}
    encode = served.tokenizer.encode
    for prefix, ids in (("two dogs", [*code, *encode("two dogs")]), ("", code), (encode("cat"), encode("cat"))):
        assert served(SOURCE, prefix=prefix, **options) == searched(served, SOURCE, prefix=ids, **options)[0]
    expected = [served(SOURCE, prefix=prefix, **options) for prefix in ("cat", "")]
    assert served([SOURCE] * 2, prefix=["cat", ""], **options) == expected
    assert served(SOURCE, **options) == expected[1]


def test_constraints(served):
    """The space before a word is asked for, and none before punctuation."""
    options = {"beam": 12, "max_length": 40}
    phrases = [served.tokenizer.encode("a cat"), of(served, "!")]
    expected = searched(served, SOURCE, constraints=phrases, **options)
    found = served(SOURCE, constraints=["a cat", "!"], **options)
    assert found == expected[0]
    assert " a cat" in f" {found}"
    assert "!" in found
    assert served(SOURCE, constraints=[phrases[0], "!"], **options) == found


def test_suppressed_tokens(served):
    options = {"temperature": 3.0, "count": 40, "max_length": 9}
    unwritten = list(range(4, 260))
    before = [each.text for each in served.candidates([SOURCE], suppress=unwritten, **options)[0]]
    assert any("," in text for text in before)
    found = [each.text for each in served.candidates([SOURCE], suppress=[*unwritten, ","], **options)[0]]
    commas = [id for id in range(260, served.tokenizer.vocab_size) if "," in served.tokenizer.tokens([id])[0]]
    assert found == searched(served, SOURCE, suppress=[*unwritten, *commas], **options)
    assert not any("," in text for text in found)


def test_suppressed_phrases(served):
    """Their tokens are not written one after the other."""
    options = {"temperature": 1.5, "count": 60, "max_length": 9, "suppress": list(range(4, 260))}
    before = [each.text for each in served.candidates([SOURCE], **options)[0]]
    ids = [served.tokenizer.encode(text) for text in before if text]
    pairs = [served.tokenizer.decode(each[i : i + 2]) for each in ids for i in range(len(each) - 1)]
    phrase = next(text for text in pairs if text == text.strip() and text.isalnum() and len(of(served, text)) == 2)
    options["suppress"] = [*options["suppress"], phrase]
    found = [each.text for each in served.candidates([SOURCE], **options)[0]]
    options |= {"suppress": list(range(4, 260)), "bad_words": [of(served, phrase)]}
    assert found == searched(served, SOURCE, **options)
    assert found != before


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"constraints": "cat"}, TypeError, "constraints must be a list of texts or ids, got str 'cat'"),
        ({"suppress": "cat"}, TypeError, "suppress must be a list of texts or ids, got str 'cat'"),
        ({"constraints": ["a", " "]}, ValueError, r"constraints\[1\] must have a visible character, got ' '"),
        ({"suppress": ["", "a"]}, ValueError, r"suppress\[0\] must have a visible character, got ''"),
        ({"prefix": "\ud800"}, ValueError, "prefix must be Unicode text"),
        ({"prefix": ["a", 3]}, TypeError, r"prefix\[1\] must be a str, got int 3"),
        ({"prefix": 3}, TypeError, "prefix must be a sequence of ints, got int"),
        ({"suppress": 3}, TypeError, "suppress must be a list of texts or ids, got int 3"),
        ({"suppress": [None]}, TypeError, "suppress must be an int, got NoneType"),
        ({"constraints": 3}, TypeError, "constraints must be a list of texts or ids, got int 3"),
    ],
)
def test_what_cannot_be_read_is_named(served, options, error, message):
    with pytest.raises(error, match=f"^{type(served).__name__}: {message}"):
        served.candidates([SOURCE], beam=4, **options)


def test_several_outputs_are_not_given_where_one_is(served):
    message = (
        rf"^{type(served).__name__}: count must be 1 where one output is given, got 2; `candidates` gives several$"
    )
    for call in (served, served.submit, served.stream):
        with pytest.raises(ValueError, match=message):
            call(SOURCE, beam=2, count=2)
        assert call(SOURCE, beam=2, count=1, max_length=3) is not None


def test_words_of_a_byte_level_vocabulary(tmp_path):
    """Words begin with their space, but for the first of a text."""
    tokenizer = dg.Tokenizer.load(byte_level(tmp_path, "GPT2Tokenizer"))
    encode = tokenizer.encode
    assert encode(" the") != encode("the")
    options = {"prefix": "the", "constraints": ["the", ".", "\u00e9 the"], "suppress": ["the", ","]}
    read = with_ids("test", tokenizer, options)
    assert read["prefix"] == encode("the")
    assert read["constraints"] == [encode(" the"), encode("."), encode(" \u00e9 the")]
    assert read["suppress"] == [*encode(" the"), *encode(",")]
    assert read["bad_words"] == [encode("the")]
