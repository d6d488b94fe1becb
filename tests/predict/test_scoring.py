"""Scores of given texts: merged with what others ask for, cancelled, bounded, and the same as a search gave."""

import dataclasses
from concurrent.futures import CancelledError, ThreadPoolExecutor

import dragoman as dg
import numpy as np
import pytest
from dragoman.generate import SearchOptions, score
from dragoman.models import TextDecoder
from dragoman.predict import QueueFullError, generating

pytest.importorskip("tokenizers")
pytestmark = pytest.mark.usefixtures("one_thread")

PAIRS = [("the dog is good", "the cat"), ("they", ""), ("", "fish"), ("the cat", "they fish the dog")]
WRITTEN = {"suppress": [0, 1, 3, *range(4, 260)]}  # no bytes: an untrained model writes little else, which is no text


def log_probs(logits, wanted):
    logits = logits.astype(np.float64)
    return (logits - np.log(np.exp(logits).sum(1, keepdims=True)))[np.arange(len(wanted)), wanted]


def test_a_language_model(language_model):
    encode = language_model.tokenizer.encode
    found = language_model.score(PAIRS)
    for (text, more), each in zip(PAIRS, found, strict=True):
        before, whole = encode(text), encode(text + more)
        assert whole[: len(before)] == before
        wanted = [*whole, 2]
        expected = log_probs(language_model.model.logits([[1, *whole]]), wanted)[len(before) :]
        assert each.text == more
        assert each.token_logprobs == pytest.approx(expected, abs=1e-5)
        assert each.score == pytest.approx(expected.sum() / ((5 + len(expected)) / 6) ** 0.6, abs=1e-5)
    assert language_model.score([]) == []
    [cut] = language_model.score(PAIRS[:1], ended=False, length_penalty=0.0)
    assert cut.score == pytest.approx(sum(found[0].token_logprobs[:-1]), abs=1e-5)


@pytest.mark.parametrize("name", ["translator", "language_model"])
def test_what_a_search_found_has_its_score_again(name, request):
    served = request.getfixturevalue(name)
    tokenizer = served.tokenizer
    like = {"like": "hf", "length_penalty": 0.7}
    options = SearchOptions(beam=4, max_length=30, **like, **WRITTEN)
    texts = ["the dog", "they", "the cat is good"]
    ids = [[*tokenizer.encode(text), 2] if name == "translator" else [1, *tokenizer.encode(text)] for text in texts]
    seen = 0
    for text, source, hypotheses in zip(
        texts, ids, served.submit_ids(ids, [options] * 3, range(3)).result(60), strict=True
    ):
        for found in hypotheses:
            ended = found.length > len(found.ids)
            [again] = served.submit_scores([source], [found.ids], ended=ended, **like).result(60)
            assert again.token_logprobs == pytest.approx(found.token_logprobs, abs=1e-5)
            assert again.score == pytest.approx(found.score, abs=1e-5)
            written = tokenizer.decode([*source[:-1], *found.ids])[len(text) :]  # and the same by its text
            if name == "language_model" and tokenizer.encode(text + written) == [*source[1:], *found.ids]:
                seen += 1
                [again] = served.score([(text, written)], ended=ended, **like)
                assert again.score == pytest.approx(found.score, abs=1e-5)
    assert seen or name == "translator"


def test_words_that_grow_into_others(language_model):
    """The tokens of both texts together are scored from where they are not those of the first."""
    tokenizer = dg.Tokenizer.train(["the dog", "dogs"] * 9, 64)
    config = dataclasses.replace(language_model.model.config, vocab_size=tokenizer.vocab_size)
    served = dg.LanguageModel(TextDecoder(config), tokenizer)
    before, whole = tokenizer.encode("the dog"), tokenizer.encode("the dogs")
    assert whole[: len(before)] != before
    [found] = served.score([("the dog", "s")])
    expected = log_probs(served.model.logits([[1, *whole]]), [*whole, 2])
    assert found.token_logprobs == pytest.approx(expected[len(before) - 1 :], abs=1e-5)


@pytest.mark.parametrize("name", ["translator", "language_model"])
def test_many_callers(name, request, monkeypatch):
    """Scores and searches side by side, in batches: the same as alone."""
    served = request.getfixturevalue(name)
    sizes = []
    run = generating.log_probs_of
    monkeypatch.setattr(generating, "log_probs_of", lambda *given: sizes.append(len(given[2])) or run(*given))
    pairs = PAIRS * 8
    expected = [served.score([pair])[0].token_logprobs for pair in pairs]
    texts = [text for text, _ in pairs]
    written = served(texts, max_length=9)
    sizes.clear()
    with ThreadPoolExecutor(8) as pool:
        searches = [pool.submit(served, text, max_length=9) for text in texts]
        scores = list(pool.map(lambda pair: served.score([pair])[0], pairs))
        assert [each.result(60) for each in searches] == written
    for each, alone in zip(scores, expected, strict=True):
        assert each.token_logprobs == pytest.approx(alone, abs=1e-5)
    assert sum(sizes) == len(pairs)
    together = served.score(pairs)
    for each, alone in zip(together, expected, strict=True):
        assert each.token_logprobs == pytest.approx(alone, abs=1e-5)
    assert len(sizes) < 2 * len(pairs)


def test_scores_are_cancelled_and_refused(translator, leave):
    served = dg.Translator(translator.model, translator.tokenizer, queue_limit=1, batch_tokens=8)
    running = served.submit("the dog", max_length=4)
    while served.waiting:
        pass
    ids = [[*translator.tokenizer.encode("the cat is good"), 2]]
    future = served.submit_scores(ids, ids)
    with pytest.raises(QueueFullError, match=r"^Translator: the queue is full: 1 wait, queue_limit=1$"):
        served.score(PAIRS)
    assert future.cancel()
    later = served.submit_scores(ids, [[5, 6]])
    leave.set()
    with pytest.raises(CancelledError):
        future.result(60)
    assert later.result(60) == score(translator.model, ids, [[5, 6]])
    assert running.result(60) == translator("the dog", max_length=4)
    served.close()
    with pytest.raises(RuntimeError, match="it is closed"):
        served.score(PAIRS)


def test_an_error_is_no_other_callers(translator, monkeypatch):
    run = generating.log_probs_of

    def fails(op, models, sources, wanted, places):
        if any(7 in ids for ids in wanted):
            raise MemoryError("out of memory")
        return run(op, models, sources, wanted, places)

    monkeypatch.setattr(generating, "log_probs_of", fails)
    good, bad = ([[5, 2]], [[6]]), ([[5, 2]], [[7]])
    futures = [translator.submit_scores(*each) for each in (good, bad, good)]
    with pytest.raises(MemoryError, match="out of memory"):
        futures[1].result(60)
    assert futures[0].result(60) == futures[2].result(60) == score(translator.model, *good)


def test_limits_of_length(translator, language_model):
    config = dataclasses.replace(translator.model.config, positions="learned", max_length=12)
    learned = dg.Translator(dg.Transformer(config), translator.tokenizer)
    with pytest.raises(ValueError, match=r"^Translator: pairs\[1\]\[1\] must have at most 11 tokens, got \d+; "):
        learned.score([("they", "fish"), ("they", "the dog is good")])
    assert len(learned.score([("they", "the dog is")])[0].token_logprobs) == 12
    with pytest.raises(ValueError, match=r"^Translator: pairs\[0\]\[1\] must have at most 10,000 tokens, got 10,002; "):
        translator.score([("they", "f" * 10_001)])
    config = dataclasses.replace(language_model.model.config, positions="learned", max_length=12)
    learned = dg.LanguageModel(TextDecoder(config), translator.tokenizer)
    with pytest.raises(ValueError, match=r"^LanguageModel: pairs\[1\] must have at most 11 tokens, got \d+"):
        learned.score([("they", " fish"), ("they", " the dog")])
    assert len(learned.score([("they", " fish")])[0].token_logprobs) == 6
    with pytest.raises(ValueError, match=r"^LanguageModel: pairs\[0\] must have at most 9,999 tokens, got"):
        language_model.score([("", "f" * 10_001)])


@pytest.mark.parametrize("name", ["translator", "language_model"])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"colour": 1}, TypeError, "got an unexpected keyword argument 'colour'"),
        ({"beam": 2}, TypeError, "got an unexpected keyword argument 'beam'"),
        ({"length_penalty": "a"}, TypeError, "length_penalty must be a number, got str"),
        ({"like": "none"}, ValueError, "like must be one of dragoman, "),
        ({"ended": 1}, TypeError, "ended must be a bool, got int"),
    ],
)
def test_options_are_checked_as_in_a_call(name, request, options, error, message):
    served = request.getfixturevalue(name)
    with pytest.raises(error, match=f"^{type(served).__name__}: {message}"):
        served.score(PAIRS, **options)


def test_ids_are_checked(translator):
    for bad, message in (
        (([[5, -1]], [[5]]), r"ids\[0\]\[1\] must lie in"),
        (([[5]], [[5], []]), "outputs must hold 1, one for each of ids, got 2"),
        (([[]], [[5]]), r"ids\[0\] must hold at least one id"),
        (([[5]], [[10**6]]), r"outputs\[0\]\[0\] must lie in"),
    ):
        with pytest.raises(ValueError, match=f"^Translator: {message}"):
            translator.submit_scores(*bad)


def test_logits_that_are_not_finite(translator):
    model = dg.Transformer(translator.model.config)
    model.output.weight.copy_(np.full(model.output.weight.shape, np.nan, np.float32))
    with pytest.raises(FloatingPointError, match=r"^Translator: logits are not finite$"):
        dg.Translator(model, translator.tokenizer).score(PAIRS)
