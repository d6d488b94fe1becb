"""Generation: requests that join, leave and fail between steps; ensembles; samples; scores of given outputs."""

import numpy as np
import pytest
from dragoman import _core
from dragoman.generate import Generation, SearchOptions, generate, sample, score
from plain_search import SOURCES, log_softmax, make_decoder, make_model

MODELS = {
    "encoder-decoder": (make_model, SOURCES),
    "decoder": (make_decoder, [[1, 5, 6], [1], [1, 9, 9, 9, 4], [7, 8]]),
}
REQUESTS = [
    SearchOptions(beam=3),
    SearchOptions(temperature=1.0, seed=3, count=2, max_length=6),
    SearchOptions(max_length=0),
    SearchOptions(beam=2, like="marian", suppress=[7], max_length=7),
    SearchOptions(prefix=[6, 7], max_length=8),
]


@pytest.mark.parametrize("kind", MODELS)
def test_requests_that_come_and_go_have_their_own_results(kind):
    make, sources = MODELS[kind]
    model = make(1)
    generation, found, expected, cancelled = Generation(model), {}, {}, []
    for turn in range(200):
        if turn < 12:
            source, options = sources[turn % len(sources)], REQUESTS[turn % len(REQUESTS)]
            key = generation.add(source, options, place=turn)
            assert key == turn
            alone = Generation(model)
            alone.add(source, options, place=turn)
            while not alone.step():
                pass
            expected[key] = alone.take(0)
            if turn in (4, 9):
                cancelled.append(key)
        for key in generation.step():
            found[key] = generation.take(key)
        if turn in (6, 9):  # one that runs or has ended, and one that waits
            generation.cancel(cancelled[turn > 6])
            generation.cancel(999)
        if turn > 12 and not generation.rows:
            break
    assert generation.step() == [] and generation.rows == 0
    assert len(found) >= 10 and 9 not in found
    for key, hypotheses in found.items():
        assert [h.ids for h in hypotheses] == [h.ids for h in expected[key]], key
        np.testing.assert_allclose([h.score for h in hypotheses], [h.score for h in expected[key]], atol=1e-5)


@pytest.mark.parametrize(
    "options", [SearchOptions(beam=4), SearchOptions(beam=3, like="fairseq"), REQUESTS[1]], ids=str
)
def test_what_is_stable_only_grows(options):
    generation = Generation(make_model(2))
    generation.add([5, 6, 7, 8], options)
    parts = [[]]
    while True:
        ended = generation.step()
        parts.append(generation.stable(0))
        assert parts[-1][: len(parts[-2])] == parts[-2]
        if ended:
            break
    best = generation.take(0)[0].ids
    assert parts[-1] == best and (options.beam > 1 or len({len(part) for part in parts}) > 2)
    with pytest.raises(ValueError, match="stable: key must be of a request that was not taken, got 0"):
        generation.stable(0)


def test_logits_that_are_not_finite_end_their_own_request():
    model = make_model(tie_embeddings="none")
    weight = model.src_embedding.weight.numpy().copy()
    weight[12] = np.nan
    model.src_embedding.weight.copy_(weight)
    generation = Generation(model)
    keys = [generation.add(source, SearchOptions(beam=2)) for source in ([5, 6], [5, 12], [7])]
    found = {}
    while len(found) < 3:
        for key in generation.step():
            try:
                found[key] = generation.take(key)
            except FloatingPointError as error:
                found[key] = str(error)
    assert found[keys[1]] == "Generation: logits are not finite"
    assert [found[keys[0]], found[keys[2]]] == generate(model, [[5, 6], [7]], beam=2)


def test_an_error_of_the_model_ends_all_requests(monkeypatch):
    model = make_model()
    monkeypatch.setattr("dragoman.generate.steps.replayed_steps", lambda model: None)
    generation = Generation(model)
    generation.add([5, 6])
    generation.step()
    monkeypatch.setattr(model, "decode", lambda *args: 1 / 0)
    generation.add([7])
    with pytest.raises(ZeroDivisionError):
        generation.step()
    monkeypatch.undo()
    assert generation.rows == 0 and generation.step() == []
    key = generation.add([5, 6])
    while not generation.step():
        pass
    assert generation.take(key) == generate(model, [[5, 6]])[0]


@pytest.mark.parametrize("models", [1, 2])
def test_rows_of_a_first_step_that_failed_are_gone(monkeypatch, models):
    """Also those of the models of an ensemble that had taken the step."""
    ensemble = [make_model(seed) for seed in range(models)]
    monkeypatch.setattr("dragoman.generate.steps.replayed_steps", lambda model: None)
    generation = Generation(ensemble)
    with monkeypatch.context() as broken:
        broken.setattr(ensemble[-1], "decode", lambda *args: 1 / 0)
        generation.add([5, 6])
        with pytest.raises(ZeroDivisionError):
            generation.step()
    key = generation.add([7, 8, 9])
    assert generation.run()[key] == generate(ensemble, [[7, 8, 9]])[0]


def test_all_rows_of_an_ensemble_leave_after_an_error():
    class Rows:
        def __init__(self, error=None):
            self.error, self.left = error, 0

        def next(self, ids, parents):
            self.left += not ids
            if self.error:
                raise self.error
            return _core.Tensor.empty([0, 0])

    rows = [Rows(), Rows(KeyError("first")), Rows(), Rows(ValueError("second"))]
    with pytest.raises(KeyError, match="first"):
        _core.EnsembleSteps([_core.PythonSteps(each) for each in rows]).next([], [])
    assert [each.left for each in rows] == [1] * 4


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_a_text_that_leaves_no_room_is_an_error(positions):
    model = make_decoder(positions=positions, max_length=4)
    assert len(generate(model, [[1, 5, 6]])[0][0].token_logprobs) == 1
    assert generate(model, [[1, 5, 6, 7]], max_length=0)[0][0].ids == []
    with pytest.raises(
        ValueError,
        match="generate: a text to continue must have at most 3 tokens, one less than the config's max_length, got 4",
    ):
        generate(model, [[1, 5], [1, 5, 6, 7]])
    if positions == "learned":
        with pytest.raises(ValueError, match=r"at most 3 tokens, .*, got 5"):
            generate(model, [[1, 5, 6, 7, 8]], max_length=2)
    else:
        assert len(generate(model, [[1, 5, 6, 7, 8]], max_length=2)) == 1


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("how", [{"beam": 2}, {"temperature": 1.0, "count": 3}])
def test_a_prefix_like_hf_takes_no_steps(kind, how):
    make, sources = MODELS[kind]
    generation = Generation(make(1))
    options = SearchOptions(like="hf", prefix=[5, 2, 7], max_length=5, suppress=[2], **how)
    key = generation.add(sources[0], options)
    assert generation.stable(key) == [5, 2, 7]
    assert not generation.step() and generation.step() == [key]
    for h in generation.take(key):
        assert len(h.ids) == 5 and h.ids[:3] == [5, 2, 7] and h.token_logprobs[:3] == [0, 0, 0] != h.token_logprobs[3:]
    key = generation.add(sources[0], SearchOptions(like="hf", prefix=[5, 7], max_length=2, **how))
    assert generation.step() == [key] and generation.take(key)[0].ids == [5, 7]


@pytest.mark.parametrize("kind", [make_model, make_decoder])
def test_requests_see_the_model_as_it_is(kind):
    """Each time that no request is decoded; parts of the old weights beside the new ones would show."""
    model = kind(0)
    generation = Generation([model, kind(1)])
    for _ in range(3):
        key = generation.add([5, 6], SearchOptions(beam=2, max_length=7))
        assert generation.run()[key] == generate(generation.models, [[5, 6]], beam=2, max_length=7)[0]
        for parameter in model.parameters():
            parameter.copy_(parameter.numpy() * 1.5)


def test_keys_are_taken_once():
    generation = Generation(make_model())
    with pytest.raises(
        ValueError, match="Generation: take: key must be of a request that ended and was not taken, got 0"
    ):
        generation.take(0)
    assert generation.add([5], SearchOptions(max_length=0)) == 0
    assert generation.step() == [0] and generation.take(0)[0].ids == []
    for bad, message in ((3, "SearchOptions, got int"), (None, None)):
        if message:
            with pytest.raises(TypeError, match=f"Generation: options must be a {message}"):
                generation.add([5], bad)
    with pytest.raises(ValueError, match=r"Generation: src_batch\[0\]\[0\] must lie in"):
        generation.add([13])


def test_an_ensemble_averages_log_probabilities():
    models = [make_model(seed) for seed in (0, 1, 2)]
    for src, hypotheses in zip(SOURCES, generate(models, SOURCES, beam=3, max_length=6), strict=True):
        for h in hypotheses:
            ids = [*h.ids, 2] if h.length > len(h.ids) else h.ids
            logits = [model.logits([src], [[1, *ids[:-1]]]).astype(np.float64) for model in models]
            mean = log_softmax(np.mean([log_softmax(each) for each in logits], axis=0))
            np.testing.assert_allclose(h.token_logprobs, mean[np.arange(len(ids)), ids], atol=1e-5)
    assert generate([models[0]], SOURCES, beam=3) == generate(models[0], SOURCES, beam=3)
    same = generate([models[0]] * 2, SOURCES, beam=3)
    assert [[h.ids for h in found] for found in same] == [
        [h.ids for h in found] for found in generate(models[0], SOURCES, beam=3)
    ]


@pytest.mark.parametrize(
    ("models", "error", "message"),
    [
        (lambda: [], ValueError, "model must be a model or a list of at least one, got none"),
        (lambda: [make_model(), 3], TypeError, "model must be an EncoderDecoder or a TextDecoder, got int"),
        (lambda: [make_model(), make_decoder()], ValueError, r"model\[1\] must have the same kind as model\[0\], enc"),
        (lambda: [make_model(), make_model(vocab_size=14)], ValueError, "the same vocabulary size as .*, 13, got 14"),
        (lambda: [make_model(), make_model(eos_id=5)], ValueError, r"the same eos ids as .*, \(2,\), got \(5,\)"),
    ],
)  # fmt: skip
def test_models_that_are_no_ensemble(models, error, message):
    with pytest.raises(error, match=f"^generate: .*{message}"):
        generate(models(), [[5]])


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("like", ["dragoman", "fairseq", "marian", "hf"])
def test_scores_of_outputs_are_those_of_the_search(kind, like):
    make, sources = MODELS[kind]
    model = make(2)
    options = {"like": like, "length_penalty": 0.7}
    prefix = () if like == "hf" else (5, 7)  # whose log probability is 0 like hf
    found = generate(model, sources, beam=4, max_length=9, prefix=prefix, **options)
    pairs = [(source, h) for source, hypotheses in zip(sources, found, strict=True) for h in hypotheses]
    for ended in (True, False):
        chosen = [(source, h) for source, h in pairs if (h.length > len(h.ids)) == ended]
        scored = score(model, [s for s, _ in chosen], [h.ids for _, h in chosen], ended=ended, **options)
        for (_, h), again in zip(chosen, scored, strict=True):
            assert again.ids == h.ids and again.length == h.length
            assert again.score == pytest.approx(h.score, abs=1e-5)
            assert again.sum_logprob == pytest.approx(h.sum_logprob, abs=1e-5)
            np.testing.assert_allclose(again.token_logprobs, h.token_logprobs, atol=1e-5)


def test_scores_in_several_passes_and_of_ensembles(monkeypatch):
    models = [make_model(seed) for seed in (0, 1)]
    targets = [[5, 6], [], [7, 8, 9, 4], [4] * 3, [12]]
    whole = score(models, SOURCES, targets)
    monkeypatch.setattr("dragoman.generate.scoring._LOGITS", 13 * 4)
    for parts, one in zip(score(models, SOURCES, targets), whole, strict=True):
        np.testing.assert_allclose(parts.token_logprobs, one.token_logprobs, atol=1e-6)
    (empty,) = score(models[0], [[5]], [[]], ended=False)
    assert empty.score == 0 and empty.length == 0 and score(models[0], [], []) == []
    (best, *_), *_ = generate(models, SOURCES, beam=2, max_length=4)
    (again,) = score(models, SOURCES[:1], [best.ids], ended=best.length > len(best.ids))
    assert again.score == pytest.approx(best.score, abs=1e-5)


def test_bad_pairs_are_named():
    model = make_model()
    with pytest.raises(ValueError, match=r"score: tgt_batch\[0\]\[1\] must lie in \[0, 13\)"):
        score(model, [[5]], [[4, 13]])
    with pytest.raises(ValueError, match="score: tgt_batch must have 1 sentences"):
        score(model, [[5]], [])
    with pytest.raises(TypeError, match="score: ended must be a bool, got int"):
        score(model, [[5]], [[4]], ended=1)
    model.tgt_embedding.weight.copy_(np.full((13, 16), np.nan, np.float32))
    with pytest.raises(FloatingPointError, match="score: logits are not finite"):
        score(model, [[5]], [[4]])


def test_draws_have_the_distribution_that_min_p_leaves():
    model = make_decoder(4)
    row = model.logits([[1, 5]])[-1].astype(np.float64)
    row[[0, 1, 3]] = -np.inf
    probs = np.exp(row / 2.5)
    probs[probs < 0.3 * probs.max()] = 0
    probs /= probs.sum()
    assert 1 < (probs > 0).sum() < 8
    drawn = sample(model, [[1, 5]] * 4000, max_length=1, seed=7, temperature=2.5, min_p=0.3)
    counts = np.bincount([h.ids[0] if h.ids else 2 for h in drawn], minlength=13)
    assert not counts[probs == 0].any()
    np.testing.assert_allclose(counts / 4000, probs, atol=0.03)


def test_several_draws_of_a_request():
    """`count` draws are independent; what they are depends on the seed, the place and their number alone."""
    model = make_decoder(4)
    options = {"temperature": 1.3, "max_length": 5, "seed": 2**40 + 1}
    (many,) = generate(model, [[1, 5]], count=500, **options)
    assert len({tuple(h.ids) for h in many}) > 50
    (few,) = generate(model, [[1, 5]], count=20, **options)
    assert few == many[:20]
    generation = Generation(model)
    for place in (0, 0, 1, 2**33):
        generation.add([1, 5], SearchOptions(count=20, **options), place)
    generation.add([1, 5], SearchOptions(count=20, **options | {"seed": 1}))
    while len(ended := generation.step()) < 5:
        assert not ended
    first, same, other, far, seed = (generation.take(key) for key in range(5))
    assert first == same == few
    assert len({str(each) for each in (first, other, far, seed)}) == 4
    frequencies = np.bincount([h.ids[0] if h.ids else 2 for h in many], minlength=13) / 500
    row = model.logits([[1, 5]])[-1].astype(np.float64)
    row[[0, 1, 3]] = -np.inf
    probs = np.exp(row / 1.3) / np.exp(row / 1.3).sum()
    np.testing.assert_allclose(frequencies, probs, atol=0.08)


def test_sampled_tokens_obey_the_options():
    model = make_decoder(4)
    (found,) = generate(model, [[1, 5]], temperature=5.0, count=100, max_length=6, suppress=[4, 6], no_repeat_ngram=1,
                        min_length=3, prefix=[8])  # fmt: skip
    for h in found:
        assert h.ids[0] == 8 and len(h.ids) >= 3 and not {4, 6, 5} & set(h.ids) and len(set(h.ids)) == len(h.ids)
        (again,) = score(model, [[1, 5]], [h.ids], ended=h.length > len(h.ids), length_penalty=0.0)
        assert again.score == pytest.approx(h.score, abs=1e-5)
    with pytest.raises(
        ValueError, match="sample: count must be 1, got 2; generate\\(temperature=, count=\\) draws several"
    ):
        sample(model, [[1, 5]], count=2)


TRUNCATIONS = [
    {"top_k": 5},
    {"top_p": 0.7},
    {"min_p": 0.25},
    {"top_k": 6, "top_p": 0.8},
    {"top_k": 7, "top_p": 0.9, "min_p": 0.15},
    {"top_p": 0.95, "min_p": 0.1, "suppress": [5, 9]},
]


@pytest.mark.parametrize("options", TRUNCATIONS, ids=str)
def test_truncated_draws_against_the_formulas(options):
    """top_k, then top_p, then min_p, each on what is left (as transformers orders them)."""
    model = make_decoder(4)
    row = model.logits([[1, 5]])[-1].astype(np.float64) / 3
    row[[0, 1, 3, *options.get("suppress", ())]] = -np.inf
    probs = np.exp(row) / np.exp(row).sum()
    order = np.argsort(-probs, kind="stable")
    probs[order[options.get("top_k", 13) :]] = 0
    before = np.cumsum(probs[order]) - probs[order]
    probs[order[before >= options.get("top_p", 1.0) * probs.sum()]] = 0
    probs[probs < options.get("min_p", 0.0) * probs.max()] = 0
    probs /= probs.sum()
    (drawn,) = generate(model, [[1, 5]], max_length=1, seed=11, temperature=3.0, count=1000, **options)
    frequencies = np.bincount([h.ids[0] if h.ids else 2 for h in drawn], minlength=13) / 1000
    assert 1 < (probs > 0).sum() < 10 and not frequencies[probs == 0].any()
    np.testing.assert_allclose(frequencies, probs, atol=0.06)
