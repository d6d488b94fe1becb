import copy
import json
import pickle
import sys
import unicodedata
from typing import get_args

import pytest
from dragoman.data.tokenizer import Tokenizer, with_token
from dragoman.data.vocabulary import BYTES, SPECIALS, Kind
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

pytest.importorskip("tokenizers")

KINDS = get_args(Kind)

LINES = [
    "A man in a blue shirt is standing on a ladder cleaning a window.",
    "Ein Mann in einem blauen Hemd steht auf einer Leiter und putzt ein Fenster.",
    "Two men are at the stove preparing food; the größte Überraschung!",
    "나는 학교에 간다. 오늘은 날씨가 좋다.",
]


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request):
    return Tokenizer.train(LINES, 200, kind=request.param)


# Python and the library may have different versions of Unicode, so unassigned characters are left out.
TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cn"), exclude_characters="\u2581"))


@given(text=TEXTS)
@example("😀 👩\u200d🚀 ᚠᛇᚻ \U00013080 \0\x1b\x7f\t\r\n")
@example("  two  spaces, and one at the end ")
@example("<pad> <s> </s> <unk> <0x41> <0xFF>")
@example("A\u030a Å ﬁ")
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_round_trip(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == unicodedata.normalize("NFC", text)
    assert min(ids, default=4) >= 4
    assert tokenizer.encode_batch([text, f"a {text}", text]) == [ids, tokenizer.encode(f"a {text}"), ids]


def test_the_mark_of_a_space_reads_as_a_space(tokenizer):
    assert tokenizer.decode(tokenizer.encode("a\u2581man")) == "a man"


def test_round_trip_of_what_training_has_seen_often():
    # The trainers must not learn tokens that read like the reserved ones.
    for kind in KINDS:
        names = [*SPECIALS, "<0x41>", "<0xFF>"]
        tokenizer = Tokenizer.train([f"x{name} {name} y" for name in names] * 50, 200, kind)
        for name in names:
            assert tokenizer.decode(tokenizer.encode(f"x{name} {name} y")) == f"x{name} {name} y"


def test_reserved_ids(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    vocabulary = json.loads((tmp_path / "tokenizer.json").read_text())["model"]["vocab"]
    if isinstance(vocabulary, dict):
        tokens = sorted(vocabulary, key=vocabulary.get)
    else:
        tokens = [token for token, _ in vocabulary]
    assert tokens[:4] == ["<pad>", "<s>", "</s>", "<unk>"]
    assert tokens[4:260] == list(BYTES)
    assert len(set(tokens)) == tokenizer.vocab_size <= 200 + 256


def test_known_text_needs_no_bytes(tokenizer):
    for line in LINES[:3]:
        assert min(tokenizer.encode(line)) >= 260


def test_kinds_differ_in_length():
    lines = LINES * 50
    lengths = {kind: len(Tokenizer.train(lines, 200, kind).encode(LINES[0])) for kind in KINDS}
    assert max(lengths["bpe"], lengths["unigram"]) < lengths["char"] == len(LINES[0]) + 1


def test_rare_characters_give_way():
    tokenizer = Tokenizer.train([*LINES, *map(chr, range(0x4E00, 0x4F00))], 120)
    assert min(tokenizer.encode("standing")) >= 260
    assert tokenizer.encode("\u4eff")[-3:] == [4 + byte for byte in "\u4eff".encode()]
    assert tokenizer.vocab_size <= 120 + 256


def test_bytes_that_are_no_text_become_the_replacement_character(tokenizer):
    assert tokenizer.decode([4 + 0xFF]) == "\ufffd"


def test_encode_adds_no_special_tokens(tokenizer):
    # A text that contains the name of a special token must not end the sentence.
    assert min(tokenizer.encode("a man </s> <pad> in")) >= 3
    assert min(tokenizer.encode(LINES[0])) > 3
    assert tokenizer.encode("") == []


def test_a_copy_adds_none_either(tokenizer):
    for copied in (copy.copy(tokenizer), pickle.loads(pickle.dumps(tokenizer))):
        assert copied.encode("a </s>") == tokenizer.encode("a </s>")


def test_decode_skips_special_tokens(tokenizer):
    ids = tokenizer.encode(LINES[0])
    assert tokenizer.decode([1, *ids, 2, 0, 0]) == LINES[0]


def test_decode_names_an_id_without_a_token(tokenizer):
    ids, size = tokenizer.encode(LINES[0]), tokenizer.vocab_size
    for wrong in (size, 2**32 - 1):
        with pytest.raises(ValueError, match=rf"^Tokenizer: ids\[1\] must be below vocab_size {size}, got {wrong}$"):
            tokenizer.decode([ids[0], wrong, *ids])
        assert with_token([wrong, *ids], tokenizer) == ids
    with pytest.raises(TypeError, match=r"^Tokenizer: ids\[0\] must be an int, got float"):
        tokenizer.decode([1.0])
    assert tokenizer.decode([]) == ""
    assert tokenizer.decode([size - 1]) != ""


def test_normalises_to_nfc(tokenizer):
    decomposed = unicodedata.normalize("NFD", LINES[3])
    assert decomposed != LINES[3]
    assert tokenizer.encode(decomposed) == tokenizer.encode(LINES[3])


def test_batches_are_the_single_calls(tokenizer):
    ids = [tokenizer.encode(line) for line in LINES]
    assert tokenizer.encode_batch(LINES) == ids
    assert tokenizer.decode_batch(ids) == LINES


def test_words_that_do_not_fit_the_cache(tokenizer, monkeypatch):
    monkeypatch.setattr("dragoman.data.word_cache.MAXIMUM", 40)
    assert [tokenizer.encode_batch([line])[0] for line in LINES * 2] == [tokenizer.encode(line) for line in LINES * 2]


def test_a_tokenizer_that_looks_beyond_words():
    tokenizers = pytest.importorskip("tokenizers")
    model = tokenizers.models.BPE({**dict(zip(SPECIALS, range(4), strict=True)), "a": 4, " ": 5, "a a": 6, " a": 7},
                                  [(" ", "a"), ("a", " a")])  # fmt: skip
    tokenizer = Tokenizer(tokenizers.Tokenizer(model))
    assert tokenizer.encode_batch(["a a"]) == [[6]] == [tokenizer.encode("a a")]


@pytest.mark.parametrize("kind", KINDS)
def test_lower_case(kind, tmp_path):
    Tokenizer.train(LINES, 200, kind, lowercase=True).save(tmp_path / "tokenizer.json")
    tokenizer = Tokenizer.load(tmp_path / "tokenizer.json")
    for text in (*LINES, "", " ÄÖÜ  \u1e9e ", "A\u030aΔ", "İ", "ABC</S>"):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == unicodedata.normalize("NFC", "".join(map(str.lower, text)))
        assert tokenizer.encode_batch([text, text.upper()]) == [ids, tokenizer.encode(text.upper())]
    assert tokenizer.encode(LINES[0].upper()) == tokenizer.encode(LINES[0].lower())
    assert tokenizer._words is not None  # the words of a text are looked up


def test_punctuation_is_no_part_of_a_word():
    tokenizer = Tokenizer.train(['The dog, the dog. A "dog" (dog) and a T-Shirt...'] * 50, 300)
    names = tokenizer.tokens(tokenizer.encode('A dog. (dog) "dog", T-Shirt...'))
    assert names == ["▁A", "▁dog", ".", "▁(", "dog", ")", '▁"', "dog", '"', ",", "▁T-Shirt", "..."]


def test_words_of_a_tokenizer_that_splits_at_spaces_alone(tokenizer, tmp_path):
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    content = json.loads(path.read_text())
    content["pre_tokenizer"] = content["pre_tokenizer"]["pretokenizers"][0]
    path.write_text(json.dumps(content))
    loaded = Tokenizer.load(path)
    assert loaded._words is not None
    assert loaded.encode_batch(LINES) == [loaded.encode(line) for line in LINES]


@pytest.mark.parametrize("kind", KINDS)
def test_training_is_deterministic(kind):
    lines = [f"{line} {word}" for line in LINES for word in ["mechanic", "repairs", "engine", "car"]]
    assert len({Tokenizer.train(iter(lines), 200, kind).digest() for _ in range(3)}) == 1


def test_save_and_load(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert loaded.vocab_size == tokenizer.vocab_size
    assert loaded.digest() == tokenizer.digest()
    assert loaded.encode_batch([*LINES, "</s>"]) == tokenizer.encode_batch([*LINES, "</s>"])


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff\xfe", b'{"model": {"type": "BPE"}}'])
def test_load_names_a_bad_file(content, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"tokenizer\.json: (not a tokenizer|must be JSON|must hold an object)"):
        Tokenizer.load(path)


def test_load_names_a_misplaced_special(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "t.json")
    text = (tmp_path / "t.json").read_text()
    (tmp_path / "t.json").write_text(text.replace("</s>", "[SEP]"))
    with pytest.raises(ValueError, match=r"t\.json: token </s> must have id 2, got None"):
        Tokenizer.load(tmp_path / "t.json")


@pytest.mark.parametrize("kind", KINDS)
def test_the_smallest_vocabulary(kind):
    with pytest.raises(ValueError, match=r"vocab_size must be at least 64, got 63"):
        Tokenizer.train(LINES, 63, kind)
    smallest = Tokenizer.train(LINES, 64, kind)
    assert smallest.vocab_size <= 64 + 256
    assert smallest.decode(smallest.encode(LINES[3])) == LINES[3]


def test_training_without_text_leaves_bytes(tmp_path):
    for kind in ("bpe", "char"):
        assert Tokenizer.train([], 200, kind).vocab_size == 260


def test_names_an_unknown_kind():
    with pytest.raises(ValueError, match="kind must be one of bpe, unigram, char, got 'words'"):
        Tokenizer.train(LINES, 200, kind="words")


def test_says_which_extra_is_missing(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'dragoman\[text\]'"):
        Tokenizer.train(LINES, 200)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'dragoman\[text\]'"):
        Tokenizer.load(tmp_path / "tokenizer.json")


@pytest.mark.parametrize("vocab_size", [10**6 + 1, 10**12])
def test_a_vocabulary_of_a_size_without_use_is_refused(vocab_size):
    with pytest.raises(ValueError, match=f"vocab_size must be at most 1,000,000, got {vocab_size}"):
        Tokenizer.train(["a b"], vocab_size)
