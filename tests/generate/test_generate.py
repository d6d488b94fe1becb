"""Greedy and beam search against a brute-force search over uncached logits, and the cache they run on."""

import dragoman as dg
import numpy as np
import pytest
from dragoman import _core
from dragoman.generate import Hypothesis, KVCache, generate, sample, top_k

SOURCES = [[5, 6, 7], [8], [9, 10, 11, 4, 5, 6], [], [4, 4]]


def make_model(seed=0, **overrides):
    dg.manual_seed(seed)
    sizes = {"vocab_size": 13, "d_model": 16, "num_heads": 2, "d_ff": 24}
    depths = {"num_encoder_layers": 1, "num_decoder_layers": 2}
    model = dg.Transformer(dg.TransformerConfig(**(sizes | depths | overrides)))
    # Larger weights give uneven distributions: the order of beams changes, and sentences end at different lengths.
    model.load_state_dict({k: v * (1 if "norm" in k else 2) for k, v in model.state_dict().items()})
    return model


def log_probs(model, src, prefixes, start):
    """Log probabilities of the token after start + ids, for prefixes of one length, by the uncached model."""
    logits = model.logits([src] * len(prefixes), [[*start, *ids] for ids in prefixes])
    last = logits.reshape(len(prefixes), -1, 13)[:, -1].astype(np.float64)
    return last - np.log(np.exp(last).sum(1, keepdims=True))


def brute_force(model, src, beam, limit, alpha, start=(1,), ends=(2,), never=(0, 1, 3)):
    """Beam search for one sentence, with a full pass of the model for each hypothesis."""
    live, finished = [((), 0.0)], []

    def score(total, length):
        return total / ((5 + length) / 6) ** alpha

    for _ in range(limit):
        extensions = []
        probs = log_probs(model, src, [ids for ids, _ in live], start)
        for (ids, total), row in zip(live, probs, strict=True):
            extensions += [((*ids, token), total + row[token]) for token in range(13) if token not in never]
        extensions.sort(key=lambda extension: -extension[1])
        ended = [e for e in extensions[:beam] if e[0][-1] in ends]
        finished += [(ids[:-1], score(total, len(ids))) for ids, total in ended]
        live = [e for e in extensions if e[0][-1] not in ends][:beam]
        finished = sorted(finished, key=lambda h: -h[1])[:beam]
        if len(finished) == beam and (not live or score(live[0][1], len(live[0][0])) <= finished[-1][1]):
            live = []
            break
    cut = [(ids, score(total, limit)) for ids, total in live]
    return (finished + sorted(cut, key=lambda h: -h[1]))[:beam]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("beam", "alpha", "max_length"), [(1, 0.6, None), (2, 0.0, 6), (3, 1.0, None), (5, 0.6, 9)])
def test_search_against_brute_force(seed, beam, alpha, max_length):
    model = make_model(seed)
    results = generate(model, SOURCES, beam=beam, max_length=max_length, length_penalty=alpha)
    for src, hypotheses in zip(SOURCES, results, strict=True):
        limit = 2 * len(src) + 10 if max_length is None else max_length
        expected = brute_force(model, src, beam, limit, alpha)
        assert [tuple(h.ids) for h in hypotheses] == [ids for ids, _ in expected]
        np.testing.assert_allclose([h.score for h in hypotheses], [score for _, score in expected], atol=1e-5)


SPECIAL = {  # fields of the config; what begins, what ends and what is never in an output
    "start = pad": ({"start_id": 0}, (0,), (2,), (0, 1, 3)),
    "start = eos, forced": ({"start_id": [2, 1]}, (2, 1), (2,), (0, 1, 3)),
    "several forced": ({"start_id": [1, 7, 4, 9]}, (1, 7, 4, 9), (2,), (0, 1, 3)),
    "several eos": ({"eos_id": [2, 5, 8]}, (1,), (2, 5, 8), (0, 1, 3)),
    "bos = eos": ({"bos_id": 2, "pad_id": 2, "unk_id": 2}, (2,), (2,), ()),
    "no pad": ({"pad_id": None}, (1,), (2,), (1, 3)),
    "eos alone": ({"pad_id": None, "bos_id": None, "unk_id": None, "start_id": 2}, (2,), (2,), ()),
}


@pytest.mark.parametrize(("fields", "start", "ends", "never"), SPECIAL.values(), ids=SPECIAL)
def test_special_ids_against_brute_force(fields, start, ends, never):
    model = make_model(2, **fields)
    for beam in (1, 3):
        results = generate(model, SOURCES, beam=beam, max_length=7)
        for src, hypotheses in zip(SOURCES, results, strict=True):
            expected = brute_force(model, src, beam, 7, 0.6, start, ends, never)
            assert [tuple(h.ids) for h in hypotheses] == [ids for ids, _ in expected]
            np.testing.assert_allclose([h.score for h in hypotheses], [score for _, score in expected], atol=1e-5)
    cold = sample(model, SOURCES, max_length=7, temperature=1e-6)
    assert [h.ids for h in cold] == [best[0].ids for best in generate(model, SOURCES, max_length=7)]


def test_forced_tokens_take_places_of_learned_positions():
    model = make_model(positions="learned", max_length=8, start_id=[1, 7, 4])
    assert all(len(h.ids) <= 6 for (h,) in generate(model, SOURCES))
    with pytest.raises(ValueError, match="generate: max_length must be at most 6, the model's last position, got 7"):
        generate(model, SOURCES, max_length=7)
    sides = {"encoder": {"max_length": 6}, "decoder": {"max_length": 20}}
    model = make_model(positions="learned", max_length=8, **sides)
    assert len(generate(model, [[4] * 6], max_length=20)) == 1


def test_searches_end_in_both_ways():
    """The comparison above needs sentences that end at different steps, and some that are cut."""
    lengths = {
        len(hypothesis.ids)
        for seed in (0, 1, 2)
        for hypotheses in generate(make_model(seed), SOURCES, beam=3)
        for hypothesis in hypotheses
    }
    assert len(lengths) > 3


@pytest.mark.parametrize("beam", [1, 4])
def test_a_sentence_does_not_notice_its_batch(beam):
    model = make_model(1)
    together = generate(model, SOURCES, beam=beam)
    assert together == [generate(model, [src], beam=beam)[0] for src in SOURCES]
    assert together == generate(model, SOURCES[::-1], beam=beam)[::-1]


@pytest.mark.parametrize("overrides", [{"norm_first": True}, {"positions": "learned", "max_length": 80}])
def test_cached_steps_are_the_whole_pass(overrides):
    """A prefix in one call, then single tokens beyond the first slots: the same hidden states as without a cache."""
    model = make_model(**overrides).eval()
    src, tgt = _core.Sequences([3, 2]), _core.Sequences([70, 70])
    rng = np.random.default_rng(0)
    ids = rng.integers(4, 13, (2, 70)).astype(np.int32)
    with dg.no_grad():
        memory = model.encode(np.array([5, 6, 7, 8, 9], np.int32), src)
        whole = model.decode(ids.reshape(-1), tgt, memory, src).numpy().reshape(2, 70, -1)
        cache = KVCache(2)
        prefix = model.decode(ids[:, :5].reshape(-1), _core.Sequences([5, 5]), memory, src, cache).numpy()
        np.testing.assert_allclose(prefix.reshape(2, 5, -1), whole[:, :5], atol=1e-5)
        for t in range(5, 70):
            step = model.decode(ids[:, t], _core.Sequences([1, 1]), memory, src, cache).numpy()
            np.testing.assert_allclose(step, whole[:, t], atol=1e-5)
    assert cache.lengths == [70, 70]
    np.testing.assert_array_equal(cache.starts(), [70, 70])


def test_cache_reorders_hypotheses_and_shares_the_memory():
    model = make_model().eval()
    src = _core.Sequences([3, 2])
    with dg.no_grad():
        memory = model.encode(np.array([5, 6, 7, 8, 9], np.int32), src)
        cache = KVCache(2)
        model.decode([1, 1, 4], _core.Sequences([1, 2]), memory, src, cache)
        cache.reorder([1, 0, 1])
        assert cache.lengths == [2, 1, 2]
        read = src.select([1, 0, 1])
        step = model.decode([7, 8, 9], _core.Sequences([1, 1, 1]), memory, read, cache).numpy()
    sources = [[8, 9], [5, 6, 7], [8, 9]]
    for row, source, target in zip(step, sources, [[1, 4, 7], [1, 8], [1, 4, 9]], strict=True):
        expected = model.logits([source], [target])[-1]
        np.testing.assert_allclose(model.project(dg.tensor(row[None])).numpy()[0], expected, atol=1e-5)


def test_cache_wants_as_many_sequences_as_it_has():
    with pytest.raises(ValueError, match="KVCache: new must have 2 sequences, got 3"):
        KVCache(2).extend(_core.Sequences([1, 1, 1]))


def test_search_leaves_the_mode_and_ignores_dropout():
    model = make_model(dropout=0.5, embedding_dropout=0.5)
    assert model.training
    assert generate(model, SOURCES, beam=2) == generate(model, SOURCES, beam=2)
    assert model.training


def test_edges_of_batches_and_lengths():
    model = make_model()
    assert generate(model, []) == []
    assert generate(model, [[5, 6]], max_length=0) == [[Hypothesis([], 0.0)]]
    assert len(generate(model, [[]])[0]) == 1
    assert all(len(h.ids) <= 1 for h in generate(model, SOURCES[:1], beam=4, max_length=1)[0])
    short = make_model(max_length=5)
    assert all(len(h.ids) <= 5 for hypotheses in generate(short, SOURCES, beam=3) for h in hypotheses)


def test_special_ids_are_never_chosen():
    model = make_model(tie_embeddings="none", output_bias=True)
    bias = np.zeros(13, np.float32)
    bias[[0, 1, 3]] = 100
    model.output.bias.copy_(bias)
    for hypotheses in generate(model, SOURCES, beam=3):
        assert all(not {0, 1, 2, 3} & set(h.ids) for h in hypotheses)


def test_ties_go_to_the_lower_id():
    model = make_model(tie_embeddings="none", output_bias=True)
    model.output.weight.copy_(np.zeros((13, 16), np.float32))
    bias = np.zeros(13, np.float32)
    bias[[6, 8, 11]] = 5
    model.output.bias.copy_(bias)
    results = generate(model, [[5]], beam=3, max_length=2)[0]
    assert [h.ids for h in results] == [[6, 6], [6, 8], [6, 11]]


def test_a_beam_wider_than_the_vocabulary():
    model = make_model()
    results = generate(model, [[5, 6]], beam=40, max_length=3)[0]
    assert 0 < len(results) <= 40
    assert len({tuple(h.ids) for h in results}) == len(results)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beam": 0}, "beam must be at least 1, got 0"),
        ({"max_length": -1}, "max_length must be at least 0, got -1"),
        ({"length_penalty": -0.5}, "length_penalty must be at least 0, got -0.5"),
        ({"beam": 1001}, "beam must be at most 1000, got 1001"),
        ({"length_penalty": 10.5}, "length_penalty must be at most 10, got 10.5"),
        ({"length_penalty": float("nan")}, "length_penalty must be finite in float32, got nan"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=f"generate: {message}"):
        generate(make_model(), [[5]], **arguments)


def test_bad_sources_are_named():
    with pytest.raises(ValueError, match=r"generate: src_batch\[0\]\[1\] must lie in \[0, 13\)"):
        generate(make_model(), [[5, 13]])
    with pytest.raises(ValueError, match="max_length must be at most 8, the model's last position, got 9"):
        generate(make_model(positions="learned", max_length=8), [[5]], max_length=9)


@pytest.mark.parametrize("columns", [1, 63, 64, 65, 128, 1000])
@pytest.mark.parametrize("k", [1, 3, 70])
def test_top_k_against_a_full_sort(rng, columns, k):
    values = rng.integers(0, 50, (7, columns)).astype(np.float32)  # many ties
    values[0] = -np.inf
    expected = np.argsort(-values, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(top_k(values, k), expected)
    assert top_k(values[:0], k).shape == (0, min(k, columns))


@pytest.mark.parametrize("columns", [5, 64, 200])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_top_k_refuses_what_is_not_finite(rng, columns, value):
    for place in (0, columns // 2, columns - 1):
        values = rng.standard_normal((3, columns)).astype(np.float32)
        values[1, place] = value
        with pytest.raises(FloatingPointError, match=r"^top_k: values are not finite$"):
            top_k(values, 3)


@pytest.mark.parametrize("parameter", ["src_embedding", "output", "decoder.layers.1.feed_forward", "encoder"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e38])
def test_weights_that_are_not_finite_are_one_error(parameter, value):
    model = make_model(tie_embeddings="none")
    state = model.state_dict()
    for name in state:
        if name.startswith(parameter):
            state[name][...] = value
    model.load_state_dict(state)
    if value == 1e38 and np.isfinite(model.logits([[5, 6]], [[1]])).all():
        assert generate(model, [[5, 6]], beam=2, max_length=3)
        return
    for beam in (1, 4):
        with pytest.raises(FloatingPointError, match=r"^generate: logits are not finite$"):
            generate(model, SOURCES, beam=beam)
    assert model.training


def test_infinitely_bad_tokens_are_never_chosen():
    """A bias of -inf forbids a token; all but one may be forbidden, and not all."""
    model = make_model(tie_embeddings="none", output_bias=True)
    bias = np.full(13, -np.inf, np.float32)
    bias[[6, 3]] = 0
    model.output.bias.copy_(bias)
    assert [h.ids for h in generate(model, [[5]], beam=3, max_length=4)[0]] == [[6, 6, 6, 6]]
    bias[6] = -np.inf
    for last in (0, -np.inf):
        bias[3] = last
        model.output.bias.copy_(bias)
        with pytest.raises(FloatingPointError, match="logits are not finite"):
            generate(model, [[5]], beam=2)
