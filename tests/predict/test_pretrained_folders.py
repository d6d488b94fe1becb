"""Predictors of folders from elsewhere: text in, text out, as the folder says; training goes on from them."""

import json
import pickle

import dragoman as dg
import numpy as np
import pretrained_files as made
import pytest
from dragoman.data.pairs import source_ids
from dragoman.generate import generate, score
from dragoman.interop.huggingface.tokenizers.languages import M2M100
from dragoman.models import EncoderConfig, TextEncoder
from dragoman.predict import Translator
from dragoman.train import Trainer

SIDES = {
    **{"d_model": 12, "num_encoder_layers": 1, "num_decoder_layers": 1, "max_length": 40, "num_heads": 2, "d_ff": 11},
    **{"dropout": 0.0, "embedding_dropout": 0.0, "unk_id": None, "bos_id": None, "scale_embeddings": True},
}
TEXTS = ["the cat sat on the mat.", "", "a big dog", "sitting cats and houses"]


def folder_of(kind, tokenizer, folder, rng, rows=0, **fields):
    """A folder of a small random model of this kind, with the files of a tokenizer that lies there."""
    size = tokenizer.vocab_size + rows
    model = dg.Transformer(dg.TransformerConfig(vocab_size=size, **{**SIDES, **fields}))
    for parameter in model.parameters():
        parameter.copy_(parameter.numpy() + rng.normal(0, 0.3, parameter.shape))
    model.save_pretrained(folder, kind)
    return folder


def marian(folder, rng, codes=(), **settings):
    tokenizer = dg.Tokenizer.load(made.marian(folder, codes, **settings))
    pad = tokenizer.vocab_size - 1
    fields = {"position_layout": "halves", "activation": "silu", "output_bias": True}
    return folder_of("marian", tokenizer, folder, rng, pad_id=pad, start_id=pad, eos_id=0, **fields)


def m2m100(folder, rng, **settings):
    tokenizer = dg.Tokenizer.load(made.m2m100(folder, **settings))
    fields = {"position_layout": "fairseq", "position_offset": 2, "activation": "relu", "norm_first": True}
    return folder_of("m2m_100", tokenizer, folder, rng, pad_id=1, bos_id=0, start_id=2, eos_id=2, **fields)


def test_a_translator_reads_and_searches_as_its_folder_says(rng, tmp_path):
    marian(tmp_path, rng)
    settings = {"num_beams": 3, "max_length": 9, "bad_words_ids": [[57]], "renormalize_logits": True}
    made.write(tmp_path, generation_config__json={**settings, "forced_eos_token_id": 0, "early_stopping": True})
    translator = Translator.load(tmp_path)
    tokenizer = translator.tokenizer
    options = {"like": "hf", "suppress": [57], "renormalize": True, "forced_last": 0, "early_stopping": True}
    sources = source_ids(tokenizer, TEXTS)
    found = generate(translator.model, sources, beam=3, max_length=8, **options)
    expected = [tokenizer.target.decode(each[0].ids) for each in found]
    assert translator(TEXTS) == [expected[0], "", *expected[2:]]
    assert any(expected)
    greedy = generate(translator.model, sources, beam=1, max_length=4, **{**options, "early_stopping": False})
    assert translator(TEXTS[0], beam=1, max_length=4) == tokenizer.target.decode(greedy[0][0].ids)
    assert pickle.loads(pickle.dumps(translator))(TEXTS) == translator(TEXTS)
    assert "".join(translator.stream(TEXTS[0])) == translator(TEXTS[0])
    best = translator.candidates(TEXTS[0])[0]
    assert translator.search_options().beam == 3
    assert best.text == expected[0]


def test_forced_first_tokens_count_as_in_transformers(rng, tmp_path):
    """The score divides by a length with the forced token; the output is without it."""
    m2m100(tmp_path, rng)
    made.write(tmp_path, generation_config__json={"num_beams": 3, "max_length": 8, "forced_bos_token_id": 9})
    translator = Translator.load(tmp_path, source_language="en", target_language="fr")
    french = translator.tokenizer.vocab_size - 108 + M2M100.index("fr")
    assert translator.tokenizer.tokens([french]) == ["__fr__"]
    assert translator.model.config.start_id == (2, french)
    (found,) = translator.candidates(["the cat"])
    plain = dg.load(tmp_path)
    plain.config = translator.model.config.__class__(**{**vars(plain.config), "start_id": 2})
    source = source_ids(translator.tokenizer, ["the cat"])
    options = {"beam": 3, "count": 3, "length_penalty": 1.0, "prefix": [french], "max_length": 7}
    (expected,) = generate(plain, source, like="hf", **options)
    assert [each.score for each in found] == pytest.approx([each.score for each in expected], abs=1e-6)
    decode = translator.tokenizer.decode
    assert [each.text for each in found] == [decode(each.ids[1:]) for each in expected]


def test_a_given_output_has_the_score_of_the_search_again(rng, tmp_path):
    m2m100(tmp_path, rng)
    made.write(tmp_path, generation_config__json={"num_beams": 4, "max_length": 30})
    translator = Translator.load(tmp_path, source_language="en", target_language="fr")
    source = source_ids(translator.tokenizer, ["the cat"])
    (found,) = generate(translator.model, source, beam=4, like="hf", max_length=7)
    for each in found:
        ended = each.length > len(each.ids)
        (again,) = score(translator.model, source, [each.ids], like="hf", ended=ended)
        assert again.score == pytest.approx(each.score, abs=1e-5)


def test_languages(rng, tmp_path):
    m2m100(tmp_path / "m2m", rng)
    for given, message in (
        ({}, "source_language must be one of af, am"),
        ({"source_language": "en"}, "target_language must be one of af, am"),
        ({"source_language": "en", "target_language": "xx"}, "target_language must be one of .* got 'xx'"),
    ):
        with pytest.raises(ValueError, match=f"Translator: {message}"):
            Translator.load(tmp_path / "m2m", **given)
    with pytest.raises(TypeError, match="target_language must be a str"):
        Translator.load(tmp_path / "m2m", source_language="en", target_language=5)
    marian(tmp_path / "marian", rng)
    with pytest.raises(ValueError, match="Translator: target_language must be None"):
        Translator.load(tmp_path / "marian", target_language="fr")


def test_rows_that_no_token_has_are_never_written(rng, tmp_path):
    tokenizer = dg.Tokenizer.load(made.t5(tmp_path))
    fields = {
        **{"norm": "rms", "norm_first": True, "attention_bias": "", "feed_forward_bias": False, "norm_eps": 1e-6},
        **{"attention_scale": 1.0, "positions": "relative", "scale_embeddings": False, "output_scale": 12**-0.5},
        **{"start_id": 0, "eos_id": 1},
    }
    folder_of("t5", tokenizer, tmp_path, rng, rows=28, **fields)
    translator = Translator.load(tmp_path)
    size = tokenizer.vocab_size
    assert translator.model.config.vocab_size == size + 28
    assert translator.search_options().suppress == tuple(range(size, size + 28))
    assert len(translator(TEXTS, max_length=12)) == len(TEXTS)


def test_a_tokenizer_with_more_tokens_than_the_model(rng, tmp_path):
    marian(tmp_path, rng)
    ids = json.loads((tmp_path / "vocab.json").read_text())
    made.write(tmp_path, vocab__json={**ids, "new": len(ids)})
    with pytest.raises(ValueError, match=f"Translator: tokenizer must have at most {len(ids)} tokens"):
        Translator.load(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"penalty_alpha": 0.6}, "generation_config.json: penalty_alpha must be absent"),
        ({"length_penalty": 70.0, "num_beams": 2}, "length_penalty must be at most 10"),
        ({"suppress_tokens": [10_000], "decoder_start_token_id": 10_000}, "generation_config.json: .*start_id"),
    ],
)
def test_settings_that_cannot_be_kept(settings, message, rng, tmp_path):
    marian(tmp_path, rng)
    made.write(tmp_path, generation_config__json=settings)
    with pytest.raises(ValueError, match=message):
        Translator.load(tmp_path)


def test_training_goes_on_and_keeps_the_tokenizer(rng, tmp_path):
    """Text in, text out; what is saved here opens alone, with the languages and the settings."""
    m2m100(tmp_path / "theirs", rng)
    made.write(tmp_path / "theirs", generation_config__json={"num_beams": 2, "max_length": 12})
    translator = Translator.load(tmp_path / "theirs", source_language="en", target_language="fr")
    pairs = [("the cat", "a dog"), ("a dog", "the cat"), ("on the mat", "big house")] * 2
    trainer = Trainer(
        translator.model,
        tokenizer=translator.tokenizer,
        **{"output": tmp_path / "ours", "lr": 0.02, "warmup": 1, "max_steps": 60, "batch_tokens": 200},
        **{"label_smoothing": 0.0, "average": 1},
    )
    trainer.fit(pairs)
    again = Translator.load(tmp_path / "ours")
    assert again.tokenizer.source_frame == translator.tokenizer.source_frame
    assert again.model.config.start_id == translator.model.config.start_id
    assert again.search_options().beam == 2
    assert [again(source) for source, _ in pairs[:3]] == [target for _, target in pairs[:3]]
    again.model.save_pretrained(tmp_path / "back")
    again.tokenizer.save_files(tmp_path / "back")
    back = Translator.load(tmp_path / "back", source_language="en", target_language="fr")
    assert back("the cat", beam=2, max_length=11) == "a dog"


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_two_texts_are_read_together(kind, rng, tmp_path):
    make = made.bert if kind == "bert" else lambda folder: made.byte_level(folder, "RobertaTokenizer")
    tokenizer = dg.Tokenizer.load(make(tmp_path))
    config = EncoderConfig(
        **{"vocab_size": tokenizer.vocab_size, "d_model": 8, "num_heads": 2, "d_ff": 8, "num_layers": 1},
        **{"head": "classify", "labels": ("no", "yes"), "token_types": 2, "max_length": 12},
    )
    model = TextEncoder(config)
    for parameter in model.parameters():
        parameter.copy_(parameter.numpy() + rng.normal(0, 0.3, parameter.shape))
    served = dg.Classifier(model.eval(), tokenizer)
    first, second = tokenizer.encode_batch(["the cat", "on the mat, on the mat"])
    if kind == "bert":
        second = second[: 12 - 3 - len(first)]  # the longer one is cut
        ids, types = [2, *first, 3, *second, 3], [0] * (len(first) + 2) + [1] * (len(second) + 1)
    else:
        room = 12 - 4
        first, second = first[: max(room // 2, room - len(second))], second[: max(room // 2, room - len(first))]
        ids, types = [0, *first, 2, 2, *second, 2], [0] * 12
    logits = model.logits([ids], types=[types])[0].astype(float)
    found = served(["the cat", ("the cat", "on the mat, on the mat")])
    assert found[1]["yes"] == pytest.approx(1 / (1 + np.exp(logits[0] - logits[1])), abs=1e-6)
    assert found[0] == served("the cat")
    assert served.submit(("the cat", "on the mat, on the mat")).result() == pytest.approx(found[1])
    with pytest.raises(TypeError, match=r"text\[0\]\[1\] must be a str, got int"):
        served([("a", 3)])


def test_a_tokenizer_without_pairs(tmp_path):
    tokenizer = dg.Tokenizer.train(["a b c"] * 9, 70, "char")
    config = EncoderConfig(
        **{"vocab_size": tokenizer.vocab_size, "d_model": 8, "num_heads": 2, "d_ff": 8, "num_layers": 1},
        **{"head": "classify", "labels": ("no", "yes")},
    )
    with pytest.raises(ValueError, match=r"Classifier: text\[1\] must be one text"):
        dg.Classifier(TextEncoder(config), tokenizer)(["a", ("a", "b")])
