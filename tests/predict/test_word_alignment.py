"""Translator.align: words that look at words, against attention made by hand and against loops over its weights."""

import dragoman as dg
import numpy as np
import pytest
from dragoman.data.framing import framed_words
from dragoman.predict.word_alignment import words_of_tokens

pytest.importorskip("tokenizers")
pytestmark = [pytest.mark.cpu, pytest.mark.usefixtures("one_thread")]

TEXTS = ["a man sees two dogs", "straße, well-known"]
PLACES = 32


@pytest.fixture(scope="module")
def copying():
    """Token t of an output looks at token t of its source: positions are one-hot, and nothing else is written."""
    return dg.Translator(copying_model(), tokenizer_of("char"))


def tokenizer_of(kind):
    return dg.Tokenizer.train(TEXTS * 3, 80, kind)


def copying_model(**options):
    model = model_of(d_model=PLACES, num_heads=1, positions="learned", max_length=PLACES, **options)
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        if "norm" not in name:
            parameter.copy_(np.zeros(parameter.shape, np.float32))
    for name in ("src_positions.weight", "tgt_positions.weight"):
        parameters[name].copy_(np.eye(PLACES, dtype=np.float32))
    for name in ("q_proj", "k_proj"):
        weight = parameters[f"decoder.layers.0.cross_attention.{name}.weight"]
        weight.copy_(2 * np.eye(PLACES, dtype=np.float32))
    return model.eval()


def model_of(**options):
    dg.manual_seed(3)
    sizes = {"d_model": 16, "num_heads": 2, "d_ff": 16, "num_encoder_layers": 1, "num_decoder_layers": 1}
    return dg.Transformer(dg.TransformerConfig(**{"vocab_size": 320, **sizes, **options}))


def same_places(count):
    return [(i, i) for i in range(count)]


def test_a_copy_is_aligned_with_itself(copying):
    texts = ["a man sees two dogs", "man", "dogs  a\tman ", "犬 été e\u0301s", "a"]
    assert copying.align([(text, text) for text in texts]) == [same_places(len(text.split())) for text in texts]


def test_words_of_many_tokens(copying):
    # Tokens of the source: "▁ m a n s", "▁ a", "▁ t w o", "▁ d o g s". The output has 11, 3 and 2.
    assert copying.align([("mans a two dogs", "dogsmantwo aa s")]) == [[(0, 0), (3, 1), (3, 2)]]
    assert copying.align([("dogsmantwo", "a man two")]) == [[(0, 0), (0, 1), (0, 2)]]
    assert copying.align([("a man two", "dogs")]) == [[(1, 0)]]  # two of its tokens are beside "▁ a", three "▁ m a"


def test_odd_texts(copying):
    pairs = [("", "a"), ("a", ""), ("\u200b", "a"), ("a", " \t"), ("a man", "a man"), (" a ", "\u3000a\n")]
    assert copying.align(pairs) == [[], [], [], [], same_places(2), same_places(1)]
    assert copying.align([]) == []


def test_what_is_cut_is_aligned_with_nothing():
    text = "a man sees two dogs"  # of which "▁ a", "▁ m a n" and "▁ s" are left
    cut = dg.Translator(copying_model(max_source_length=9), tokenizer_of("char"))
    [found] = cut.align([(text, text)])
    assert set(found) > set(same_places(3))
    assert {source for source, _ in found} == {0, 1, 2}
    assert sorted(target for _, target in found) == [0, 1, 2, 3, 4]
    assert dg.Translator(copying_model(max_source_length=1), tokenizer_of("char")).align([("a", "a")]) == [[]]
    copying = dg.Translator(copying_model(), tokenizer_of("char"))
    long = "a " * 20  # 40 tokens, of which the decoder has room for 31
    assert [target for _, target in copying.align([("a", long)])[0]] == list(range(16))


@pytest.mark.parametrize("kind", ["bpe", "unigram", "char"])
@pytest.mark.parametrize(("layers", "heads"), [(None, None), ([0, -1], [1]), ([2], None)], ids=str)
def test_sums_of_weights_word_by_word(kind, layers, heads):
    tokenizer = tokenizer_of(kind)
    model = model_of(num_decoder_layers=3)
    translator = dg.Translator(model, tokenizer, batch_tokens=30)
    pairs = [("a man sees two dogs", "two dogs, well"), ("dogs", "a a"), ("well-known straße", "straße sees")] * 2
    for (source, target), found in zip(pairs, translator.align(pairs, layers, heads), strict=True):
        sides, counts = framed_words(tokenizer, [source.split(), target.split()])
        cross = model.attention_weights([*sides[0][1:]], sides[1][:-1])["cross"]
        weights = [cross[i][j] for i in layers or [1] for j in heads or [0, 1]]
        expected, row = [], 0
        for word, rows in enumerate(counts[1]):
            sums, column = [], 0
            for columns in counts[0]:
                sums.append(sum(each[row : row + rows, column : column + columns].sum() for each in weights))
                column += columns
            expected.append((int(np.argmax(sums)), word))
            row += rows
        assert found == sorted(expected)


def test_a_frozen_model(copying, tmp_path):
    copying.model.save(tmp_path)
    copying.tokenizer.save(tmp_path / "tokenizer.json")
    frozen = dg.Translator.load(tmp_path, compute_type="int8")
    assert frozen.align([("a man sees", "a man sees")]) == [same_places(3)]


@pytest.mark.parametrize("kind", ["bpe", "unigram", "char"])
def test_tokens_and_their_words(kind):
    tokenizer = tokenizer_of(kind)
    for text in ("a man", "x\u3000犬\u00a0y é", "👩\u200d🚀 .!", "e\u0301te\u0301  straße", "犬\n鳥\tz"):
        ids, spans, words = tokenizer.encode(text), tokenizer.spans(text), words_of_tokens(tokenizer, text)
        assert len(ids) == len(spans) == len(words)
        assert words == sorted(words)
        assert set(words) == set(range(len(text.split())))
        covered = {place for start, end in spans for place in range(start, end)}
        assert all(place in covered or text[place] == "\u0301" for place in range(len(text)))
    assert words_of_tokens(tokenizer_of("char"), "ab  c") == [0, 0, 0, 1, 1, 1]
    with pytest.raises(TypeError, match="Tokenizer: text must be a str, got int 3"):
        tokenizer.spans(3)


@pytest.mark.parametrize(
    ("pairs", "options", "error", "message"),
    [
        ("ab", {}, TypeError, "pairs must be a list of pairs of texts, got str"),
        ([("a", "b"), "ab"], {}, TypeError, r"pairs\[1\] must be two texts, got str 'ab'"),
        ([("a", 3)], {}, TypeError, r"pairs\[0\]\[1\] must be a str, got int 3"),
        ([("a", "a"), ("\ud800", "a")], {}, ValueError, r"pairs\[1\]\[0\] must be Unicode text"),
        ([("a", "a"), ("a" * 40, "a")], {}, ValueError, r"pairs\[1\]\[0\] must have at most 32 tokens, got 42"),
        ([("a", "a" * 10_000)], {}, ValueError, r"pairs\[0\]\[1\] must have at most 10,000 tokens, got 10,001"),
        ([], {"layers": [1]}, ValueError, r"layers must lie in \[-1, 1\), got 1"),
        ([], {"heads": []}, ValueError, "heads must hold at least one number, got none"),
    ],
    ids=str,
)
def test_bad_arguments_are_named(copying, pairs, options, error, message):
    with pytest.raises(error, match=f"^Translator: {message}"):
        copying.align(pairs, **options)


def test_weights_that_are_not_finite():
    model = copying_model()
    dict(model.named_parameters())["src_positions.weight"].copy_(np.full((PLACES, PLACES), np.nan, np.float32))
    with pytest.raises(FloatingPointError, match=r"^Translator: attention weights are not finite$"):
        dg.Translator(model, tokenizer_of("char")).align([("a", "a")])
