"""The adapter's iterables, files, callbacks and streams of tokens: what translate_batch gives, as it comes."""

import asyncio

import numpy as np
import pytest
from dragoman.interop import ctranslate2
from tiny_translator import LINES, tokens_of

pytest.importorskip("tokenizers")
pytestmark = pytest.mark.usefixtures("one_thread")


def rows_of(translator, count):
    """Sources of many lengths."""
    return [tokens_of(translator, " ".join((LINES * 3)[i % 5 : i % 5 + i % 4])) for i in range(count)]


@pytest.mark.parametrize(("size", "batch_type"), [(1, "examples"), (3, "examples"), (40, "tokens")])
def test_iterables(translator, size, batch_type):
    """They are read as results are asked for, not all at once."""
    rows, read = rows_of(translator, 200), []
    options = {"beam_size": 2, "max_decoding_length": 5, "return_scores": True}
    source = (read.append(row) or row for row in rows)
    found = translator.translate_iterable(source, max_batch_size=size, batch_type=batch_type, **options)
    first = next(found)
    assert len(read) < 200
    assert [first, *found] == translator.translate_batch(rows, **options)
    prefixes = [row[:1] or None for row in rows]
    found = list(translator.translate_iterable(iter(rows), iter(prefixes), size, batch_type, **options))
    assert found == translator.translate_batch(rows, prefixes, **options)
    targets = rows[::-1]
    scored = list(translator.score_iterable(iter(rows), iter(targets), max_batch_size=size, batch_type=batch_type))
    assert [each.tokens for each in scored] == [[*row, "</s>"] for row in targets]
    for each, row, target in zip(scored[::40], rows[::40], targets[::40], strict=True):
        [alone] = translator.score_batch([row], [target])
        assert each.log_probs == pytest.approx(alone.log_probs, abs=1e-5)
    assert list(translator.translate_iterable([])) == []


def test_an_iterable_that_is_not_read_to_its_end_is_cancelled(translator):
    rows = rows_of(translator, 100)
    found = translator.translate_iterable(rows, max_batch_size=2, beam_size=1, min_decoding_length=200)
    next(found)
    found.close()
    assert translator.translate_batch(rows[1:2], max_decoding_length=3)
    assert translator.num_queued_batches == 0


def test_wrong_iterables(translator):
    with pytest.raises(ValueError, match=r"^Translator: source and target must hold as many examples as one another$"):
        list(translator.score_iterable([["a"]], []))
    with pytest.raises(ValueError, match=r"^Translator: max_batch_size must be at least 1, got 0$"):
        list(translator.translate_iterable([["a"]], max_batch_size=0))
    with pytest.raises(ValueError, match=r"^Translator: batch_type must be one of examples, tokens, got 'x'$"):
        list(translator.translate_iterable([["a"]], batch_type="x"))


def test_files(translator, tmp_path):
    rows = rows_of(translator, 50)
    source, target, output = tmp_path / "source", tmp_path / "target", tmp_path / "output"
    source.write_text("".join(" ".join(row) + "\n" for row in rows))
    found = translator.translate_batch(rows, num_hypotheses=2, return_scores=True, max_decoding_length=6)
    options = {"max_batch_size": 4, "num_hypotheses": 2, "max_decoding_length": 6}
    stats = translator.translate_file(str(source), str(output), **options)
    lines = [" ".join(tokens) for each in found for tokens in each.hypotheses]
    assert output.read_text().splitlines() == lines
    assert (stats.num_examples, stats.num_tokens) == (50, sum(len(each.hypotheses[0]) for each in found))
    assert stats.total_time_in_ms > 0
    translator.translate_file(str(source), str(output), with_scores=True, **options)
    scores = [score for each in found for score in each.scores]
    read = [line.split(" ||| ") for line in output.read_text().splitlines()]
    assert [text for _, text in read] == lines
    assert [float(score) for score, _ in read] == pytest.approx(scores, rel=1e-5)
    source.write_text("a man\ntwo dogs\n")
    target.write_text("dog\n\n")
    functions = {
        "source_tokenize_fn": lambda line: tokens_of(translator, line),
        "target_detokenize_fn": lambda tokens: "".join(tokens).replace("\u2581", " "),
        "target_tokenize_fn": lambda line: tokens_of(translator, line),
    }
    translator.translate_file(str(source), str(output), str(target), beam_size=3, **functions)
    sources, prefixes = (
        [tokens_of(translator, line) for line in ("a man", "two dogs")],
        [tokens_of(translator, "dog"), []],
    )
    expected = translator.translate_batch(sources, prefixes, beam_size=3)
    assert output.read_text().splitlines() == ["".join(e.hypotheses[0]).replace("\u2581", " ") for e in expected]
    target.write_text("dog\na man\n")
    translator.score_file(str(source), str(target), str(output), with_tokens_score=True, **functions)
    scored = translator.score_batch(sources, [tokens_of(translator, line) for line in ("dog", "a man")])
    for line, each, text in zip(output.read_text().splitlines(), scored, (" dog</s>", " a man</s>"), strict=True):
        mean, written, values = line.split(" ||| ")
        assert written == text
        assert float(mean) == pytest.approx(np.mean(each.log_probs), rel=1e-5)
        assert [float(value) for value in values.split()] == pytest.approx(each.log_probs, rel=1e-5)


def test_tokens_as_they_are_written(translator, generator):
    source, prefix = tokens_of(translator, "a man"), tokens_of(translator, "dog")
    for options in ({}, {"max_decoding_length": 4}, {"sampling_topk": 5}, {"target_prefix": prefix}):
        ctranslate2.set_random_seed(3)
        steps = list(translator.generate_tokens(source, **options))
        ctranslate2.set_random_seed(3)
        batch = {**options, "target_prefix": [prefix] if "target_prefix" in options else None}
        [found] = translator.translate_batch([source], beam_size=1, return_end_token=True, **batch)
        assert [step.token for step in steps] == found.hypotheses[0]
        assert [step.step for step in steps] == list(range(len(steps)))
        assert [step.is_last for step in steps] == [False] * (len(steps) - 1) + [True]
        assert [translator._names[step.token_id] for step in steps] == found.hypotheses[0]
    prompts = [["<s>"], ["<s>", *tokens_of(generator, "a man")]]
    steps = list(generator.generate_tokens(prompts, max_length=7))
    found = generator.generate_batch(prompts, max_length=7, include_prompt_in_result=False, return_end_token=True)
    for i, each in enumerate(found):
        assert [step.token_id for step in steps if step.batch_id == i] == each.sequences_ids[0]
    assert list(generator.generate_tokens(prompts[1], max_length=7))[-1].is_last

    async def read():
        return [step.token_id async for step in generator.async_generate_tokens(prompts[1], max_length=7)]

    assert asyncio.run(read()) == found[1].sequences_ids[0]
    with pytest.raises(TypeError, match=r"^Translator: unknown option colour$"):
        next(translator.generate_tokens(source, colour=1))
    with pytest.raises(ValueError, match=r"^Generator: return_log_prob must be False, the default"):
        generator.generate_tokens(prompts, return_log_prob=True)


def test_a_stream_of_tokens_that_is_closed_ends_the_work(translator):
    steps = translator.generate_tokens(
        tokens_of(translator, "a man"), max_decoding_length=50_000, min_decoding_length=40_000
    )
    assert next(steps).step == 0
    steps.close()
    assert translator.translate_batch([["a"]], max_decoding_length=3)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_callback_ends_an_output(translator, asynchronous):
    sources = [tokens_of(translator, line) for line in LINES]
    told = []

    def tell(step):
        told.append((step.batch_id, step.token))
        return step.step == 2 + step.batch_id

    options = {"beam_size": 1, "max_decoding_length": 60, "min_decoding_length": 50}
    whole = translator.translate_batch(sources, **options)
    found = translator.translate_batch(sources, callback=tell, asynchronous=asynchronous, return_scores=True, **options)
    found = [each.result() for each in found] if asynchronous else found
    for i, (each, tokens) in enumerate(zip(found, [each.hypotheses[0] for each in whole], strict=True)):
        assert each.hypotheses == [tokens[: 3 + i]]
        assert [token for batch_id, token in told if batch_id == i] == tokens[: 3 + i]
        [scored] = translator.score_batch([sources[i]], each.hypotheses)
        assert each.scores == pytest.approx([np.mean(scored.log_probs[:-1])], abs=1e-5)


def test_an_error_of_a_callback_is_the_callers(translator):
    def fails(step):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        translator.translate_batch([["a"]], beam_size=1, callback=fails)
    with pytest.raises(KeyError, match="mine"):  # at its only token
        translator.translate_batch([["a"]], beam_size=1, max_decoding_length=1, callback=fails)
    assert translator.translate_batch([["a"]], max_decoding_length=3)


def test_iterables_of_a_generator(generator):
    prompts = [["<s>"], ["<s>", *tokens_of(generator, "a man")]] * 9
    options = {"max_length": 5, "return_scores": True}
    assert list(generator.generate_iterable(iter(prompts), 2, **options)) == generator.generate_batch(
        prompts, **options
    )
