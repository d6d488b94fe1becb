"""The adapter with CTranslate2's signatures, by the calls that programs written for it make."""

import inspect
import re

import dragoman as dg
import numpy as np
import pytest
from dragoman.generate import attention_maps, generate
from dragoman.interop import ctranslate2
from dragoman.interop.ctranslate2 import options as options_of
from family import encoder_of
from tiny_translator import LINES, tokens_of

pytest.importorskip("tokenizers")
pytestmark = pytest.mark.usefixtures("one_thread")


RULE = {"like": "hf", "early_stopping": True, "renormalize": True}


def searched(translator, text, **options):
    served = translator._served
    return generate(served.model, [[*served.tokenizer.encode(text), 2]], **RULE, **options)[0]


def test_the_calls_of_argostranslate(translator):
    """Of version 1.11, which LibreTranslate uses: `apply_packaged_translation` of its translate.py."""
    num_hypotheses = 4
    tokenized = [tokens_of(translator, sentence) for sentence in LINES]
    translated_batches = translator.translate_batch(
        tokenized,
        target_prefix=None,
        replace_unknowns=True,
        max_batch_size=32,
        batch_type="tokens",
        beam_size=max(num_hypotheses, 4),
        num_hypotheses=num_hypotheses,
        length_penalty=0.2,
        return_scores=True,
    )
    value_hypotheses = []
    for i in range(num_hypotheses):
        translated_tokens, score = [], 0.0
        for translated_batch in translated_batches:
            translated_tokens += translated_batch.hypotheses[i]
            score += translated_batch.scores[i]
        detokenized = "".join(translated_tokens).replace("\u2581", " ")
        value_hypotheses.append((detokenized, score))
    expected = [searched(translator, line, beam=4, max_length=256, min_length=1, length_penalty=0.2) for line in LINES]
    for i, (text, score) in enumerate(value_hypotheses):
        ids = [id for hypotheses in expected for id in hypotheses[i].ids]
        assert text == "".join(translator._served.tokenizer.tokens(ids)).replace("\u2581", " ")
        assert score == pytest.approx(sum(hypotheses[i].score for hypotheses in expected), abs=1e-5)


def test_the_call_with_a_target_prefix(translator):
    """argostranslate does so for models of several target languages."""
    prefix = tokens_of(translator, "dogs")
    [found] = translator.translate_batch([tokens_of(translator, "a man")], target_prefix=[prefix], beam_size=4)
    assert found.hypotheses[0][: len(prefix)] == prefix
    assert found.scores == []
    mixed = translator.translate_batch([tokens_of(translator, "a man")] * 2, target_prefix=[None, prefix], beam_size=4)
    assert mixed[1] == found
    assert mixed[0] == translator.translate_batch([tokens_of(translator, "a man")], beam_size=4)[0]


def test_the_score_of_a_prefix_does_not_count(translator):
    source, prefix = tokens_of(translator, LINES[0]), tokens_of(translator, "dogs")
    options = {"beam_size": 4, "num_hypotheses": 3, "length_penalty": 0.7, "max_decoding_length": 200}
    options["min_decoding_length"] = 0  # so that no token is forbidden
    [found] = translator.translate_batch(
        [source], target_prefix=[prefix], return_scores=True, return_end_token=True, **options
    )
    assert len(found.scores) == 3
    assert found.scores == sorted(found.scores, reverse=True)
    for tokens, score in zip(found.hypotheses, found.scores, strict=True):
        ended = tokens[-1] == "</s>"
        [scored] = translator.score_batch([source], [tokens[: len(tokens) - ended]])
        expected = sum(scored.log_probs[len(prefix) : len(tokens)]) / len(tokens) ** 0.7
        assert score == pytest.approx(expected, abs=1e-5)


def test_scores_are_those_of_their_normalisation(translator):
    """Also of draws, and of outputs that are cut."""
    options = {"return_scores": True, "return_end_token": True, "min_decoding_length": 0}
    for more in (
        {"beam_size": 3, "num_hypotheses": 3, "max_decoding_length": 300},
        {"beam_size": 2, "max_decoding_length": 4, "length_penalty": 0.3},
        {"beam_size": 1, "sampling_topk": 0, "num_hypotheses": 4, "max_decoding_length": 7},
        {"beam_size": 1, "sampling_topk": 5, "sampling_temperature": 2, "max_decoding_length": 7},
    ):
        [found] = translator.translate_batch([tokens_of(translator, LINES[0])], **options, **more)
        for tokens, score in zip(found.hypotheses, found.scores, strict=True):
            assert tokens[-1] == "</s>" or len(tokens) == more["max_decoding_length"]
            target = tokens[: len(tokens) - (tokens[-1] == "</s>")]
            [scored] = translator.score_batch([tokens_of(translator, LINES[0])], [target])
            total = sum(scored.log_probs[: len(tokens)])
            assert score == pytest.approx(total / len(tokens) ** more.get("length_penalty", 1), abs=1e-5)


def test_a_target_without_its_first_tokens(translator):
    source, target = tokens_of(translator, "a man"), tokens_of(translator, "two dogs")
    [whole], [rest] = (translator.score_batch([source], [target], offset=offset) for offset in (0, 1))
    assert rest.tokens == whole.tokens[1:] == [*target, "</s>"][1:]
    assert rest.log_probs == pytest.approx(whole.log_probs[1:], abs=1e-6)


def test_a_source_without_tokens(translator):
    tokens = tokens_of(translator, "a man")
    for asynchronous in (False, True):
        found = translator.translate_batch(
            [[], tokens, ["</s>"]], num_hypotheses=2, return_scores=True, asynchronous=asynchronous
        )
        found = [each.result() for each in found] if asynchronous else found
        assert found[0] == found[2] == ctranslate2.TranslationResult([[], []], [0.0, 0.0])
        assert found[1:2] == translator.translate_batch([tokens], num_hypotheses=2, return_scores=True)


def test_asynchronous_calls(translator):
    sources = [tokens_of(translator, line) for line in LINES]
    later = translator.translate_batch(sources, asynchronous=True, return_scores=True)
    now = translator.translate_batch(sources, return_scores=True)
    assert [each.result() for each in later] == now
    assert all(each.done() for each in later)


def test_a_source_is_cut_and_its_end_is_not_doubled(translator):
    tokens = tokens_of(translator, LINES[0])
    expected = translator.translate_batch([tokens[:2]])
    assert translator.translate_batch([tokens], max_input_length=2) == expected
    assert translator.translate_batch([[*tokens[:2], "</s>"]]) == expected
    assert translator.translate_batch([]) == []


def test_draws_have_a_seed_and_differ_from_call_to_call(translator):
    def draw():
        [found] = translator.translate_batch(
            [tokens_of(translator, "a man")], beam_size=1, sampling_topk=0, sampling_temperature=1.5, num_hypotheses=2
        )
        return found.hypotheses

    ctranslate2.set_random_seed(4)
    first, second = draw(), draw()
    assert first != second
    assert first[0] != first[1]
    ctranslate2.set_random_seed(4)
    assert [draw(), draw()] == [first, second]


def test_a_generator(generator):
    prompts = [["<s>", *tokens_of(generator, "a man")], ["<s>"]]
    found = generator.generate_batch(prompts, max_length=6, return_scores=True, include_prompt_in_result=False)
    served = generator._served
    for prompt, result in zip(prompts, found, strict=True):
        ids = [served.tokenizer._backend.token_to_id(token) for token in prompt]
        [expected] = generate(served.model, [ids], beam=1, max_length=6, **RULE)[0]
        assert result.sequences_ids == [expected.ids]
        assert result.sequences == [served.tokenizer.tokens(expected.ids)]
        assert result.scores == pytest.approx([expected.score], abs=1e-6)


def test_a_result_with_its_prompt(generator):
    """The first token is not in it; the others count in the length of the result, and of the score."""
    prompt = ["<s>", *tokens_of(generator, "a man")]
    taken = len(prompt) - 1
    options = {"beam_size": 2, "num_hypotheses": 2, "length_penalty": 0.5, "return_scores": True}
    [whole] = generator.generate_batch([prompt], max_length=taken + 5, min_length=taken + 2, **options)
    [rest] = generator.generate_batch(
        [prompt], max_length=5, min_length=2, include_prompt_in_result=False, return_end_token=True, **options
    )
    assert sorted(whole.sequences) == sorted(
        [*prompt[1:], *(token for token in tokens if token != "</s>")] for tokens in rest.sequences
    )
    scores = {
        tuple(tokens): score * len(tokens) ** 0.5 / (len(tokens) + taken) ** 0.5
        for tokens, score in zip(rest.sequences, rest.scores, strict=True)
    }
    assert whole.scores == pytest.approx(sorted(scores.values(), reverse=True), abs=1e-5)
    assert generator.generate_batch([prompt], max_length=1)[0].sequences == [prompt[1:2]]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"patience": 2}, ValueError, "patience must be 1, the default; it is not supported here"),
        ({"return_logits_vocab": True}, ValueError, "return_logits_vocab must be False, the default"),
        ({"callback": print}, ValueError, "callback needs beam_size and num_hypotheses to be 1"),
        ({"callback": 3, "beam_size": 1}, TypeError, "callback must be callable, got int"),
        ({"suppress_sequences": ["ab"]}, TypeError, "a text must be a list of tokens, got str 'ab'"),
        ({"coverage_penalty": 1}, ValueError, "coverage_penalty must be 0, the default; it is not supported here"),
        ({"target_prefix": [["a"], ["b"]]}, ValueError, "target_prefix must hold 1 prefixes, got 2"),
        ({"beam_size": 0}, ValueError, "beam_size must be at least 1, got 0"),
        ({"num_hypotheses": 3}, ValueError, "num_hypotheses must be at most 2, the value of beam_size, got 3"),
        ({"min_decoding_length": 9, "max_decoding_length": 3}, ValueError, "min_decoding_length must be at most 3"),
        ({"sampling_topk": 5}, ValueError, "beam_size must be 1 where sampling_temperature is above 0, got 2"),
        ({"target_prefix": ["ab"]}, TypeError, "a text must be a list of tokens, got str 'ab'"),
        ({"colour": 1}, TypeError, "unknown option colour"),
    ],
)
def test_options_that_are_not_supported_are_named(translator, options, error, message):
    with pytest.raises(error, match=f"^Translator: {message}"):
        translator.translate_batch([["a"]], **options)


def test_a_text_is_not_its_tokens(translator, generator):
    for call in (
        lambda: translator.translate_batch(["a man"]),
        lambda: translator.score_batch([["a"]], ["a man"]),
        lambda: generator.generate_batch(["a man"]),
    ):
        with pytest.raises(TypeError, match=r"or: a text must be a list of tokens, got str 'a"):
            call()


def test_options_of_a_generator_have_its_names(generator):
    with pytest.raises(ValueError, match=r"^Generator: min_length must be at most 3, the value of max_length, got 9"):
        generator.generate_batch([["<s>"]], min_length=9, max_length=3)


def test_constructors(folder):
    with pytest.raises(ValueError, match=r"^Translator: compute_type must be one of default, auto, float32"):
        ctranslate2.Translator(str(folder), compute_type="int16")
    with pytest.raises(ValueError, match=r"^Translator: tensor_parallel must be False, the default"):
        ctranslate2.Translator(str(folder), tensor_parallel=True)
    with pytest.raises(TypeError, match=r"^Translator: unknown option colour$"):
        ctranslate2.Translator(str(folder), colour=1)
    translator = ctranslate2.Translator(str(folder), "auto", max_queued_batches=-1, device_index=0)
    assert (translator.model_is_loaded, translator.compute_type) == (True, "default")


def test_weights_in_int8(folder, translator):
    found = ctranslate2.Translator(str(folder), compute_type="int8_float32")
    assert found._served.model.frozen == found.compute_type == "int8"
    tokens = tokens_of(translator, "a man")
    [score] = translator.translate_batch([tokens], return_scores=True)[0].scores
    assert found.translate_batch([tokens], return_scores=True)[0].scores == pytest.approx([score], abs=0.3)


def test_suppressed_tokens(translator):
    tokens = tokens_of(translator, "a man")
    first = translator.translate_batch([tokens])[0].hypotheses[0][0]
    [found] = translator.translate_batch([tokens], suppress_sequences=[[first]], return_scores=True)
    assert first not in found.hypotheses[0]
    options = {"beam": 2, "max_length": 256, "min_length": 1}
    [id] = translator._ids_of([first])
    expected = searched(translator, "a man", suppress=[id], **options)[0]
    assert found.scores == pytest.approx([expected.score], abs=1e-5)
    pair = translator.translate_batch([tokens])[0].hypotheses[0][:2]
    found = translator.translate_batch([tokens], suppress_sequences=[pair])[0].hypotheses[0]
    assert pair not in [found[i : i + 2] for i in range(len(found))]
    [expected] = searched(translator, "a man", bad_words=[translator._ids_of(pair)], **options)[:1]
    assert translator._ids_of(found) == expected.ids


def test_what_is_no_batch_is_named(translator, generator):
    for call, message in (
        (
            lambda: translator.translate_batch([["a"]], 3),
            "Translator: target_prefix must be a list of lists of tokens, got int 3",
        ),
        (lambda: translator.translate_batch(3), "Translator: source must be a list of lists of tokens, got int 3"),
        (
            lambda: translator.translate_batch("ab"),
            "Translator: source must be a list of lists of tokens, got str 'ab'",
        ),
        (lambda: translator.translate_batch([[3]]), "Translator: a token must be a str, got int 3"),
        (lambda: translator.translate_batch([3]), "Translator: a text must be a list of tokens, got int 3"),
        (lambda: translator.score_batch([["a"]], 3), "Translator: target must be a list of lists of tokens, got int 3"),
        (lambda: generator.generate_batch(None), "Generator: start_tokens must be a list of lists of tokens, got None"),
        (lambda: generator.forward_batch("a"), "Generator: inputs must be a list of texts, got str 'a'"),
        (
            lambda: next(translator.translate_iterable(3)),
            "Translator: source must be an iterable of lists of tokens, got int",
        ),
    ):
        with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
            call()
    with pytest.raises(
        ValueError, match=r"^Generator: start_tokens\[1\] must hold at least one token, such as <s>, got none$"
    ):
        generator.generate_batch([["<s>"], []])
    with pytest.raises(ValueError, match=r"^Translator: target must hold 1 targets, got 2$"):
        translator.score_batch([["a"]], [["a"], ["b"]])


def test_attention(translator):
    sources = [tokens_of(translator, line) for line in LINES]
    found = translator.translate_batch(
        sources, return_attention=True, beam_size=3, num_hypotheses=2, max_decoding_length=8
    )
    model, ids = translator._served.model, translator._ids_of
    for source, each in zip(sources, found, strict=True):
        for tokens, weights in zip(each.hypotheses, each.attention, strict=True):
            [maps] = attention_maps(model, [[*ids(source), 2]], [ids(tokens)], layers=[-1], heads=[0])
            np.testing.assert_allclose(weights, maps[0][0][: len(tokens)], atol=1e-6)


def test_scores_of_a_generator(generator):
    texts = [["<s>", *tokens_of(generator, "a man")], ["<s>", "</s>"]]
    found = generator.score_batch(texts)
    for tokens, each in zip(texts, found, strict=True):
        ids = generator._ids_of(tokens)
        logits = generator._served.model.logits([ids]).astype(np.float64)
        log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        assert each.tokens == tokens[1:]
        assert each.log_probs == pytest.approx(log_probs[np.arange(len(ids) - 1), ids[1:]], abs=1e-5)
    for later in (
        [each.result() for each in generator.score_batch(texts, asynchronous=True)],
        list(generator.score_iterable(iter(texts), max_batch_size=1)),
    ):
        assert [each.tokens for each in later] == [each.tokens for each in found]
        assert later[0].log_probs == pytest.approx(found[0].log_probs, abs=1e-5)
    assert generator.score_batch(texts, max_input_length=2)[0].tokens == texts[0][1:2]


def test_logits_of_texts(generator):
    texts = [["<s>", *tokens_of(generator, "a man")], ["<s>"]]
    ids = [generator._ids_of(tokens) for tokens in texts]
    found = generator.forward_batch(texts)
    model = generator._served.model
    assert found.shape == (2, len(ids[0]), model.config.vocab_size)
    for row, each in zip(found, ids, strict=True):
        np.testing.assert_allclose(row[: len(each)], model.logits([each]), atol=1e-5)
        assert not row[len(each) :].any()
    np.testing.assert_array_equal(generator.forward_batch(ids), found)
    rows = np.full((2, len(ids[0])), 7, np.int32)
    for row, each in zip(rows, ids, strict=True):
        row[: len(each)] = each
    np.testing.assert_array_equal(generator.forward_batch(rows, np.int32([len(each) for each in ids])), found)
    with pytest.raises(ValueError, match=r"^Generator: lengths must hold a length for each of 2 rows$"):
        generator.forward_batch(rows)
    log_probs = generator.forward_batch(ids, return_log_probs=True)
    assert np.exp(log_probs[0]).sum(-1) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(np.diff(log_probs[0]), np.diff(found[0]), atol=1e-5)


def test_a_model_that_is_unloaded(folder):
    translator = ctranslate2.Translator(str(folder))
    before = translator.translate_batch([["a"]])
    translator.unload_model()
    assert not translator.model_is_loaded
    with pytest.raises(RuntimeError, match=r"^Translator: the model is not loaded$"):
        translator.translate_batch([["a"]])
    translator.unload_model(to_cpu=True)
    translator.load_model()
    assert translator.translate_batch([["a"]]) == before
    assert (translator.device, translator.device_index, translator.tensor_parallel) == ("cpu", [0], False)
    assert (translator.num_translators, translator.num_queued_batches) == (1, 0)
    assert translator.num_active_batches in (0, 1)


def test_what_there_is(folder, tmp_path):
    assert ctranslate2.contains_model(str(folder))
    assert not ctranslate2.contains_model(str(tmp_path))
    encoder_of(vocab_size=64).save(tmp_path)
    assert not ctranslate2.contains_model(str(tmp_path))
    types = ctranslate2.get_supported_compute_types("cpu")
    assert types == {"float32", "bfloat16", "int8", "int8_float32", "int8_bfloat16"}
    for each in types:
        assert ctranslate2.Translator(str(folder), compute_type=each).compute_type in each
    assert ctranslate2.get_supported_compute_types("cuda", 0) == {"float32", "bfloat16"}
    with pytest.raises(ValueError, match=r"device must be one of cpu, cuda, got 'tpu'"):
        ctranslate2.get_supported_compute_types("tpu")
    assert ctranslate2.get_cuda_device_count() == int(dg.cuda.is_available())


@pytest.mark.parametrize("name", ["Translator.translate_batch", "Generator.generate_batch"])
def test_every_option_of_theirs_has_an_answer(name, translator, generator):
    """By the signatures of the library, where it is installed."""
    theirs = pytest.importorskip("ctranslate2")
    kind, method = name.split(".")
    text = getattr(getattr(theirs, kind), method).__doc__.split("*,")[1].split(") ->")[0]
    options = [part.split(":")[0].strip() for part in text.split(", ") if ":" in part.split("=")[0]]
    assert len(options) > 20
    ours = inspect.signature(getattr(getattr(ctranslate2, kind), method)).parameters
    known = {*ours, *options_of.AS_BY_DEFAULT, *options_of.WITHOUT_EFFECT, *options_of.MAPPED}
    known |= {"suppress_sequences", "disable_unk", "sampling_topk", "sampling_topp", "sampling_temperature"}
    assert set(options) <= known


@pytest.mark.parametrize("name", ["Translator", "Generator"])
def test_every_method_and_property_of_theirs_is_here(name):
    theirs = pytest.importorskip("ctranslate2")
    wanted = {each for each in dir(getattr(theirs, name)) if not each.startswith("_")}
    assert wanted <= {*dir(getattr(ctranslate2, name))}
