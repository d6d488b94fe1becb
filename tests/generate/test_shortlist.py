"""A shortlist of the vocabulary makes the last product smaller, where it alone is read; results stay."""

import dragoman as dg
import numpy as np
import pytest
from dragoman import _core
from dragoman.generate import Generation, SearchOptions, generate, recorded
from dragoman.generate.steps import EagerSteps, steps_of
from plain_search import SOURCES, make_decoder, make_model

SHORT = [2, 4, 6, 7, 12]
ENTRIES = [_core.Entry([4, 5, 6], [1]), _core.Entry([7], [1, 5])]
TEXTS = [_core.Entry([], [4, 5, 6]), _core.Entry([], [7])]


def wide(make, dtype=None, **fields):
    model = make(3, output_bias=True, **fields)
    model.output.bias.copy_(np.linspace(-1, 1, 13, dtype=np.float32))
    return model if dtype is None else model.freeze(dtype)


@pytest.mark.parametrize("dtype", [None, pytest.param("int8", marks=pytest.mark.cpu), "bfloat16", "float32"])
@pytest.mark.parametrize(("make", "entries"), [(make_model, ENTRIES), (make_decoder, TEXTS)])
def test_logits_of_a_shortlist_are_those_of_the_whole_model(make, entries, dtype):
    model = wide(make, dtype)
    whole, narrow = steps_of(model), steps_of(model)
    outside = sorted({*range(13)} - {*SHORT})
    for turn, tokens in enumerate(([], SHORT, SHORT, [], SHORT)):
        narrow.narrow(tokens)
        found = [s.next([4, 5], [0, 1]) if turn else s.add(entries) for s in (whole, narrow)]
        whole_logits, logits = (each.numpy() for each in found)
        if tokens:
            assert (logits[:, outside] == -np.inf).all()
        np.testing.assert_allclose(logits[:, SHORT], whole_logits[:, SHORT], rtol=0, atol=1e-6)


def test_calls_of_a_model_give_all_logits():
    model = wide(make_model)
    with model.inference():
        eager = _core.PythonSteps(EagerSteps(model))
        eager.narrow(SHORT)
        assert np.isfinite(eager.add(ENTRIES).numpy()).all()


REQUESTS = [
    SearchOptions(beam=3, max_length=6, allowed=SHORT, renormalize=True),
    SearchOptions(beam=3, max_length=6, allowed=SHORT, renormalize=True, like="fairseq", repetition_penalty=1.3),
    SearchOptions(beam=2, max_length=6, allowed=[*SHORT, 9], renormalize=True, like="hf", prefix=[8], forced_last=2),
    SearchOptions(max_length=6, allowed=SHORT, renormalize=True, temperature=1.5, count=3, suppress=[4]),
    SearchOptions(beam=3, max_length=6, allowed=SHORT, renormalize=True, prefix=[8]),
    SearchOptions(beam=3, max_length=6, allowed=SHORT, renormalize=True, like="hf", repetition_penalty=1.3),
    SearchOptions(beam=3, max_length=6, allowed=SHORT),
    SearchOptions(beam=3, max_length=6, coverage_penalty=0.3, allowed=SHORT, renormalize=True),
    SearchOptions(beam=3, max_length=6),
]


def test_results_are_those_of_whole_products(monkeypatch):
    """Alone and beside requests with another shortlist or none."""
    models = [wide(make_model), make_model(4)]
    with monkeypatch.context() as whole:
        whole.setattr(recorded, "can_narrow", lambda model: False)
        expected = [generate_one(models, options) for options in REQUESTS]
    alone = [generate_one(models, options) for options in REQUESTS]
    generation, together = Generation(models), {}
    for options in REQUESTS:
        generation.add(SOURCES[0], options)
        together |= {key: generation.take(key) for key in generation.step()}
    together |= generation.run()
    for i, wanted in enumerate(expected):
        for found in (alone[i], together[i]):
            assert [h.ids for h in found] == [h.ids for h in wanted]
            np.testing.assert_allclose([h.score for h in found], [h.score for h in wanted], rtol=0, atol=1e-5)


def generate_one(models, options):
    generation = Generation(models)
    key = generation.add(SOURCES[0], options)
    return generation.run()[key]


def test_only_requests_that_read_the_shortlist_alone_make_the_product_smaller(monkeypatch):
    made, narrowed = [], recorded.narrowed
    monkeypatch.setattr(recorded, "narrowed", lambda model, tokens: made.append(tokens) or narrowed(model, tokens))
    for i, options in enumerate(REQUESTS):
        made.clear()
        generate_one([make_model()], options)
        assert made == ([(*SHORT[:4], 9, 12) if i == 2 else (*SHORT,)] if i in (0, 1, 2, 3, 7) else []), options


def test_a_model_keeps_few_shortlists():
    model = make_model()
    for token in (4, 5, 6, 7, 8, 9, 10, 11, 12, 4):
        generate(model, [[5]], allowed=[token], renormalize=True, max_length=2)
    kinds = list(recorded._kept[model][1])
    assert len(kinds) == 1 + recorded.MOST_SHORTLISTS + 1 and recorded.PLAIN in kinds and kinds[-1][1] == (2, 4)


def test_a_model_of_a_users_own_is_left_whole():
    class Louder(dg.Transformer):
        def project(self, hidden, sequences=None):
            return super().project(hidden, sequences) * 2.0

    dg.manual_seed(0)
    sizes = {"vocab_size": 13, "d_model": 16, "num_heads": 2, "d_ff": 24, "num_encoder_layers": 1}
    model = Louder(dg.TransformerConfig(**sizes, num_decoder_layers=1))
    steps = steps_of(model)
    steps.narrow(SHORT)
    assert np.isfinite(steps.add(ENTRIES).numpy()).all()
