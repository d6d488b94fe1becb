"""Tokenizers of folders from elsewhere: ids, frames, languages, saving; damaged files."""

import json
import os
import pickle
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pretrained_files as made
import pytest
from dragoman.data.frame import Frame
from dragoman.data.framing import documents, framed_texts, framed_words, prompts
from dragoman.data.pairs import source_ids, target_ids
from dragoman.data.tokenizer import Tokenizer

FIXTURES = Path(os.environ.get("DRAGOMAN_INTEROP", Path(__file__).parents[3] / "shared" / "interop")) / "tokenizers"
NAMES = ("</s>", "<unk>")  # in a text they are special tokens there, and ordinary characters here


def spelt(tokenizer, ids):
    return "|".join(tokenizer.tokens(ids))


@pytest.mark.parametrize("name", ["marian", "t5", "m2m100", "byt5"])
def test_texts_have_the_ids_that_transformers_gives_them(name, tmp_path):
    if not (FIXTURES / name).exists():
        pytest.skip(f"{FIXTURES / name} is absent")
    expected = json.loads((FIXTURES / name / "expected.json").read_text())
    folder = FIXTURES / name
    if name == "byt5":
        folder = made.write(tmp_path, tokenizer_config__json={"tokenizer_class": "ByT5Tokenizer"})
    tokenizer = Tokenizer.load(folder)
    count = 0
    for text, ids, decoded in zip(expected["texts"], expected["ids"], expected["decoded"], strict=True):
        assert tokenizer.decode(ids) == decoded
        if not any(special in text for special in NAMES) and ">>xxx<<" not in text:
            assert source_ids(tokenizer, [text]) == [ids], text
            count += 1
    assert count >= 47


KINDS = {
    "t5": made.t5,
    "nllb": lambda folder: made.fairseq(folder, "NllbTokenizer"),
    "mbart": lambda folder: made.fairseq(folder, "MBartTokenizer"),
    "xlmr": lambda folder: made.fairseq(folder, "XLMRobertaTokenizer"),
    "marian": made.marian,
    "m2m100": made.m2m100,
    "bert": made.bert,
    "gpt2": lambda folder: made.byte_level(folder, "GPT2Tokenizer"),
    "roberta": lambda folder: made.byte_level(folder, "RobertaTokenizer"),
    "qwen2": lambda folder: made.byte_level(folder, "Qwen2Tokenizer"),
    "llama": made.llama,
    "byt5": lambda folder: made.write(folder, tokenizer_config__json={"tokenizer_class": "ByT5Tokenizer"}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_one_file_holds_a_tokenizer(kind, tmp_path):
    tokenizer = Tokenizer.load(KINDS[kind](tmp_path / "theirs"))
    tokenizer.save(tmp_path / "tokenizer.json")
    again = Tokenizer.load(tmp_path / "tokenizer.json")
    copied = pickle.loads(pickle.dumps(tokenizer))
    tokenizer.save_files(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    for other in (again, copied, Tokenizer.load(tmp_path)):
        assert other.encode_batch(made.TEXTS) == tokenizer.encode_batch(made.TEXTS)
        assert other.target.encode_batch(made.TEXTS) == tokenizer.target.encode_batch(made.TEXTS)
        assert (other.source_frame, other.vocab_size) == (tokenizer.source_frame, tokenizer.vocab_size)
    assert again.digest() == tokenizer.digest()


@pytest.mark.parametrize("kind", KINDS)
def test_spans_and_single_texts_belong_to_the_ids(kind, tmp_path):
    tokenizer = Tokenizer.load(KINDS[kind](tmp_path))
    for text, ids in zip(made.TEXTS, tokenizer.encode_batch(made.TEXTS), strict=True):
        assert tokenizer.encode(text) == ids
        spans = tokenizer.spans(text)
        assert len(spans) == len(ids)
        assert all(0 <= start <= end <= len(text) for start, end in spans)
        assert max(ids, default=0) < tokenizer.vocab_size


def test_a_unigram_model_chooses_the_likeliest_pieces(tmp_path):
    """Every split of a word into pieces is tried."""
    tokenizer = Tokenizer.load(made.t5(tmp_path))
    scores = {text: score for text, score, kind in made.pieces(made.T5_SPECIAL) if kind == made.NORMAL}
    for word in ("cats", "sitting", "doghouse", "thesat"):
        text = "\u2581" + word
        best = {0: (0.0, "")}
        for end in range(1, len(text) + 1):
            found = [
                (best[start][0] + scores[text[start:end]], best[start][1] + "|" + text[start:end])
                for start in range(end)
                if start in best and text[start:end] in scores
            ]
            if found:
                best[end] = max(found)
        assert spelt(tokenizer, tokenizer.encode(word)) == best[len(text)][1].removeprefix("|")


def test_bpe_pieces_are_merged_by_their_scores(tmp_path):
    tokenizer = Tokenizer.load(made.llama(tmp_path))
    pieces = [text for text, _, kind in made.bpe_pieces(made.LLAMA_SPECIAL) if kind == made.NORMAL]
    ranks = {piece: rank for rank, piece in enumerate(pieces)}

    def merged(symbols):
        pairs = [(ranks[a + b], i) for i, (a, b) in enumerate(pairwise(symbols)) if a + b in ranks]
        if not pairs:
            return symbols
        _, i = min(pairs)
        return merged([*symbols[:i], symbols[i] + symbols[i + 1], *symbols[i + 2 :]])

    for text in ("the cats sat on a mat", "doghouses", "a  b", "cat北z"):
        symbols = []
        for character in "\u2581" + text.replace(" ", "\u2581"):
            symbols += [character] if character in ranks else [f"<0x{byte:02X}>" for byte in character.encode()]
        assert spelt(tokenizer, tokenizer.encode(text)) == "|".join(merged(symbols))
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_frames(tmp_path):
    names = {
        "t5": (("t5",), (), ("</s>",)),
        "bert": (("bert",), ("[CLS]",), ("[SEP]",)),
        "roberta": (("roberta",), ("<s>",), ("</s>",)),
        "xlmr": (("xlmr",), ("<s>",), ("</s>",)),
        "llama": (("llama",), ("<s>",), ()),
        "gpt2": (("gpt2",), (), ()),
    }
    for kind, (_, prefix, suffix) in names.items():
        tokenizer = Tokenizer.load(KINDS[kind](tmp_path / kind))
        frame = tokenizer.text_frame
        assert tuple(tokenizer.tokens(frame.prefix)) == prefix
        assert tuple(tokenizer.tokens(frame.suffix)) == suffix
        (ids,) = framed_texts(tokenizer, [" the cat "])
        assert ids == [*frame.prefix, *tokenizer.encode(" the cat "), *frame.suffix]


def test_a_language_model_reads_documents_and_prompts(tmp_path):
    gpt2 = Tokenizer.load(KINDS["gpt2"](tmp_path / "gpt2"))
    end = gpt2.encode("<|endoftext|>")
    assert prompts(gpt2, ["the cat", ""]) == [gpt2.encode("the cat"), end]
    assert documents(gpt2, ["the cat"]) == [[*end, *gpt2.encode("the cat"), *end]]
    llama = Tokenizer.load(made.llama(tmp_path / "llama"))
    assert prompts(llama, ["the cat", ""]) == [[1, *llama.encode("the cat")], [1]]
    assert documents(llama, ["a"]) == [[1, *llama.encode("a"), 2]]
    bare = Tokenizer.load(made.llama(tmp_path / "bare", add_bos_token=False))
    assert prompts(bare, ["a"]) == [bare.encode("a")]
    begun = Tokenizer.load(made.byte_level(tmp_path / "begun", "GPT2Tokenizer", add_bos_token=True))
    assert prompts(begun, ["a"]) == [[*end, *begun.encode("a")]]


def test_words_have_a_space_before_them(tmp_path):
    roberta = Tokenizer.load(KINDS["roberta"](tmp_path / "roberta"))
    ids, counts = framed_words(roberta, [["the", "cat"], []])
    assert spelt(roberta, ids[0]) == "<s>|Ġthe|Ġcat|</s>"
    assert (counts, spelt(roberta, ids[1])) == ([[1, 1], []], "<s>|</s>")
    bert = Tokenizer.load(made.bert(tmp_path / "bert"))
    ids, counts = framed_words(bert, [["cats", "\u200b", "the"]])
    assert spelt(bert, ids[0]) == "[CLS]|cat|##s|[UNK]|the|[SEP]"
    assert counts == [[2, 1, 1]]


def test_special_tokens_in_a_text(tmp_path):
    """Sentinels and masks may be written; names of control tokens in the text of a SentencePiece model are text."""
    t5 = Tokenizer.load(made.t5(tmp_path / "t5"))
    assert t5.encode("<extra_id_0> the")[0] == t5.vocab_size - 1
    assert 1 not in t5.encode("the </s> cat")
    assert t5.decode([*t5.encode("the cat"), 1, t5.vocab_size - 1]) == "the cat"
    bert = Tokenizer.load(made.bert(tmp_path / "bert"))
    assert spelt(bert, bert.encode("the [MASK].")) == "the|[MASK]|."
    roberta = Tokenizer.load(KINDS["roberta"](tmp_path / "roberta"))
    assert spelt(roberta, roberta.encode("the <mask>")) == "t|he|<mask>"
    assert roberta.decode(roberta.encode("the<mask> cat")) == "the cat"


def test_extra_ids_come_last(tmp_path):
    tokenizer = Tokenizer.load(made.t5(tmp_path))
    size = len(made.pieces(made.T5_SPECIAL))
    assert tokenizer.vocab_size == size + 5
    assert [tokenizer.encode(f"<extra_id_{i}>") for i in range(5)] == [[size + 4 - i] for i in range(5)]


def test_pegasus_moves_its_pieces(tmp_path):
    folder = made.write(
        tmp_path,
        spiece__model=made.sentencepiece(made.pieces(made.T5_SPECIAL)),
        tokenizer_config__json={"tokenizer_class": "PegasusTokenizer"},
    )
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.unk_id == 105
    assert tokenizer.tokens([0, 1, 2, 3, 4, 104, 105, 106]) == [
        *("<pad>", "</s>", "<mask_1>", "<mask_2>", "<unk_2>", "<unk_102>", "<unk>", made.SUBWORDS[0])
    ]
    assert source_ids(tokenizer, ["the z"]) == [[106, 106 + made.SUBWORDS.index("\u2581"), 105, 1]]


class TestLanguages:
    def test_nllb(self, tmp_path):
        tokenizer = Tokenizer.load(made.fairseq(tmp_path, "NllbTokenizer"))
        size = len(made.pieces())
        chosen = tokenizer.with_languages("fra_Latn", "eng_Latn")
        code = size + 1 + 57 - 1
        assert chosen.tokens(chosen.source_frame.prefix) == ["fra_Latn"]
        assert source_ids(chosen, ["the"]) == [[*chosen.source_frame.prefix, *tokenizer.encode("the"), 2]]
        assert tokenizer.tokens([code + 0])[0].endswith("_Latn")
        assert target_ids(chosen, ["the"]) == [tokenizer.encode("the")]
        with pytest.raises(
            ValueError, match=r"target_language must be one of ace_Arab, .* and 194 more, got 'english'"
        ):
            tokenizer.with_languages("fra_Latn", "english")
        for code in (None, 3, ["fra_Latn"]):
            with pytest.raises(ValueError, match="source_language must be one of ace_Arab"):
                tokenizer.with_languages(code, "eng_Latn")

    @pytest.mark.parametrize("folder", [made.m2m100, made.marian, made.t5])
    def test_what_is_no_text_is_named(self, folder, tmp_path):
        tokenizer = Tokenizer.load(folder(tmp_path))
        for read, name in ((tokenizer.trimmed, "texts"), (tokenizer.encode_words, "words")):
            for texts, where in ((["a", 3], rf"{name}\[1\]"), ("a", name), (3, name)):
                with pytest.raises(TypeError, match=f"^Tokenizer: {where} must be "):
                    read(texts)

    def test_older_nllb_has_the_code_last(self, tmp_path):
        tokenizer = Tokenizer.load(made.fairseq(tmp_path, "NllbTokenizer", legacy_behaviour=True))
        frame = tokenizer.with_languages("eng_Latn", "fra_Latn").source_frame
        assert (frame.prefix, tokenizer.tokens(frame.suffix)) == ((), ["</s>", "eng_Latn"])

    @pytest.mark.parametrize(("kind", "before"), [("MBartTokenizer", False), ("MBart50Tokenizer", True)])
    def test_mbart(self, kind, before, tmp_path):
        tokenizer = Tokenizer.load(made.fairseq(tmp_path, kind, src_lang="en_XX", tgt_lang="ro_RO"))
        frame = tokenizer.with_languages(None, None).source_frame
        names = tokenizer.tokens(frame.prefix), tokenizer.tokens(frame.suffix)
        assert names == ((["en_XX"], ["</s>"]) if before else ([], ["</s>", "en_XX"]))
        assert frame.cut([5, 6, 7, *frame.suffix], 4) == [*[5, 6, 7][: 4 - len(frame.suffix)], *frame.suffix]

    def test_m2m100(self, tmp_path):
        tokenizer = Tokenizer.load(made.m2m100(tmp_path))
        size = len(made.SUBWORDS) + 2
        assert tokenizer.vocab_size == size + 108
        chosen = tokenizer.with_languages("__en__", "fr")
        assert chosen.tokens(chosen.source_frame.prefix) == ["__en__"]
        assert chosen.source_frame == Frame((size + 18,), (2,))

    def test_marian_reads_a_code_before_a_text(self, tmp_path):
        tokenizer = Tokenizer.load(made.marian(tmp_path / "many", [">>fra<<", ">>deu<<"], target_lang="mul"))
        french = tokenizer.with_languages(None, "fra")
        assert source_ids(french, ["the"]) == source_ids(tokenizer, [">>fra<<the"])
        assert source_ids(french, ["the", ">>deu<< the"])[1][0] == 3
        with pytest.raises(ValueError, match=r"texts\[0\] must begin with the code .* one of >>fra<<, >>deu<<"):
            source_ids(tokenizer, ["the"])
        with pytest.raises(ValueError, match=r"the code must be one of >>fra<<, >>deu<<, got '>>xxx<<'"):
            source_ids(tokenizer, [">>xxx<< the"])
        with pytest.raises(ValueError, match=r"target_language must be one of >>fra<<, >>deu<<, got 'xx'"):
            tokenizer.with_languages(None, "xx")
        with pytest.raises(ValueError, match="target_language must be one of >>fra<<, >>deu<<, got 3"):
            tokenizer.with_languages(None, 3)
        one = Tokenizer.load(made.marian(tmp_path / "one"))
        assert source_ids(one, ["the"]) == [[2, 0]]
        with pytest.raises(ValueError, match="target_language must be None"):
            one.with_languages(None, "fra")

    def test_marian_reads_both_sides_with_their_own_model(self, tmp_path):
        tokenizer = Tokenizer.load(made.marian(tmp_path))
        assert 1 in tokenizer.encode("cat ty")  # a piece of the source's model that vocab.json lacks
        assert 1 not in tokenizer.target.encode("cat ty")[:-1]
        assert tokenizer.target.decode([*tokenizer.encode("the cat"), 0]) == "the cat"

    def test_languages_are_kept_in_the_file(self, tmp_path):
        tokenizer = Tokenizer.load(made.m2m100(tmp_path)).with_languages("de", "fr")
        tokenizer.save(tmp_path / "one.json")
        assert Tokenizer.load(tmp_path / "one.json").source_frame == tokenizer.source_frame

    def test_other_tokenizers_have_none(self, tmp_path):
        with pytest.raises(ValueError, match=r"source_language must be None .* got 'en'"):
            Tokenizer.load(made.t5(tmp_path)).with_languages("en", None)


class TestTokenizerJson:
    def folder(self, path, **fields):
        """T5's, with what others add: padding, truncation, a post-processor."""
        from tokenizers import AddedToken
        from tokenizers import Tokenizer as Library
        from tokenizers.models import WordLevel
        from tokenizers.pre_tokenizers import Whitespace
        from tokenizers.processors import TemplateProcessing

        library = Library(WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2, "the": 3, "cat": 4}, "<unk>"))
        library.pre_tokenizer = Whitespace()
        library.add_special_tokens(["<s>", "</s>", AddedToken("<x>")])
        library.post_processor = TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
        library.enable_padding(length=128)
        library.enable_truncation(2)
        values = json.loads(library.to_str()) | fields
        return made.write(path, tokenizer__json=values)

    def test_no_padding_and_no_truncation(self, tmp_path):
        tokenizer = Tokenizer.load(self.folder(tmp_path))
        assert framed_texts(tokenizer, ["the cat the dog"]) == [[1, 3, 4, 3, 0, 2]]
        assert tokenizer.encode_batch(["<x> the"]) == [[5, 3]]

    @pytest.mark.parametrize(
        ("processor", "prefix", "suffix"),
        [
            (None, (), ()),
            ({"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}, (), ()),
            ({"type": "BertProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1]}, (1,), (2,)),
            (
                {
                    **{"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1]},
                    **{"trim_offsets": True, "add_prefix_space": False},
                },
                (1,),
                (2,),
            ),
        ],
    )
    def test_post_processors(self, processor, prefix, suffix, tmp_path):
        tokenizer = Tokenizer.load(self.folder(tmp_path, post_processor=processor))
        assert tokenizer.text_frame == Frame(prefix, suffix)

    def test_tokens_beyond_the_model_are_cut(self, tmp_path):
        """T5 has folders with more added tokens than rows."""
        folder = made.write(self.folder(tmp_path), config__json={"model_type": "t5", "vocab_size": 5})
        tokenizer = Tokenizer.load(folder)
        assert tokenizer.vocab_size == 5
        assert max(tokenizer.encode("<x> the")) < 5

    @pytest.mark.parametrize(
        "processor",
        [
            *({"type": "Other"}, 5, {"type": "BertProcessing", "sep": ["</s>"], "cls": ["<s>", 1]}),
            {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<q>"}}], "special_tokens": {}},
            {"type": "TemplateProcessing", "single": [], "special_tokens": {}},
            {"type": "Sequence", "processors": 3},
        ],
    )
    def test_damaged_post_processors(self, processor, tmp_path):
        with pytest.raises(ValueError, match=r"tokenizer\.json: not a tokenizer \(post_processor"):
            Tokenizer.load(self.folder(tmp_path, post_processor=processor))


class TestDamaged:
    def test_a_sentencepiece_model_cut_or_changed_anywhere(self, tmp_path):
        """ValueError naming the file, or a tokenizer: nothing else."""
        content = made.sentencepiece(made.pieces(made.T5_SPECIAL)[:12])
        draw, loaded = np.random.default_rng(3), 0
        for place in range(0, len(content), 3):
            damaged = bytearray(content)
            damaged[place] = draw.integers(256)
            for each in (content[:place], bytes(damaged)):
                folder = made.write(
                    tmp_path, spiece__model=each, tokenizer_config__json={"tokenizer_class": "T5Tokenizer"}
                )
                try:
                    Tokenizer.load(folder).encode("the cat")
                    loaded += 1
                except ValueError as error:
                    assert str(tmp_path) in str(error)
        assert loaded

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "1 to 1,048,576 pieces, got 0"),
            (b"\x0f", "unknown wire type 7"),
            (made.block(1, b"")[:1] + b"\xff" * 12, "more than 64 bits"),
            (made.sentencepiece([("a", 0.0, 1)]), "one piece must be of the kind unknown"),
            (made.sentencepiece([("a", 0.0, 2), ("a", 0.0, 1)]), "got one twice"),
            (made.sentencepiece([("a", float("nan"), 2)]), "must be finite"),
            (made.sentencepiece([("a", 0.0, 9)]), "one of 1 to 6, got 9"),
            (made.sentencepiece([("<unk>", 0.0, 2)], character_map=b"abc"), "precompiled_charsmap"),
            (made.sentencepiece([("<unk>", 0.0, 2)]) + made.block(2, made.number(3, 4)), "model_type must be 1"),
        ],
    )
    def test_what_is_wrong(self, content, message, tmp_path):
        folder = made.write(tmp_path, spiece__model=content, tokenizer_config__json={"tokenizer_class": "T5Tokenizer"})
        with pytest.raises(ValueError, match=rf"spiece\.model: must be a SentencePiece model .*{message}"):
            Tokenizer.load(folder)

    def test_a_folder_without_one(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no tokenizer; expected one of tokenizer\.json, vocab\.txt"):
            Tokenizer.load(tmp_path)

    @pytest.mark.parametrize(
        ("files", "message"),
        [
            ({"vocab__json": '{"a": -1}'}, "vocab.json: 'a' must have an id"),
            ({"vocab__json": '{"a": 1, "b": 1}'}, "vocab.json: ids must be different"),
            ({"vocab__json": "[]"}, "vocab.json: must hold an object"),
            ({"vocab__json": '{"a": 0}'}, "the vocabulary must have"),
            ({"source__spm": b"\x00"}, "source.spm: must be a SentencePiece model"),
        ],
    )
    def test_marian(self, files, message, tmp_path):
        with pytest.raises(ValueError, match=message):
            Tokenizer.load(made.write(made.marian(tmp_path), **files))

    @pytest.mark.parametrize(
        ("make", "settings", "message"),
        [
            (made.llama, {"bos_token": None}, "bos_token must be a text, got None"),
            (made.llama, {"eos_token": 3}, "eos_token must be a text, got 3"),
            (made.bert, {"tokenizer_class": "Other"}, "unk_token must be a text, got None"),
            (made.bert, {"added_tokens_decoder": {"4": {}}}, "added_tokens_decoder must hold tokens by their ids"),
            (made.bert, {"added_tokens_decoder": {"9" * 5000: {"content": "a"}}}, "added_tokens_decoder must hold"),
        ],
    )
    def test_settings(self, make, settings, message, tmp_path):
        with pytest.raises(ValueError, match=rf"^{re.escape(str(tmp_path))}.tokenizer_config\.json: {message}"):
            Tokenizer.load(make(tmp_path, **settings))

    def test_an_added_token_may_say_its_id_twice(self, tmp_path):
        folder = made.bert(tmp_path, added_tokens_decoder={"4": {"content": "[MASK]", "id": 3}})
        assert Tokenizer.load(folder).mask_id == 4

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ('{"format": "dragoman.pretrained", "files": 3}', "files must be an object"),
            ('{"format": "dragoman.pretrained", "files": {"../x": ""}}', "files must be of config.json"),
            ('{"format": "dragoman.pretrained", "files": {"vocab.txt": {"base64": "??"}}}', "vocab.txt must be base64"),
            ('{"format": "dragoman.pretrained", "files": {"vocab.txt": 3}}', "vocab.txt must be a text"),
        ],
    )
    def test_a_file_that_holds_others(self, content, message, tmp_path):
        path = tmp_path / "tokenizer.json"
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            Tokenizer.load(path)
