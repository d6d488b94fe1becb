"""Damages of a tokenizer.json, each with the sentence that it must end in. Many once ended the process, or never came
back; the library never sees them now."""

import json

import pytest
from damaged_json import GONE, text_of, with_part
from damaged_kinds import foreign_tokenizers
from dragoman.data.tokenizer import Tokenizer

pytest.importorskip("tokenizers")

WORD_PIECE, WORD_LEVEL, MERGES, UNIGRAM = foreign_tokenizers()
BYTE_LEVEL = {"type": "ByteLevel"}
SEQUENCE = {"type": "Sequence", "normalizers": []}


def replace(pattern, content):
    return {"type": "Replace", "pattern": pattern, "content": content}


def nested(depth):
    value = {"type": "NFC"}
    for _ in range(depth):
        value = {"type": "Sequence", "normalizers": [value]}
    return value


def many(count, normalizer):
    return {"type": "Sequence", "normalizers": [normalizer] * count}


def token(**changes):
    return {**WORD_LEVEL["added_tokens"][0], **changes}


BAD_PARTS = [
    # The file
    ("version", GONE, "version must be '1.0', got None"),
    ("version", "2.0", "version must be '1.0', got '2.0'"),
    ("weights", 3, "weights must be one of version, .*, got 'weights'"),
    ("model", GONE, "model must be an object, got None"),
    ("model", [], r"model must be an object, got \[\]"),
    ("model.type", GONE, "model.type must be one of BPE, Unigram, WordPiece, WordLevel, got None"),
    ("model.type", "GPT", "model.type must be one of .*, got 'GPT'"),
    ("model.type", ["BPE"], r"model.type must be one of .*, got \['BPE'\]"),
    ("model.type", "Unigram", "model.(unk_token|vocab) must be .*"),
    ("model.size", 3, "model.size must be one of vocab, unk_token, got 'size'"),
    # The vocabulary
    ("model.vocab", GONE, "model.vocab must be given, got none"),
    ("model.vocab", None, "model.vocab must be an object of at most 1048576 tokens, got None"),
    ("model.vocab", [], "model.vocab must be an object"),
    ("model.vocab", {}, "model.unk_token must be in the vocabulary, got '<unk>'"),
    ("model.vocab.a", -1, r"model.vocab\['a'\] must be an id in \[0, 1048576\), got -1"),
    ("model.vocab.a", 2**32, r"model.vocab\['a'\] must be an id in .*, got 4294967296"),
    ("model.vocab.a", 2**64, r"model.vocab\['a'\] must be an id in"),
    ("model.vocab.a", 1.0, r"model.vocab\['a'\] must be an id in .*, got 1.0"),
    ("model.vocab.a", True, r"model.vocab\['a'\] must be an id in .*, got True"),
    ("model.vocab.a", None, r"model.vocab\['a'\] must be an id in .*, got None"),
    ("model.vocab.a", 5, "the ids of 19 tokens must be 0 to 18, each once"),
    ("model.vocab.a", 10**6, "the ids of 19 tokens must be 0 to 18, each once"),
    ("model.vocab.a", GONE, "the ids of 18 tokens must be 0 to 17, each once"),
    ("model.vocab.", 18, r"model.vocab\[18\] must be a token of 1 to 1024 characters, got ''"),
    ("model.vocab." + "x" * 1025, 18, r"model.vocab\[18\] must be a token of 1 to 1024 characters, got 'xxx"),
    ("model.vocab.</s>", GONE, "the ids of|token </s>"),
    ("model.unk_token", "unknown", "model.unk_token must be in the vocabulary, got 'unknown'"),
    ("model.unk_token", 3, "model.unk_token must be a text of 1 to 1024 characters, got 3"),
    ("model.unk_token", GONE, "model.unk_token must be in the vocabulary, got None"),
    # Added tokens
    ("added_tokens", {}, "added_tokens must be a list of at most 1048576, got {}"),
    ("added_tokens.0", 3, r"added_tokens\[0\] must be an object of id, content, .*, got 3"),
    ("added_tokens.0", token(size=3), r"added_tokens\[0\] must be an object of id"),
    ("added_tokens.0.special", GONE, r"added_tokens\[0\] must be an object of id"),
    ("added_tokens.0.special", 1, r"added_tokens\[0\].special must be true or false, got 1"),
    ("added_tokens.0.id", 2**32, r"added_tokens\[0\].id must be an int in \[0, 1048576\], got 4294967296"),
    ("added_tokens.0.id", 7, r"added_tokens\[0\].id must be 0, as in the model, got 7"),
    ("added_tokens.4.id", 10**6, "the ids of 19 tokens must be 0 to 18, each once"),
    ("added_tokens.4.id", 3, "the ids of 19 tokens must be 0 to 18, each once"),
    ("added_tokens.0.content", "", r"added_tokens\[0\].content must be a text of 1 to 1024 characters, got ''"),
    ("added_tokens.1", token(), r"added_tokens\[1\].content must be different from those before, got '<pad>'"),
    # Normalizers
    ("normalizer", 3, "normalizer must be an object, got 3"),
    ("normalizer", {"type": "Magic"}, "normalizer.type must be one of NFC, .*, got 'Magic'"),
    ("normalizer", {"type": "NFC", "form": "D"}, "normalizer.form must be one of none, got 'form'"),
    ("normalizer", {"type": "Sequence"}, r"normalizer must be an object of type and normalizers, got \['type'\]"),
    ("normalizer", {**SEQUENCE, "normalizers": 3}, "normalizer.normalizers must be a list, got 3"),
    ("normalizer", {**SEQUENCE, "normalizers": [{}]}, r"normalizer.normalizers\[0\].type must be one of .*, got None"),
    ("normalizer", nested(5), "must be at most 4 sequences inside each other, got 'more'"),
    ("normalizer", nested(300), "must be at most 4 sequences inside each other, got 'more'"),
    ("normalizer", many(65, {"type": "NFC"}), "must be at most 64 components, got 'more'"),
    ("normalizer", {"type": "Prepend", "prepend": "x" * 10**6}, "prepend must be a text of 0 to 64"),
    ("normalizer", replace({"String": "a"}, "a" * 65), "normalizer.content must be a text of 0 to 64 characters"),
    ("normalizer", many(3, replace({"String": "a"}, "aaaaa")), "a text at most 64 times as long, got '125'"),
    ("normalizer", many(4, BYTE_LEVEL), "a text at most 64 times as long, got '256'"),
    ("normalizer", replace({"String": ""}, "a"), "normalizer.pattern must be a text of 1 to 64 characters, got ''"),
    ("normalizer", replace({"Regex": "(a+)+b"}, "a"), r"pattern must be one of  \{2,\}, .*, got '\(a\+\)\+b'"),
    ("normalizer", replace({"Regex": "(a{999}){999}"}, ""), "normalizer.pattern must be one of"),
    ("normalizer", replace({}, "a"), "normalizer.pattern must be an object with String or Regex, got {}"),
    ("normalizer", replace({"Glob": "*"}, "a"), "pattern must be an object with String or Regex, got 'Glob'"),
    ("normalizer", {"type": "Replace"}, "missing field"),
    ("normalizer", {"type": "Strip", "strip_left": 1}, "normalizer.strip_left must be true or false, got 1"),
    # Pre-tokenizers and decoders
    ("pre_tokenizer", {"type": "Split", "pattern": {"Regex": "x*"}}, "pre_tokenizer.pattern must be one of"),
    ("pre_tokenizer", {"type": "Punctuation", "behavior": "Gone"}, "behavior must be one of .*, got 'Gone'"),
    ("pre_tokenizer", {"type": "FixedLength", "length": 0}, r"length must be an int in \[1, .*, got 0"),
    ("pre_tokenizer", {"type": "FixedLength", "length": 2**63}, "pre_tokenizer.length must be an int"),
    ("pre_tokenizer", {"type": "CharDelimiterSplit", "delimiter": "ab"}, "delimiter must be a text of 1 to 1"),
    ("pre_tokenizer", {"type": "Metaspace", "replacement": ""}, "replacement must be a text of 1 to 1"),
    ("pre_tokenizer", {"type": "Sequence", "pretokenizers": [BYTE_LEVEL] * 4}, "a text at most 64 times"),
    ("decoder", {"type": "Strip", "content": " ", "start": 0, "stop": 1}, r"stop must be an int in \[0, 0\], got 1"),
    ("decoder", {"type": "Strip", "content": "", "start": 0, "stop": 0}, "content must be a text of 1 to 1"),
    ("decoder", {"type": "BPEDecoder", "suffix": ""}, "decoder.suffix must be a text of 1 to 64 characters, got ''"),
    ("decoder", replace({"String": "a"}, "a" * 65), "decoder.content must be a text of 0 to 64 characters"),
]  # fmt: skip

BAD_MERGES = [
    ("model.merges", GONE, "model.merges must be given, got none"),
    ("model.merges", "a b", "model.merges must be a list of at most 1048576 merges, got 'a b'"),
    ("model.merges", ["ab"], r"model.merges\[0\] must be two tokens, got 'ab'"),
    ("model.merges", ["a b c"], r"model.merges\[0\] must be two tokens, got 'a b c'"),
    ("model.merges", [["a"]], r"model.merges\[0\] must be two tokens, got \['a'\]"),
    ("model.merges", [["a", 3]], r"model.merges\[0\] must be two tokens, got \['a', 3\]"),
    ("model.merges", [["a", "x"]], r"model.merges: \['a', 'x'\] must be tokens"),
    ("model.merges", [["a", "b"]], r"model.merges: \['a', 'b'\] must be tokens"),  # without the prefix ##
    ("model.merges", [["b", "##c"]], r"model.merges: \['b', '##c'\] must form a token"),
    ("model.continuing_subword_prefix", "#" * 65, "prefix must be a text of 0 to 64 characters"),
    ("model.dropout", 1.0, r"model.dropout must be a number in \[0, 1\), got 1.0"),
    ("model.dropout", 10**400, r"model.dropout must be a number in \[0, 1\)"),
    ("model.unk_token", "unknown", "model.unk_token must be in the vocabulary, got 'unknown'"),
    ("model.byte_fallback", "yes", "model.byte_fallback must be true or false, got 'yes'"),
]

BAD_PIECES = [
    ("model.unk_id", GONE, r"model.unk_id must be an id in \[0, 18\), got None"),
    ("model.unk_id", 18, r"model.unk_id must be an id in \[0, 18\), got 18"),
    ("model.unk_id", -1, r"model.unk_id must be an int in \[0, 1048576\], got -1"),
    ("model.vocab", {}, "model.vocab must be a list of at most 1048576 tokens, got {}"),
    ("model.vocab.4", ["a"], r"model.vocab\[4\] must be a token and its log probability, got \['a'\]"),
    ("model.vocab.4", ["a", "b"], r"model.vocab\[4\] must be a token and its log probability"),
    ("model.vocab.4", ["a", 10**400], r"model.vocab\[4\] must be a token and its log probability"),
    ("model.vocab.4", ["", -1.0], r"model.vocab\[4\] must be a token of 1 to 1024 characters, got ''"),
    ("model.vocab.4", ["<s>", -1.0], "model.vocab must be different tokens, got 'some twice'"),
    ("model.vocab.0", ["x", -1.0], "added_tokens|the ids of"),
]

BAD_TEXTS = [
    (b"", "must be JSON"),
    (b"\xff\xfe", "must be JSON"),
    (b"null", "must hold an object, got NoneType"),
    (b"[" * 100_000, "must be JSON, got too many brackets inside each other"),
    (b'{"version": "1.0", "version": "1.0"}', "the name 'version' stands twice in an object"),
    (b'{"version": NaN}', "numbers must be finite, got NaN"),
    (b'{"version": 1e999}', "numbers must be finite, got '1e999'"),
    (b'{"version": ' + b"1" * 5000 + b"}", "must be JSON"),
    (text_of(WORD_LEVEL)[:-1], "must be JSON"),
    (text_of(WORD_LEVEL) + b"0", "must be JSON"),
    (json.dumps(with_part(WORD_LEVEL, "model.vocab.\ud800", 18)).encode(), "not a tokenizer"),
]


def refused(tmp_path, content, message):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"tokenizer\.json: .*{message}"):
        Tokenizer.load(path)


def test_the_whole_ones_open(tmp_path):
    for values in foreign_tokenizers():
        (tmp_path / "tokenizer.json").write_bytes(text_of(values))
        tokenizer = Tokenizer.load(tmp_path / "tokenizer.json")
        assert tokenizer.vocab_size == 19
        assert tokenizer.encode("ab")


@pytest.mark.parametrize("number", range(len(BAD_PARTS)))
def test_a_damaged_part(number, tmp_path):
    path, part, message = BAD_PARTS[number]
    refused(tmp_path, text_of(with_part(WORD_LEVEL, path, part)), message)


@pytest.mark.parametrize("number", range(len(BAD_MERGES)))
def test_damaged_merges(number, tmp_path):
    path, part, message = BAD_MERGES[number]
    refused(tmp_path, text_of(with_part(MERGES, path, part)), message)


@pytest.mark.parametrize("number", range(len(BAD_PIECES)))
def test_damaged_pieces(number, tmp_path):
    path, part, message = BAD_PIECES[number]
    refused(tmp_path, text_of(with_part(UNIGRAM, path, part)), message)


@pytest.mark.parametrize("number", range(len(BAD_TEXTS)))
def test_a_damaged_text(number, tmp_path):
    refused(tmp_path, *BAD_TEXTS[number])
