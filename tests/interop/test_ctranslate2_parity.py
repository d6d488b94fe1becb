"""The adapter beside CTranslate2 itself, with the same weights: the same outputs, scores, tokens and attention."""

import importlib
from pathlib import Path

import dragoman as dg
import numpy as np
import pytest
from dragoman.interop import ctranslate2 as ours

BENCH = Path(__file__).parents[2] / "bench"

pytestmark = [
    pytest.mark.parity,
    pytest.mark.usefixtures("one_thread"),
    # The tests also run from a folder that holds nothing else of the source tree.
    pytest.mark.skipif(not BENCH.is_dir(), reason="the folder bench is not here"),
]

LINES = ["a man sees two dogs", "two dogs see a man", "a dog", "the cat is good and the dog runs"]


def both(kind, folder, monkeypatch):
    """Ours and theirs, of one model with random weights, whose outputs may end, and are never pad, bos or unk."""
    theirs = pytest.importorskip("ctranslate2")
    pytest.importorskip("torch")  # for their converters
    monkeypatch.syspath_prepend(str(BENCH))
    export, works = importlib.import_module("export"), importlib.import_module("works")
    tokenizer = dg.Tokenizer.train(LINES * 3, 64)
    names = tokenizer.tokens(range(tokenizer.vocab_size))
    monkeypatch.setattr(export, "word_of", names.__getitem__)
    sizes = {"batch": 1, "length": 1, "decoder_only": kind == "Generator"}
    sizes = works.Model(2, 32, 2, 48, len(names), **sizes)
    model = export.dragoman_model(sizes)
    for name, weight in model.named_parameters():
        if name.endswith("weight") and len(weight.shape) == 2:
            weight.copy_(weight.numpy() * 2.5)  # so that inputs matter
    bias = np.zeros(len(names), np.float32)
    bias[[0, 1, 3]], bias[2] = -1e9, 4 if kind == "Generator" else 11  # some outputs end, some are cut
    model.output.bias.copy_(bias)
    model.save(folder / "ours")
    tokenizer.save(folder / "ours/tokenizer.json")
    (folder / "theirs").mkdir()
    export.write_ctranslate2(export.state_of(folder / "ours", sizes), sizes, folder / "theirs", "float32")
    loaded = getattr(theirs, kind)(str(folder / "theirs"), compute_type="float32", intra_threads=1)
    return getattr(ours, kind)(str(folder / "ours")), loaded, lambda text: tokenizer.tokens(tokenizer.encode(text))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def translators(folder):
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield both("Translator", folder / "translators", monkeypatch)


@pytest.fixture(scope="module")
def generators(folder):
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield both("Generator", folder / "generators", monkeypatch)


def assert_same(ours, theirs, tokens):
    for found, expected in zip(ours, theirs, strict=True):
        assert getattr(found, tokens) == getattr(expected, tokens)
        assert found.scores == pytest.approx(expected.scores, abs=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"beam_size": 1},
        {"beam_size": 4, "num_hypotheses": 4},
        {"beam_size": 4, "num_hypotheses": 2, "length_penalty": 0.2},
        {"beam_size": 3, "max_decoding_length": 2, "return_end_token": True},
        {"beam_size": 3, "min_decoding_length": 9, "max_decoding_length": 20},
        {"beam_size": 3, "no_repeat_ngram_size": 2, "min_decoding_length": 12},
        {"beam_size": 1, "repetition_penalty": 1.4, "min_decoding_length": 12},
        {"beam_size": 3, "suppress_sequences": [["a"], ["\u2581a", "\u2581dogs"]], "disable_unk": True},
        {"beam_size": 4, "min_decoding_length": 4, "target_prefix": [["\u2581dog"], None, ["a", "\u2581dogs"], None]},
    ],
    ids=str,
)
def test_translations(translators, options):
    ours, theirs, tokens_of = translators
    sources = [[*tokens_of(line), "</s>"] for line in LINES]
    given = dict(options)
    if "target_prefix" in given:
        given["target_prefix"] = [prefix or [] for prefix in given["target_prefix"]]
    found = ours.translate_batch(sources, return_scores=True, **options)
    assert_same(found, theirs.translate_batch(sources, return_scores=True, **given), "hypotheses")
    if options == {"beam_size": 1}:
        assert {1, 256} <= {len(each.hypotheses[0]) for each in found}


def test_what_belongs_to_translations(translators, tmp_path):
    ours, theirs, tokens_of = translators
    sources = [[*tokens_of(line), "</s>"] for line in LINES]
    targets = [tokens_of(line) for line in LINES[::-1]]
    for offset in (0, 2):
        scored = [each.score_batch(sources, targets, offset=offset) for each in (ours, theirs)]
        for found, expected in zip(*scored, strict=True):
            assert found.tokens == expected.tokens
            assert found.log_probs == pytest.approx(expected.log_probs, abs=1e-4)
    for source in sources:
        found, expected = (
            each.translate_batch([source], return_attention=True, min_decoding_length=3, max_decoding_length=30)[0]
            for each in (ours, theirs)
        )
        np.testing.assert_allclose(found.attention, expected.attention, atol=1e-5)
    for options in ({"max_decoding_length": 3}, {}, {"target_prefix": tokens_of("dog"), "min_decoding_length": 5}):
        steps = [
            [(step.step, step.token, step.is_last) for step in each.generate_tokens(sources[0], **options)]
            for each in (ours, theirs)
        ]
        assert steps[0] == steps[1]
    ended = [
        each.translate_batch(
            sources, beam_size=1, return_scores=True, min_decoding_length=0, callback=lambda step: step.step == 3
        )
        for each in (ours, theirs)
    ]
    assert_same(*ended, "hypotheses")
    for name, rows in (("source", sources), ("target", targets)):
        (tmp_path / name).write_text("".join(" ".join(row) + "\n" for row in rows))
    written = []
    for each in (ours, theirs):
        files = [str(tmp_path / name) for name in ("source", "target", "output")]
        each.translate_file(files[0], files[2], num_hypotheses=2)
        lines = (tmp_path / "output").read_text().splitlines()
        each.score_file(*files)
        written.append([*lines, *(line.split(" ||| ")[1] for line in (tmp_path / "output").read_text().splitlines())])
    assert written[0] == written[1]


@pytest.mark.parametrize(
    "options",
    [
        {"max_length": 20},
        {"max_length": 20, "beam_size": 3, "num_hypotheses": 3},
        {"max_length": 20, "include_prompt_in_result": False, "return_end_token": True},
        {"max_length": 20, "beam_size": 3, "length_penalty": 0, "min_length": 10},
        {"max_length": 2},
    ],
    ids=str,
)
def test_what_follows(generators, options):
    ours, theirs, tokens_of = generators
    prompts = [["<s>", *tokens_of(line)] for line in LINES]
    found = ours.generate_batch(prompts, return_scores=True, **options)
    expected = theirs.generate_batch(prompts, return_scores=True, **options)
    assert_same(found, expected, "sequences")
    assert [each.sequences_ids for each in found] == [each.sequences_ids for each in expected]


def test_what_belongs_to_a_generator(generators):
    ours, theirs, tokens_of = generators
    prompts = [["<s>", *tokens_of(line)] for line in LINES]
    for found, expected in zip(ours.score_batch(prompts), theirs.score_batch(prompts), strict=True):
        assert found.tokens == expected.tokens
        assert found.log_probs == pytest.approx(expected.log_probs, abs=1e-4)
    for log_probs in (False, True):
        found = ours.forward_batch(prompts, return_log_probs=log_probs)
        expected = np.array(theirs.forward_batch(prompts, return_log_probs=log_probs))
        for row, other, prompt in zip(found, expected, prompts, strict=True):
            np.testing.assert_allclose(row[: len(prompt), 4:], other[: len(prompt), 4:], atol=1e-4)
