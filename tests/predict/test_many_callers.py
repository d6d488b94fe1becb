"""Many callers of one model: the same answers as one by one, streams, cancelling, and memory that does not grow."""

import asyncio
import gc
import os
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor

import dragoman as dg
import numpy as np
import pytest
from dragoman.generate import SearchOptions, generate
from dragoman.train import Classification
from family import encoder_for, tokenizer_of

pytest.importorskip("tokenizers")
pytestmark = pytest.mark.usefixtures("one_thread")

WORDS = ["the", "dog", "cat", "fish", "runs", "is", "good", "bad", "they", "and", "a"]


REQUESTS = int(os.environ.get("DRAGOMAN_REQUESTS", 200))  # of a test with many


def texts_of(count, seed=0):
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(0, 9))) for _ in range(count)]


WRITTEN = {"suppress": range(4, 260)}  # no bytes: an untrained model writes little else, which is no text
OPTIONS = (
    {"max_length": 9},
    {"beam": 3, "max_length": 30, **WRITTEN},
    {"beam": 3, "max_length": 12, "length_penalty": 0.0},
    {"beam": 1, "max_length": 5, "temperature": 1.3, "seed": 4},
    {"beam": 2, "max_length": 8, "like": "hf", "no_repeat_ngram": 2},
)


@pytest.mark.parametrize("name", ["translator", "language_model"])
def test_eight_threads_get_what_one_gets(name, request):
    served = request.getfixturevalue(name)
    texts = texts_of(REQUESTS)
    asked = [(text, OPTIONS[i % len(OPTIONS)]) for i, text in enumerate(texts)]
    expected = [served(text, **options) for text, options in asked]

    def ask(thread):
        found = []
        for i, (text, options) in enumerate(asked[thread::8]):
            match i % 3:
                case 0:
                    found.append(served(text, **options))
                case 1:
                    found.append(served.submit(text, **options).result(60))
                case 2:
                    found.append("".join(served.stream(text, **options)))
        return found

    with ThreadPoolExecutor(8) as pool:
        for thread, found in enumerate(pool.map(ask, range(8))):
            assert found == expected[thread::8]


def test_encoders_merge_the_texts_of_many_threads():
    tokenizer = tokenizer_of()
    model = encoder_for(Classification(tokenizer, ["neg", "pos"]))
    vectors = dg.SentenceEncoder(model, tokenizer)
    batches = []
    run = model.vectors
    model.vectors = lambda ids: batches.append(len(ids)) or run(ids)
    texts = texts_of(100)
    expected = vectors(texts)
    batches.clear()
    with ThreadPoolExecutor(8) as pool:
        futures = list(pool.map(vectors.submit, texts))
    np.testing.assert_array_equal([future.result(60) for future in futures], expected)
    assert sum(batches) == 100
    assert len(batches) < 100


def test_a_stream_never_takes_anything_back(translator, language_model):
    for served in (translator, language_model):
        for text in texts_of(12, seed=1):
            for options in OPTIONS:
                whole = served(text, **options)
                given = ""
                for piece in served.stream(text, **options):
                    assert piece
                    given += piece
                    assert whole.startswith(given)
                assert given == whole


def test_async_streams(translator):
    async def read(text):
        return "".join([piece async for piece in translator.stream(text, max_length=20)])

    async def all_of(texts):
        return await asyncio.gather(*map(read, texts))

    texts = texts_of(6, seed=2)
    assert asyncio.run(all_of(texts)) == translator(texts, max_length=20)


class Slow:
    """Makes the steps of generations wait until there is leave, but for the first `free` ones."""

    def __init__(self, monkeypatch, free=0):
        self.steps, self.leave = 0, threading.Event()
        step = dg.generate.Generation.step

        def slow(generation):
            self.steps += 1
            assert self.steps < free or self.leave.wait(60)
            return step(generation)

        monkeypatch.setattr(dg.generate.Generation, "step", slow)

    def wait(self):
        while not self.steps:
            time.sleep(0.001)


def test_a_stream_gives_pieces_before_the_end(translator, monkeypatch):
    slow = Slow(monkeypatch, free=6)
    with translator.stream("the dog is good", beam=1, max_length=40, **WRITTEN) as stream:
        first = next(stream)
        assert not slow.leave.is_set()
        slow.leave.set()
        assert len(first) < len(first + "".join(stream))


def test_a_translation_that_runs_is_cancelled(translator, monkeypatch):
    slow = Slow(monkeypatch)
    future = translator.submit("the dog", beam=1, max_length=50_000, min_length=40_000)
    slow.wait()
    other = translator.submit("the cat", max_length=5)
    assert future.cancel()
    slow.leave.set()
    with pytest.raises(CancelledError):
        future.result(60)
    assert other.result(60) == translator("the cat", max_length=5)
    assert slow.steps < 100


@pytest.mark.parametrize("how", ["close", "with", "forgotten"])
def test_a_stream_that_nobody_reads_is_cancelled(translator, monkeypatch, how):
    slow = Slow(monkeypatch)
    stream = translator.stream("the dog", beam=1, max_length=50_000, min_length=40_000, **WRITTEN)
    slow.wait()
    slow.leave.set()
    assert next(stream)
    match how:
        case "close":
            stream.close()
            assert list(stream) == []
        case "with":
            with stream:
                pass
        case "forgotten":
            del stream
            gc.collect()
    assert translator("the cat", max_length=5)
    assert slow.steps < 10_000


def test_logits_that_are_not_finite_are_the_error_of_a_stream(translator):
    config = translator.model.config
    model = dg.Transformer(config)
    model.output.weight.copy_(np.full(model.output.weight.shape, np.nan, np.float32))
    broken = dg.Translator(model, translator.tokenizer)
    with pytest.raises(FloatingPointError, match="logits are not finite"):
        list(broken.stream("the dog"))
    with pytest.raises(FloatingPointError, match="logits are not finite"):
        broken.submit("the dog").result(60)


def test_candidates_have_log_probabilities_and_a_score_that_can_be_had_again(translator):
    [found] = translator.candidates(["the dog is good"], beam=3, max_length=100)
    assert len(found) == 3
    for candidate in found:
        assert sum(candidate.token_logprobs) == pytest.approx(candidate.sum_logprob, abs=1e-5)
        length = len(candidate.token_logprobs)
        assert candidate.score == pytest.approx(candidate.sum_logprob / ((5 + length) / 6) ** 0.6, abs=1e-5)
    ids = [*translator.tokenizer.encode("the dog is good"), 2]
    [hypotheses] = generate(translator.model, [ids], beam=3, max_length=100)
    assert [c.sum_logprob for c in found] == pytest.approx([h.sum_logprob for h in hypotheses], abs=1e-5)
    later = translator.submit_candidates(["the dog is good", ""], beam=3, max_length=100).result(60)
    assert later == [found, [dg.predict.Candidate("", 0.0)]]


def test_candidates_of_a_language_model(language_model):
    texts = ["the dog", "they"]
    found = language_model.candidates(texts, beam=3, max_length=6, length_penalty=0.0)
    for text, candidates in zip(texts, found, strict=True):
        assert len(candidates) == 3
        assert candidates[0].text == language_model(text, beam=3, max_length=6, length_penalty=0.0)
        for candidate in candidates:
            assert candidate.score == pytest.approx(sum(candidate.token_logprobs), abs=1e-5)
    drawn = language_model.candidates(texts, temperature=1.0, count=4, max_length=6)
    assert [len(each) for each in drawn] == [4, 4]
    assert language_model.submit_candidates(texts, temperature=1.0, count=4, max_length=6).result(60) == drawn


def test_ids_of_a_tokenizer_of_ones_own(translator):
    options = [SearchOptions(beam=2, max_length=5), SearchOptions(beam=1, max_length=7)]
    ids = [[5, 6, 2], [7, 2]]
    found = translator.submit_ids(ids, options, [0, 1]).result(60)
    for source, chosen, hypotheses in zip(ids, options, found, strict=True):
        assert hypotheses == generate(translator.model, [source], beam=chosen.beam, max_length=chosen.max_length)[0]
    for bad, message in (
        (([[5, -1]], options[:1], [0]), r"ids\[0\]\[1\] must lie in"),
        (([[]], options[:1], [0]), r"ids\[0\] must hold at least one id"),
        ((ids, options[:1], [0, 1]), "options must hold 2, one for each of ids, got 1"),
        ((ids, options, [0]), "places must hold 2, one for each of ids, got 1"),
    ):
        with pytest.raises(ValueError, match=f"^Translator: {message}"):
            translator.submit_ids(*bad)
    with pytest.raises(TypeError, match=r"^Translator: options\[0\] must be a SearchOptions, got dict$"):
        translator.submit_ids(ids, [{}, {}], [0, 1])


def test_scores_of_pairs(translator):
    pairs = [("the dog is good", "the cat"), ("they", ""), ("", "fish")]
    found = translator.score(pairs)
    assert [each.text for each in found] == ["the cat", "", "fish"]
    for (source, target), each in zip(pairs, found, strict=True):
        ids = translator.tokenizer.encode(target)
        logits = translator.model.logits([[*translator.tokenizer.encode(source), 2]], [[1, *ids]]).astype(np.float64)
        log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        wanted = [*ids, 2]
        expected = log_probs[np.arange(len(wanted)), wanted]
        assert each.token_logprobs == pytest.approx(expected, abs=1e-5)
        assert each.sum_logprob == pytest.approx(expected.sum(), abs=1e-5)
    assert translator.score([]) == []
    with pytest.raises(TypeError, match=r"^Translator: pairs\[1\] must be two texts, got str 'ab'$"):
        translator.score([("a", "b"), "ab"])
    with pytest.raises(TypeError, match=r"^Translator: pairs\[0\]\[1\] must be a str, got int 3$"):
        translator.score([("a", 3)])
    with pytest.raises(TypeError, match=r"^Translator: pairs must be a list of pairs of texts, got str$"):
        translator.score("ab")


def test_an_option_that_is_none_is_named(translator, language_model):
    for served in (translator, language_model):
        for call in (served, served.submit, served.stream):
            with pytest.raises(TypeError, match=rf"^{type(served).__name__}: got an unexpected keyword .*colour"):
                call("a", colour=1)


def test_ctrl_c_ends_a_call_soon(tmp_path, translator):
    """And what it asked for: the process ends, although the translation would take hours."""
    translator.model.save(tmp_path)
    translator.tokenizer.save(tmp_path / "tokenizer.json")
    code = """
import sys, time, threading, os, signal
import dragoman as dg
translator = dg.Translator.load(sys.argv[1])
translator("a dog", max_length=3)
def interrupt():
    time.sleep(0.3)
    sent.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)
sent = []
threading.Thread(target=interrupt).start()
try:
    translator("the dog", beam=1, max_length=99_999, min_length=99_999)
except KeyboardInterrupt:
    print(time.monotonic() - sent[0])
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    print(f"{float(done.stdout):.3f} seconds")  # shown by -s
    assert float(done.stdout) < 5


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.cpu
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux")
def test_memory_is_flat(translator):
    """A request that were kept, with 4 KB, would be seen."""
    texts = texts_of(500, seed=3)

    def ask():
        futures = [translator.submit(text, beam=2, max_length=4) for text in texts]
        futures += [translator.submit(text, beam=1, max_length=50) for text in texts[:20]]
        for future in futures[-20:]:
            future.cancel()
        streams = [translator.stream(text, beam=1, max_length=4) for text in texts[:50]]
        for future in futures[:-20]:
            future.result(60)
        for stream in streams[:25]:
            list(stream)

    ask()
    ask()
    gc.collect()
    before = resident()
    for _ in range(10 * REQUESTS // 500):
        ask()
    gc.collect()
    assert resident() - before < 6 << 20
