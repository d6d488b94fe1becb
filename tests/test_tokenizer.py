import json
import sys
import unicodedata

import pytest
from dragoman.tokenizer import SPECIALS, Tokenizer

pytest.importorskip("tokenizers")

LINES = [
    "A man in a blue shirt is standing on a ladder cleaning a window.",
    "Ein Mann in einem blauen Hemd steht auf einer Leiter und putzt ein Fenster.",
    "Two men are at the stove preparing food; the größte Überraschung!",
    "나는 학교에 간다. 오늘은 날씨가 좋다.",
]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(LINES, 200)


def test_round_trip(tokenizer):
    for line in [*LINES, "A blue man  with  two spaces", "standing"]:
        assert tokenizer.decode(tokenizer.encode(line)) == line


def test_specials_have_ids_0_to_3(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    vocabulary = json.loads((tmp_path / "tokenizer.json").read_text())["model"]["vocab"]
    assert [vocabulary[token] for token in ("<pad>", "<s>", "</s>", "<unk>")] == [0, 1, 2, 3]
    assert len(vocabulary) == tokenizer.vocab_size <= 200


def test_encode_adds_no_special_tokens(tokenizer):
    # A text that names a special token must not be able to end the sentence.
    assert min(tokenizer.encode("a man </s> <pad> in")) >= 3
    assert min(tokenizer.encode(LINES[0])) > 3
    assert tokenizer.encode("") == []


def test_decode_skips_special_tokens(tokenizer):
    ids = tokenizer.encode(LINES[0])
    assert tokenizer.decode([1, *ids, 2, 0, 0]) == LINES[0]


def test_unknown_characters_become_unk(tokenizer):
    assert 3 in tokenizer.encode("漢")


def test_normalises_to_nfc(tokenizer):
    decomposed = unicodedata.normalize("NFD", LINES[3])
    assert decomposed != LINES[3]
    assert tokenizer.encode(decomposed) == tokenizer.encode(LINES[3])


def test_batches_are_the_single_calls(tokenizer):
    ids = [tokenizer.encode(line) for line in LINES]
    assert tokenizer.encode_batch(LINES) == ids
    assert tokenizer.decode_batch(ids) == LINES


def test_training_is_deterministic(tokenizer, tmp_path):
    for name, again in (("a", tokenizer), ("b", Tokenizer.train(iter(LINES), 200))):
        again.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_save_and_load(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert loaded.vocab_size == tokenizer.vocab_size
    assert loaded.encode_batch([*LINES, "</s>"]) == tokenizer.encode_batch([*LINES, "</s>"])


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff\xfe", b'{"model": {"type": "BPE"}}'])
def test_load_names_a_bad_file(content, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"tokenizer\.json: not a tokenizer"):
        Tokenizer.load(path)


def test_load_names_a_misplaced_special(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "t.json")
    text = (tmp_path / "t.json").read_text()
    (tmp_path / "t.json").write_text(text.replace("</s>", "[SEP]"))
    with pytest.raises(ValueError, match=r"t\.json: token </s> must have id 2, got None"):
        Tokenizer.load(tmp_path / "t.json")


def test_refuses_a_vocabulary_smaller_than_the_alphabet():
    with pytest.raises(ValueError, match=r"vocab_size must be at least \d+"):
        Tokenizer.train(LINES, len(SPECIALS) + 5)


def test_says_which_extra_is_missing(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'dragoman\[text\]'"):
        Tokenizer.train(LINES, 200)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'dragoman\[text\]'"):
        Tokenizer.load(tmp_path / "tokenizer.json")
