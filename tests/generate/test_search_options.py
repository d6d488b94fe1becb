"""Each option of a search against a plain search in Python, whose probabilities come from the uncached model."""

from dataclasses import replace
from functools import partial

import numpy as np
import plain_search
import pytest
from dragoman.generate import Generation, SearchOptions, generate, score
from plain_search import SOURCES, log_softmax, make_decoder, make_model, rows_of


def assert_same(hypotheses, expected):
    assert [tuple(h.ids) for h in hypotheses] == [ids for ids, _ in expected]
    np.testing.assert_allclose([h.score for h in hypotheses], [score for _, score in expected], atol=1e-5)
    for h in hypotheses:
        assert h.length == len(h.token_logprobs) and h.length - len(h.ids) in (0, 1)
        assert h.sum_logprob == pytest.approx(sum(h.token_logprobs))


RULES = {
    "dragoman": plain_search.dragoman,
    "fairseq": plain_search.fairseq,
    "marian": plain_search.marian,
    "hf": plain_search.hf,
}


def rows_like(like, model, src, *changes, **options):
    """The rows of a search, where pad, bos and unk are chosen like "hf" alone."""
    return rows_of(model, src, *changes, never=() if like == "hf" else plain_search.NEVER, **options)


@pytest.mark.parametrize("like", RULES)
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("beam", "alpha", "limit"), [(1, 1.0, 7), (2, 0.0, 6), (3, None, 1), (5, 0.6, 9), (20, 2, 3)])
def test_rules_against_their_sources(like, seed, beam, alpha, limit):
    model = make_model(seed)
    results = generate(model, SOURCES, beam=beam, max_length=limit, length_penalty=alpha, like=like)
    alpha = {"dragoman": 0.6}.get(like, 1.0) if alpha is None else alpha
    for src, hypotheses in zip(SOURCES, results, strict=True):
        assert_same(hypotheses, RULES[like](rows_like(like, model, src), beam, limit, alpha))


def test_rules_differ():
    """The test above needs searches that end in different ways."""
    found = [
        str([generate(make_model(seed), SOURCES, beam=5, like=like, length_penalty=1.0) for seed in (0, 1, 2)])
        for like in ("dragoman", "fairseq", "marian", "hf")
    ]
    assert len(set(found)) == 4


def repeated(n, start, ids):
    """Tokens that would end an n-gram that start + ids holds."""
    seen = [*start, *ids]
    last = seen[len(seen) - n + 1 :]
    return [seen[i + n - 1] for i in range(len(seen) - n + 1) if seen[i : i + n - 1] == last]


def penalise(penalty, start, ids, row):
    for token in {*start, *ids}:
        row[token] = row[token] / penalty if row[token] > 0 else row[token] * penalty


BAD = ((5, 6), (1, 8), (4, 4, 9), (10, 2))  # 1 is what the decoder begins with
OPTIONS = {
    "min_length": ({"min_length": 3}, {"forbid": lambda ids: (2,) if len(ids) < 3 else ()}),
    "suppress": ({"suppress": [5, 9, 9]}, {"forbid": lambda ids: (5, 9)}),
    "suppress eos": ({"suppress": [2]}, {"forbid": lambda ids: (2,)}),
    "allowed": ({"allowed": [4, 6, 12, 0]}, {"forbid": lambda ids: sorted(set(range(13)) - {2, 4, 6, 12})}),
    "unigrams": ({"no_repeat_ngram": 1}, {"forbid": partial(repeated, 1, [1])}),
    "begin_suppress": ({"begin_suppress": [2, 5, 6]}, {"forbid": lambda ids: () if ids else (2, 5, 6)}),
    "bad words": (
        {"bad_words": [[7], [5, 6], [1, 8], [4, 4, 9], [10, 2]]},
        {"forbid": lambda ids: [7, *(w[-1] for w in BAD if (1, *ids)[-len(w) + 1 :] == w[:-1])]},
    ),
    "bigrams": ({"no_repeat_ngram": 2}, {"forbid": partial(repeated, 2, [1])}),
    "penalty": ({"repetition_penalty": 1.7}, {"change": partial(penalise, 1.7, [1])}),
    "reward": ({"repetition_penalty": 0.5}, {"change": partial(penalise, 0.5, [1])}),
    "prefix": (
        {"prefix": [6, 2, 3, 11]},
        {"forbid": lambda ids: () if len(ids) >= 4 else sorted(set(range(13)) - {[6, 2, 3, 11][len(ids)]})},
    ),
    "all": (
        {"suppress": [8], "no_repeat_ngram": 2, "repetition_penalty": 1.3, "min_length": 2},
        {
            "forbid": lambda ids: [8, *repeated(2, [1], ids), *((2,) if len(ids) < 2 else ())],
            "change": partial(penalise, 1.3, [1]),
        },
    ),
}


@pytest.mark.parametrize("renormalize", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "prefix"])
def test_options_against_a_plain_search(name, seed, beam, renormalize):
    model = make_model(seed)
    options, changes = OPTIONS[name]
    options = options | {"renormalize": renormalize}
    results = generate(model, SOURCES, beam=beam, max_length=8, **options)
    for src, hypotheses in zip(SOURCES, results, strict=True):
        rows = rows_of(model, src, **changes, renormalize=renormalize)
        assert_same(hypotheses, plain_search.dragoman(rows, beam, 8, 0.6))
        (alone,) = generate(model, [src], beam=beam, max_length=8, **options)
        assert alone == hypotheses


@pytest.mark.parametrize("like", ["dragoman", "fairseq", "marian"])
@pytest.mark.parametrize("beam", [1, 4])
def test_a_decoder_goes_on_with_options(like, beam):
    """What is repeated counts from the text that is gone on from."""
    model = make_decoder(3)
    options = {"no_repeat_ngram": 2, "repetition_penalty": 1.4, "suppress": [8], "min_length": 2}
    prompts = [[1, 5, 6, 5], [1], [1, 9, 9, 9, 4]]
    found = generate(model, prompts, beam=beam, max_length=6, length_penalty=0.5, like=like, **options)
    for prompt, hypotheses in zip(prompts, found, strict=True):

        def forbid(ids, prompt=prompt):
            return [8, *repeated(2, prompt, ids), *((2,) if len(ids) < 2 else ())]

        rows = rows_of(model, prompt, forbid, partial(penalise, 1.4, prompt))
        more = {"min_length": 2} if like == "fairseq" else {}
        assert_same(hypotheses, RULES[like](rows, beam, 6, 0.5, **more))


@pytest.mark.parametrize("beam", [1, 3])
def test_a_prefix_begins_every_output_and_counts(beam):
    """Its tokens may be eos and those that are never chosen."""
    model = make_model(1)
    prefix = [6, 2, 3, 11]
    for src, hypotheses in zip(SOURCES, generate(model, SOURCES, beam=beam, max_length=8, prefix=prefix), strict=True):
        rows = rows_of(model, src)
        log_probs = log_softmax(np.stack([model.logits([src], [[1, *prefix[:i]]])[-1] for i in range(4)]))
        begun = [float(row[id]) for row, id in zip(log_probs.astype(np.float64), prefix, strict=True)]
        for h in hypotheses:
            assert h.ids[:4] == prefix
            np.testing.assert_allclose(h.token_logprobs[:4], begun, atol=1e-5)
            np.testing.assert_allclose(
                h.token_logprobs[4], rows([prefix])[0][h.ids[4] if len(h.ids) > 4 else 2], atol=1e-5
            )
        assert hypotheses[0].score == pytest.approx(hypotheses[0].sum_logprob / ((5 + hypotheses[0].length) / 6) ** 0.6)


@pytest.mark.parametrize("options", [{"suppress": [5]}, {"allowed": [7, 8]}, {"no_repeat_ngram": 1}], ids=str)
@pytest.mark.parametrize(
    "how", [{"beam": 3}, {"temperature": 1.0, "seed": 3}, {"temperature": 1.0, "top_k": 2}], ids=str
)
def test_no_option_forbids_a_prefix(how, options):
    model = make_model(1)
    prefix = [6, 5, 5]
    for src, hypotheses in zip(
        SOURCES, generate(model, SOURCES, max_length=6, prefix=prefix, **how, **options), strict=True
    ):
        for h in hypotheses:
            assert h.ids[:3] == prefix and not {*h.ids[3:]} & {*options.get("suppress", ())}
            (again,) = score(model, [src], [h.ids], ended=h.length > len(h.ids))
            np.testing.assert_allclose(h.token_logprobs, again.token_logprobs, atol=1e-5)


def contains(ids, phrase):
    return any(tuple(ids[i : i + len(phrase)]) == tuple(phrase) for i in range(len(ids)))


PHRASES = [[[6]], [[7, 8]], [[6], [9]], [[4, 4, 5]], [[5, 6], [6, 5]], [[5, 5, 6], [5, 5, 7]]]


@pytest.mark.parametrize("phrases", PHRASES, ids=str)
def test_constraints_are_in_every_output(phrases):
    model = make_model(2)
    for beam in (1, 2, 5):
        for hypotheses in generate(model, SOURCES, beam=beam, max_length=12, constraints=phrases):
            assert 0 < len(hypotheses) <= beam
            assert all(contains(h.ids, phrase) for h in hypotheses for phrase in phrases)


@pytest.mark.parametrize("phrases", [[[6]], [[7, 8]], [[9], [4]], [[5, 5]]], ids=str)
def test_a_wide_search_finds_the_best_output_with_the_constraints(phrases):
    model = make_model(3)
    for src in SOURCES[:2]:
        ids, total = plain_search.most_probable(
            rows_of(model, src), 3, lambda ids: all(contains(ids, phrase) for phrase in phrases)
        )
        found = generate(model, [src], beam=1000, max_length=3, length_penalty=0.0, constraints=phrases)[0]
        best = max(found, key=lambda h: h.score)  # those that are cut come after finished ones
        assert tuple(best.ids) == ids and best.score == pytest.approx(total, abs=1e-5)


@pytest.mark.parametrize("phrases", [[[5], [5, 6]], [[5, 6], [5, 6]], [[0, 1]], [[3], [1, 5]]], ids=str)
@pytest.mark.parametrize("beam", [1, 4, 13])
def test_constraints_share_tokens_and_hold_those_that_are_never_chosen(phrases, beam):
    """Each output comes once, whatever tokens the phrases and the most probable extensions share."""
    for hypotheses in generate(make_model(0), SOURCES, beam=beam, max_length=6, constraints=phrases):
        ids = [tuple(h.ids) for h in hypotheses]
        assert len(set(ids)) == len(ids) > 0
        assert all(contains(output, phrase) for output in ids for phrase in phrases)


def test_constraints_do_not_notice_a_wider_search_beside_them():
    """Of more candidates, some that go on in a phrase would take places of the beam."""
    model = make_model(9)
    options = {"beam": 6, "max_length": 8, "constraints": [[5, 6, 5], [5, 5, 5], [5, 5, 4]]}
    generation = Generation(model)
    keys = [generation.add(src, SearchOptions(**options)) for src in SOURCES]
    generation.add([4, 5], SearchOptions(beam=30, max_length=8))
    found = generation.run()
    assert [found[key] for key in keys] == generate(model, SOURCES, **options)


def test_constraints_that_do_not_fit():
    message = "generate: constraints: no output of at most 2 tokens with all of them was found"
    with pytest.raises(ValueError, match=message):
        generate(make_model(), [[5]], beam=3, max_length=2, constraints=[[5, 6, 7]])


@pytest.mark.parametrize("like", RULES)
def test_edges_of_lengths_and_beams(like):
    model = make_model()
    assert [h.ids for h in generate(model, [[5, 6]], max_length=0, like=like)[0]] == [[]]
    assert all(len(h.ids) <= 1 for h in generate(model, SOURCES[:1], beam=4, max_length=1, like=like)[0])
    results = generate(model, [[5, 6]], beam=40, max_length=3, like=like)[0]
    assert len({tuple(h.ids) for h in results}) == len(results) <= 40
    assert (
        generate(model, [[5, 6]], beam=5, count=2, like=like)[0] == generate(model, [[5, 6]], beam=5, like=like)[0][:2]
    )


EARLY = {"beam": 3, "max_length": 8, "like": "hf"}


@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize("eos", [2, (2, 5, 9)])
def test_hf_stops_early_or_never(early_stopping, eos):
    for seed in (0, 1, 2, 5):
        model = make_model(seed, eos_id=eos)
        ends = (2, 5, 9) if isinstance(eos, tuple) else (2,)
        results = generate(model, SOURCES, early_stopping=early_stopping, **EARLY)
        for src, hypotheses in zip(SOURCES, results, strict=True):
            rows = rows_like("hf", model, src)
            assert_same(hypotheses, plain_search.hf(rows, 3, 8, 1.0, ends, early_stopping))
            (greedy, *_), *_ = generate(model, [src], early_stopping=early_stopping, max_length=8, like="hf")
            assert [greedy] == generate(model, [src], max_length=8, like="hf")[0]


def test_early_stopping_makes_a_difference():
    found = [
        str([generate(make_model(seed), SOURCES, early_stopping=early, **EARLY) for seed in range(4)])
        for early in (False, True, "never")
    ]
    assert len(set(found)) == 3


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize("last", [2, 7])
def test_forced_tokens_like_hf_have_the_log_probability_0(beam, last):
    """As transformers' forced_bos_token_id and forced_eos_token_id."""
    model, forced = make_model(2), [0.0, *[None] * 4, 0.0]

    def force(ids):
        only = 6 if not ids else last if len(ids) == 5 else None
        return () if only is None else sorted(set(range(13)) - {only})

    options = {"beam": beam, "max_length": 6, "like": "hf", "prefix": [6], "forced_last": last, "min_length": 5}
    for src, hypotheses in zip(SOURCES, generate(model, SOURCES, **options), strict=True):
        rows = rows_like("hf", model, src, lambda ids: [*force(ids), *((2,) if 0 < len(ids) < 5 else ())])

        def certain(prefixes, rows=rows):
            found = np.array(rows(prefixes))
            found[(np.isfinite(found).sum(1) == 1)[:, None] & np.isfinite(found)] = 0
            return found

        assert_same(hypotheses, plain_search.hf(certain, beam, 6, 1.0))
        for h in hypotheses:
            assert h.length == 6 and h.ids[0] == 6 and (last == 2 or h.ids[-1] == last)
            assert [h.token_logprobs[i] for i, value in enumerate(forced) if value == 0] == [0, 0]


def test_forced_tokens_of_draws_like_hf():
    options = {"temperature": 1.0, "count": 30, "max_length": 4, "like": "hf", "prefix": [6, 2], "forced_last": 2}
    for extra in ({}, {"top_k": 3}):
        (found,) = generate(make_model(2), [[5, 6]], seed=4, **options, **extra)
        assert len({len(h.ids) for h in found}) == 2 and all(h.ids[:2] == [6, 2] for h in found)
        for h in found:
            assert h.token_logprobs[:2] == [0, 0] and (h.length < 4 or h.token_logprobs[3] == 0)
            assert h.sum_logprob == sum(h.token_logprobs)


def test_hf_may_choose_pad_bos_and_unk():
    model = make_model(tie_embeddings="none", output_bias=True)
    bias = np.zeros(13, np.float32)
    bias[[0, 1, 3]] = 100, 90, 80
    model.output.bias.copy_(bias)
    (found,) = generate(model, [[5]], like="hf", beam=3, max_length=2)
    assert [h.ids for h in found] == [[0, 0], [0, 1], [1, 0]]
    for options in ({"temperature": 1.0}, {"temperature": 1.0, "top_k": 3}):
        assert generate(model, [[5]], like="hf", max_length=2, suppress=[0], **options)[0][0].ids == [1, 1]


@pytest.mark.parametrize("renormalize", [False, True])
def test_no_token_is_left(renormalize):
    model = make_model()
    with pytest.raises(ValueError, match="generate: suppress must leave at least one token that may be chosen"):
        generate(model, [[5]], suppress=range(2, 13))
    for options in ({"beam": 2}, {"temperature": 1.0}):
        with pytest.raises(ValueError, match="generate: the options leave no token that may be chosen"):
            generate(model, [[5]], allowed=[7], suppress=[7, 2], renormalize=renormalize, **options)


def test_a_row_without_tokens_leaves_the_others():
    """One hypothesis of the beam can go on with no token, another one can."""
    model = make_model(tie_embeddings="none", output_bias=True)
    model.output.weight.copy_(np.zeros((13, 16), np.float32))
    bias = np.zeros(13, np.float32)
    bias[6] = 1
    model.output.bias.copy_(bias)
    options = {"beam": 2, "max_length": 3, "allowed": [6, 7], "bad_words": [[6, 6], [6, 7]], "min_length": 3}
    for renormalize in (False, True):
        (found,) = generate(model, [[5]], renormalize=renormalize, **options)
        assert [h.ids for h in found] == [[7, 7, 6], [7, 7, 7]]
        if renormalize:
            share = 1 / (1 + np.exp(-1))
            np.testing.assert_allclose(np.exp(found[0].token_logprobs), [1 - share, 1 - share, share], rtol=1e-5)


def test_what_was_not_given_follows_other_options():
    options = replace(SearchOptions(beam=5), beam=2)
    assert options.outputs == 2 and options.count is None and options.exponent == 0.6
    assert replace(options, like="hf").exponent == 1.0 and replace(options, beam=1, temperature=2.0).outputs == 1
    with pytest.raises(ValueError, match="count must be at most 2, the value of beam, got 4"):
        replace(SearchOptions(beam=5, count=4), beam=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 3, "beam": 2}, "count must be at most 2, the value of beam, got 3"),
        ({"min_length": 5, "max_length": 4}, "min_length must be at most 4, the value of max_length, got 5"),
        ({"like": "bart"}, "like must be one of dragoman, marian, fairseq, hf, got 'bart'"),
        ({"coverage_penalty": 0.2, "like": "hf"}, "coverage_penalty needs like='dragoman', got like='hf'"),
        ({"coverage_penalty": 0.2, "temperature": 1}, "coverage_penalty needs temperature 0, got 1"),
        ({"coverage_penalty": -0.2}, "coverage_penalty must be at least 0, got -0.2"),
        ({"coverage_penalty": 11}, "coverage_penalty must be at most 10, got 11"),
        ({"early_stopping": True}, "early_stopping needs like='hf', got like='dragoman'"),
        ({"early_stopping": "never", "like": "marian"}, "early_stopping needs like='hf', got like='marian'"),
        ({"early_stopping": "always", "like": "hf"}, "early_stopping must be True, False or \"never\", got 'always'"),
        ({"forced_last": 2, "like": "fairseq"}, "forced_last needs like='hf', got like='fairseq'"),
        ({"forced_last": 13, "like": "hf"}, r"forced_last must lie in \[0, 13\), the ids of the vocabulary, got 13"),
        ({"begin_suppress": [13]}, r"begin_suppress\[0\] must lie in \[0, 13\), the ids of the vocabulary, got 13"),
        ({"bad_words": [[5], []]}, r"bad_words\[1\] must hold at least one id, got none"),
        ({"bad_words": [[5, 13]]}, r"bad_words\[0\]\[1\] must lie in \[0, 13\), the ids of the vocabulary, got 13"),
        ({"constraints": [[5]], "renormalize": True}, "renormalize must be False with constraints, got True"),
        ({"top_k": 3}, "top_k needs a temperature above 0, got 0"),
        ({"min_p": 0.1}, "min_p needs a temperature above 0, got 0"),
        ({"temperature": 1.0, "beam": 2}, "beam must be 1 where temperature is above 0, got 2"),
        ({"min_p": 1.0, "temperature": 1.0}, r"min_p must lie in \[0, 1\), got 1.0"),
        ({"prefix": [5, 13]}, r"prefix\[1\] must lie in \[0, 13\), the ids of the vocabulary, got 13"),
        ({"suppress": [-1]}, "suppress must be at least 0, got -1"),
        ({"allowed": []}, "allowed must hold at least one id, got none"),
        ({"constraints": [[5], []]}, r"constraints\[1\] must hold at least one id, got none"),
        (
            {"constraints": [[5], [14]]},
            r"constraints\[1\]\[0\] must lie in \[0, 13\), the ids of the vocabulary, got 14",
        ),
        ({"constraints": [[5, 2]]}, r"constraints\[0\] must not hold an eos id, got 2"),
        ({"constraints": [[5]], "like": "hf"}, "constraints need like='dragoman', got like='hf'"),
        ({"repetition_penalty": 0}, "repetition_penalty must be above 0, got 0"),
        ({"repetition_penalty": 1e-300}, r"repetition_penalty must lie in \[1e-06, 1e\+06\], got 1e-300"),
        ({"repetition_penalty": 1e7}, r"repetition_penalty must lie in \[1e-06, 1e\+06\], got 1e\+07"),
        ({"prefix": [5] * 9, "max_length": 8}, "prefix must have at most 8 ids, the limit of the output, got 9"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=f"generate: {message}"):
        generate(make_model(), [[5]], **options)


def test_top_k_beyond_the_vocabulary_is_all_of_it():
    results = [generate(make_model(), SOURCES, temperature=1.0, top_k=k, max_length=5) for k in (13, 2**62, 2**63 - 1)]
    assert results[0] == results[1] == results[2]


def test_options_by_another_name():
    with pytest.raises(TypeError, match="generate: got an unexpected keyword argument 'beams'"):
        generate(make_model(), [[5]], beams=3)
    assert SearchOptions(prefix=np.array([4, 5])).prefix == (4, 5)
    assert hash(SearchOptions(constraints=[[4], [5, 6]])) == hash(SearchOptions(constraints=((4,), (5, 6))))
