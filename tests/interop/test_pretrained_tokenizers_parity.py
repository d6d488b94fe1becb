"""Tokenizers of folders from elsewhere beside transformers' own, on odd and on random texts."""

from itertools import pairwise

import numpy as np
import pretrained_files as made
import pytest
from dragoman.data.framing import framed_texts, framed_words
from dragoman.data.pairs import source_ids
from dragoman.data.tokenizer import Tokenizer

pytestmark = pytest.mark.parity
transformers = pytest.importorskip("transformers")

ALPHABET = "abcdefghijklmnopqrstuvwxyzACEHÉé北京ßø.,!?-'12\u00a0\u3000\u200b😀½ﬁ\n\t      the cat sat on mat house"


def texts(seed, count=300):
    draw = np.random.default_rng(seed)
    words = [*made.WORDS.split(), "sitting", "houses", "cats", "it's", "we'll", "don't", "2nd", "naïve"]
    found = [*made.TEXTS, "x" * 300, "the " * 50]
    for _ in range(count):
        parts = [
            draw.choice(words) if draw.random() < 0.6 else "".join(draw.choice(list(ALPHABET), draw.integers(1, 5)))
            for _ in range(draw.integers(1, 9))
        ]
        found.append(str(draw.choice([" ", "", "  "])).join(parts))
    return found


KINDS = {
    "bert": (made.bert, "BertTokenizer", {}),
    "bert, cased": (lambda f: made.bert(f, do_lower_case=False), "BertTokenizer", {"do_lower_case": False}),
    "bert, accents": (lambda f: made.bert(f, strip_accents=False), "BertTokenizer", {"strip_accents": False}),
    "gpt2": (lambda f: made.byte_level(f, "GPT2Tokenizer"), "GPT2Tokenizer", {}),
    "roberta": (lambda f: made.byte_level(f, "RobertaTokenizer"), "RobertaTokenizer", {}),
    "qwen2": (lambda f: made.byte_level(f, "Qwen2Tokenizer"), "Qwen2Tokenizer", {}),
    "byt5": (
        lambda f: made.write(f, tokenizer_config__json={"tokenizer_class": "ByT5Tokenizer"}),
        "ByT5Tokenizer",
        {},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_ids_and_texts(kind, tmp_path):
    make, name, options = KINDS[kind]
    folder = make(tmp_path)
    theirs = getattr(transformers, name).from_pretrained(folder, **options)
    ours = Tokenizer.load(folder)
    given = texts(len(kind))
    ids = framed_texts(ours, given)
    for text, each in zip(given, ids, strict=True):
        assert each == theirs(text)["input_ids"], text
        assert ours.decode(each) == theirs.decode(each, skip_special_tokens=True), text


@pytest.mark.parametrize("kind", ["bert", "gpt2", "roberta", "qwen2"])
def test_a_tokenizer_json_that_transformers_writes(kind, tmp_path):
    make, name, _ = KINDS[kind]
    theirs = getattr(transformers, name).from_pretrained(make(tmp_path / "before"))
    theirs.save_pretrained(tmp_path / "after")
    assert (tmp_path / "after" / "tokenizer.json").exists()
    ours = Tokenizer.load(tmp_path / "after")
    given = [*texts(7), "the [MASK] cat", "a <mask> b", "<|endoftext|>the"]
    assert framed_texts(ours, given) == [theirs(text)["input_ids"] for text in given]


@pytest.mark.parametrize("kind", ["bert", "roberta"])
@pytest.mark.parametrize("written", [False, True])
def test_pairs(kind, written, tmp_path):
    """Cut as transformers does, the longer text first; from a tokenizer.json and from older files."""
    make, name, _ = KINDS[kind]
    theirs = getattr(transformers, name).from_pretrained(make(tmp_path))
    if written:
        theirs.save_pretrained(tmp_path)
    ours, given = Tokenizer.load(tmp_path), texts(11, 60)
    for first, second in pairwise(text for text in given if text):  # an empty one is no text there
        for room in (9, 24, 500):
            expected = theirs(first, second, truncation=True, max_length=room, return_token_type_ids=True)
            ids, types = ours.pair_frame.around(ours.encode(first), ours.encode(second), room)
            assert (ids, types) == (expected["input_ids"], expected["token_type_ids"]), (first, second, room)


def test_words(tmp_path):
    folder = made.byte_level(tmp_path, "RobertaTokenizer")
    theirs = transformers.RobertaTokenizer.from_pretrained(folder, add_prefix_space=True)
    words = ["the", "cats", "sat,", "naïve"]
    found = theirs(words, is_split_into_words=True)
    ids, counts = framed_words(Tokenizer.load(folder), [words])
    assert ids == [found["input_ids"]]
    places = [place for place in found.word_ids() if place is not None]
    assert counts == [[places.count(i) for i in range(len(words))]]


class TestSentencePiece:
    """transformers reads these models by the library of that name, or as its own T5, Llama and so on."""

    @pytest.fixture(autouse=True)
    def library(self):
        pytest.importorskip("sentencepiece")

    @pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
    def test_marian(self, tmp_path):
        folder = made.marian(tmp_path, source_lang="eng", target_lang="fra")
        theirs, ours = transformers.MarianTokenizer.from_pretrained(folder), Tokenizer.load(folder)
        given = texts(1)
        assert source_ids(ours, given) == [theirs(text)["input_ids"] for text in given]
        assert ours.target.encode_batch(given) == [theirs(text_target=text)["input_ids"][:-1] for text in given]
        draw = np.random.default_rng(2)
        for _ in range(100):
            ids = draw.integers(0, ours.vocab_size, 8).tolist()
            assert ours.target.decode(ids) == theirs.decode(ids, skip_special_tokens=True)

    def test_m2m100(self, tmp_path):
        folder = made.m2m100(tmp_path)
        theirs = transformers.M2M100Tokenizer.from_pretrained(folder, src_lang="de", tgt_lang="fr")
        ours = Tokenizer.load(folder).with_languages("de", "fr")
        given = texts(3)
        assert source_ids(ours, given) == [theirs(text)["input_ids"] for text in given]

    @pytest.mark.parametrize(
        ("kind", "special", "name"),
        [
            ("T5Tokenizer", made.T5_SPECIAL, "spiece__model"),
            ("PegasusTokenizer", made.T5_SPECIAL, "spiece__model"),
            ("XLMRobertaTokenizer", None, "sentencepiece__bpe__model"),
            ("MBartTokenizer", None, "sentencepiece__bpe__model"),
            ("MBart50Tokenizer", None, "sentencepiece__bpe__model"),
            ("LlamaTokenizer", made.LLAMA_SPECIAL, "tokenizer__model"),
        ],
    )
    def test_one_model(self, kind, special, name, tmp_path):
        """Of texts without spaces at their ends and without odd ones, where transformers differs from SentencePiece."""
        bpe = kind == "LlamaTokenizer"
        pieces = made.bpe_pieces(special) if bpe else made.pieces(*([special] if special else []))
        content = made.sentencepiece(pieces, bpe=bpe, byte_fallback=bpe, spaces=not bpe)
        settings = {"tokenizer_class": kind, **({"add_bos_token": True} if bpe else {})}
        folder = made.write(tmp_path, **{name: content}, tokenizer_config__json=settings)
        theirs, ours = getattr(transformers, kind).from_pretrained(folder), Tokenizer.load(folder)
        given = [" ".join(text.replace("\u200b", "").split()) for text in texts(9)]
        assert source_ids(ours, given) == [theirs(text)["input_ids"] for text in given]

    @pytest.mark.parametrize(("bpe", "spaces", "dummy"), [(0, 1, 1), (1, 0, 1), (1, 1, 1), (0, 0, 1), (1, 0, 0)])
    def test_the_library_itself(self, bpe, spaces, dummy, tmp_path):
        """Ids, and texts of ids, of unigram and BPE models with several rules."""
        import sentencepiece

        pieces = made.bpe_pieces(made.LLAMA_SPECIAL) if bpe else made.pieces()
        rules = {"bpe": bool(bpe), "byte_fallback": bool(bpe), "spaces": bool(spaces), "dummy": bool(dummy)}
        content = made.sentencepiece(pieces, **rules)
        kind = "LlamaTokenizer" if bpe else "T5Tokenizer"
        if not bpe:
            content = made.sentencepiece(made.pieces(made.T5_SPECIAL), **rules)
        files = {"tokenizer__model" if bpe else "spiece__model": content}
        folder = made.write(tmp_path, **files, tokenizer_config__json={"tokenizer_class": kind, "extra_ids": 0})
        theirs = sentencepiece.SentencePieceProcessor(model_proto=content)
        ours = Tokenizer.load(folder)
        for text in texts(5):
            ids = theirs.encode(text)
            assert ours.encode(text) == ids, repr(text)
            if theirs.unk_id() not in ids:
                assert ours.decode(ids) == theirs.decode(ids)
