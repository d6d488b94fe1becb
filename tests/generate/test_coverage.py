"""coverage_penalty against a plain search, whose attention comes from the uncached model."""

from functools import partial

import numpy as np
import plain_search
import pytest
from dragoman import _core
from dragoman.generate import Generation, SearchOptions, generate
from dragoman.generate.steps import EagerSteps, steps_of
from plain_search import SOURCES, make_decoder, make_model, rows_of

BETA = 0.4


def attention_after(model, source, ids):
    """The mean of the heads of the last layer but one when the token after `ids` is chosen, (source,)."""
    return model.attention_weights(source, [1, *ids])["cross"][-2][:, -1].mean(axis=0)


def penalty_of(model, source, ids, length):
    """Of an output of `length` tokens with the end (Wu et al. 2016, equation 14)."""
    if not source:
        return 0.0
    covered = np.sum([attention_after(model, source, ids[:i]) for i in range(length)], axis=0)
    return BETA * np.log(np.clip(covered, 1e-6, 1.0)).sum()


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("beam", [1, 3])
def test_scores_have_the_penalty(seed, beam):
    model = make_model(seed)
    options = {"beam": beam, "max_length": 7, "length_penalty": 0.6, "coverage_penalty": BETA}
    for src, hypotheses in zip(SOURCES, generate(model, SOURCES, **options), strict=True):
        expected = plain_search.dragoman(rows_of(model, src), beam, 7, 0.6, extra=partial(penalty_of, model, src))
        assert [tuple(h.ids) for h in hypotheses] == [ids for ids, _ in expected]
        np.testing.assert_allclose([h.score for h in hypotheses], [score for _, score in expected], atol=2e-5)


def test_the_penalty_makes_a_difference():
    model, options = make_model(0), {"beam": 3, "max_length": 4}
    found = [generate(model, SOURCES, coverage_penalty=beta, **options) for beta in (0.0, BETA)]
    without, penalised = ([[h.ids for h in hypotheses] for hypotheses in results] for results in found)
    assert without != penalised


@pytest.mark.parametrize("models", [1, 2])
def test_requests_with_and_without_it_have_their_own_results(models):
    ensemble = [make_model(seed) for seed in range(models)]
    requests = [SearchOptions(beam=3, max_length=8, coverage_penalty=beta) for beta in (0.0, 0.5, 0.0, 1.0)]
    generation, found, expected = Generation(ensemble), {}, {}
    for turn in range(60):
        if turn < 8:
            source, options = SOURCES[turn % len(SOURCES)], requests[turn % 4]
            key = generation.add(source, options)
            alone = Generation(ensemble)
            alone.add(source, options)
            expected[key] = alone.run()[0]
        found |= {key: generation.take(key) for key in generation.step()}
    assert found.keys() == expected.keys()
    for key, hypotheses in found.items():
        assert [h.ids for h in hypotheses] == [h.ids for h in expected[key]]
        np.testing.assert_allclose([h.score for h in hypotheses], [h.score for h in expected[key]], atol=1e-5)


def test_recorded_steps_and_calls_of_the_model_look_alike():
    model = make_model(3)
    entries = [_core.Entry([4, 5, 6], [1, 7, 8]), _core.Entry([], [1]), _core.Entry([7], [1])]
    with model.inference():
        native, eager = steps_of(model), _core.PythonSteps(EagerSteps(model))
        assert isinstance(native, _core.ReplayedSteps)
        for steps in (native, eager):
            steps.keep_attention(True)
            steps.add(entries)
            first = steps.attention()
            steps.next([4, 7, 5, 6], [0, 1, 2, 2])
            second = steps.attention()
            steps.keep_attention(False)
            steps.next([8], [0])
            steps.keep_attention(True)
            steps.next([9], [0])
            expected = [([4, 5, 6], [7, 8]), ([], []), ([7], [])]
            expected += [([4, 5, 6], [7, 8, 4]), ([], [7]), ([7], [5]), ([7], [6]), ([4, 5, 6], [7, 8, 4, 8, 9])]
            for row, (source, ids) in zip([*first, *second, *steps.attention()], expected, strict=True):
                wanted = attention_after(model, source, ids) if source else []
                np.testing.assert_allclose(row, wanted, rtol=0, atol=1e-6)


def test_a_decoder_has_no_source_to_cover():
    with pytest.raises(TypeError, match="generate: coverage_penalty: model must be a Transformer, got TextDecoder"):
        generate(make_decoder(), [[1, 5]], coverage_penalty=0.2)
