"""attention against the reference: ragged, causal, windowed, grouped, with dropout."""

import math

import dragoman as dg
import ml_dtypes
import numpy as np
import pytest
import reference
from dragoman import _core
from gradcheck import backward, check_op, check_reference, poison_cache, with_tail
from hypothesis import given, settings
from hypothesis import strategies as st

# (query lengths, key lengths, num_heads, kv_heads, head_dim, options)
CASES = {
    "one": ([1], [1], 1, 1, 1, {}),
    "odd": ([31, 33], [33, 31], 3, 3, 31, {}),
    "long": ([257], [1023], 2, 2, 64, {}),
    "causal": ([31, 1, 65], [31, 1, 65], 4, 4, 16, {"causal": True}),
    "causal_more_keys": ([3, 1], [70, 5], 2, 2, 8, {"causal": True}),
    "causal_more_queries": ([70, 5], [3, 1], 2, 2, 8, {"causal": True}),
    "causal_long": ([300], [300], 1, 1, 33, {"causal": True}),
    "window": ([65, 40], [65, 40], 2, 2, 8, {"window": 5}),
    "window_zero": ([9], [9], 2, 2, 8, {"window": 0}),
    "window_causal": ([300], [300], 2, 1, 16, {"window": 70, "causal": True}),
    "window_apart": ([40], [3], 1, 1, 4, {"window": 2}),
    "groups": ([17, 33], [20, 31], 6, 2, 16, {}),
    "one_kv_head": ([17, 33], [20, 31], 5, 1, 16, {"causal": True}),
    "scale": ([17], [19], 2, 2, 8, {"scale": 0.125}),
    "empty_queries": ([0, 5, 0], [3, 4, 0], 2, 2, 8, {}),
    "empty_keys": ([3, 5, 2], [0, 4, 0], 2, 1, 8, {}),
    "blocks_window_groups": ([300, 70], [520, 64], 4, 2, 17, {"window": 150, "causal": True}),
    "blocks_window_both_sides": ([400], [500], 1, 1, 8, {"window": 130}),
    "blocks_groups": ([150, 3], [600, 130], 6, 2, 24, {}),
    "blocks_causal_apart": ([300], [521], 1, 1, 40, {"causal": True}),
    "blocks_causal": ([700], [700], 1, 1, 64, {"causal": True}),
    "wide_head": ([13], [17], 1, 1, 257, {}),
    "step": ([1, 1, 0, 1, 1], [33, 1, 4, 70, 0], 4, 4, 64, {"causal": True}),
    "step_groups": ([1, 1], [300, 31], 6, 2, 40, {}),
    "step_many_heads": ([1, 1], [20, 3], 7, 1, 9, {}),
    "step_window": ([1, 1], [33, 2], 2, 1, 8, {"window": 5, "causal": True}),
    "step_offset": ([1, 1], [70, 33], 2, 2, 17, {"window": 9, "query_offset": 40, "scale": 0.3}),
    "step_alibi": ([1, 1], [65, 3], 3, 3, 8, {"alibi_slopes": True, "causal": True}),
    "step_bias": ([1, 1], [300, 7], 2, 1, 8, {"relative_bias": 9, "bidirectional": False, "window": 200}),
    "step_shaw": ([1, 1], [31, 7], 2, 2, 8, {"relative_keys": 4, "relative_values": 4}),
    "offset": ([50, 31], [70, 90], 2, 1, 8, {"causal": True, "query_offset": 2}),
    "offset_beyond_the_keys": ([50, 3], [60, 131], 2, 2, 8, {"window": 9, "query_offset": 40}),
    "bias": ([31, 1, 65], [31, 1, 65], 4, 4, 16, {"relative_bias": 32}),
    "bias_causal": ([300, 7], [300, 7], 2, 1, 8, {"relative_bias": 9, "causal": True, "bidirectional": False}),
    "bias_apart": ([3, 70], [140, 5], 4, 2, 8, {"relative_bias": 12, "max_distance": 20, "scale": 1.0}),
    "bias_offset_window": ([5], [300], 2, 2, 8, {"relative_bias": 32, "query_offset": 100, "window": 140}),
    "alibi": ([65, 0, 40], [65, 3, 40], 3, 3, 8, {"alibi_slopes": True}),
    "alibi_causal": ([300, 7], [300, 7], 6, 2, 16, {"alibi_slopes": True, "causal": True}),
    "shaw": ([31, 1, 65], [31, 1, 65], 4, 4, 16, {"relative_keys": 4, "relative_values": 4}),
    "shaw_causal": ([300, 7], [300, 7], 4, 2, 17, {"relative_keys": 16, "relative_values": 16, "causal": True}),
    "shaw_keys": ([33, 140], [40, 3], 2, 1, 9, {"relative_keys": 20}),
    "shaw_values": ([33, 0, 2], [300, 4, 0], 2, 2, 33, {"relative_values": 0, "window": 200}),
    "cap": ([31, 1, 65], [31, 1, 65], 4, 2, 16, {"score_cap": 1.5, "causal": True}),
    "cap_blocks": ([300, 7], [521, 9], 2, 1, 40, {"score_cap": 0.7, "window": 150, "scale": 0.4}),
    "cap_values": ([33, 2], [40, 4], 2, 2, 33, {"score_cap": 2.0, "relative_values": 3}),
    "step_cap": ([1, 1], [70, 33], 4, 2, 17, {"score_cap": 0.9, "causal": True}),
    "all_by_distance": (
        [20, 150], [20, 150], 4, 2, 8,
        {"relative_keys": 2, "relative_values": 2, "relative_bias": 8, "max_distance": 30, "causal": True},
    ),
}  # fmt: skip

TABLES = ("relative_bias", "relative_keys", "relative_values")


def with_tables(rng, case):
    """The options of a case apart from its learned tables, and these: {} where it names none."""
    _, _, num_heads, _, head_dim, options = case
    options, tables = dict(options), {}
    for name in TABLES:
        if name in options:
            size = options.pop(name)
            shape = (size, num_heads) if name == "relative_bias" else (2 * size + 1, head_dim)
            tables[name] = rng.standard_normal(shape).astype(np.float32)
    if "alibi_slopes" in options:
        options["alibi_slopes"] = (0.5 ** np.arange(1, num_heads + 1)).astype(np.float32)
    return options, tables


def of_op(options):
    """The same options, as the op takes them."""
    if "alibi_slopes" in options:
        return options | {"alibi_slopes": dg.tensor(options["alibi_slopes"])}
    return options


def make(rng, q_lengths, k_lengths, num_heads, kv_heads, head_dim):
    q, k = (sum(q_lengths), num_heads, head_dim), (sum(k_lengths), kv_heads, head_dim)
    return [rng.standard_normal(shape).astype(np.float32) for shape in (q, k, k)]


def check(rng, case, tail, p=0.0):
    q_lengths, k_lengths, num_heads, *_ = case
    options, tables = with_tables(rng, case)
    q_sequences = dg.Sequences(q_lengths, capacity=sum(q_lengths) + tail)
    k_sequences = dg.Sequences(k_lengths, capacity=sum(k_lengths) + tail)
    masks = next_masks(q_sequences, k_sequences, num_heads, p) if p else None

    def truth(q, k, v, *values):
        return {**options, **dict(zip(tables, values, strict=True)), "masks": masks}

    check_op(
        lambda q, k, v, *values: dg.functional.attention(
            q, k, v, q_sequences, k_sequences, dropout=p, **of_op(options), **dict(zip(tables, values, strict=True))
        ),
        lambda *x: reference.attention(*x[:3], q_lengths, k_lengths, **truth(*x))[0],
        lambda dy, *x: reference.attention_backward(dy, *x[:3], q_lengths, k_lengths, **truth(*x)),
        [*make(rng, *case[:5]), *tables.values()],
        rows=(0, 1, 2),
        tail=tail,
    )


def next_masks(q_sequences, k_sequences, num_heads, p):
    """The dropout multipliers of the next attention call. Restores the random state."""
    state = dg.random.get_state()
    dropout = dg.random.next_dropout(p)
    dg.random.set_state(state)
    return reference.attention_dropout_masks(
        q_sequences.lengths,
        k_sequences.lengths,
        num_heads,
        k_sequences.max_length,
        p,
        dropout.seed,
        dropout.step,
        dropout.id,
    )


@pytest.mark.parametrize("p", [0.0, 0.2])
@pytest.mark.parametrize("tail", [0, 3])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_matches_reference(rng, case, tail, p):
    check(rng, case, tail, p)


def rounded(x):
    return np.asarray(x, np.float32).astype(ml_dtypes.bfloat16).astype(np.float32)


def check_bfloat16(rng, case, tail, p=0.0):
    """Against float64 on the rounded inputs; the bar is a plain implementation that rounds weights and scores'
    gradients before their products, as this one does."""
    q_lengths, k_lengths, num_heads, *_ = case
    options, tables = with_tables(rng, case)
    qkv = [rounded(x) for x in make(rng, *case[:5])]
    dout = rounded(rng.standard_normal(qkv[0].shape))
    sequences = [dg.Sequences(lengths, capacity=sum(lengths) + tail) for lengths in (q_lengths, k_lengths)]
    masks = next_masks(*sequences, num_heads, p) if p else None
    leaves = [dg.tensor(with_tail(x, tail), requires_grad=True) for x in qkv]
    inputs = [dg.functional.cast(x, "bfloat16") for x in leaves]
    learned = {name: dg.tensor(x, requires_grad=True) for name, x in tables.items()}
    poison_cache()
    out = dg.functional.attention(*inputs, *sequences, dropout=p, **of_op(options), **learned)
    poison_cache()
    out.backward(dg.tensor(with_tail(dout, tail), dtype="bfloat16"))
    assert out.dtype == "bfloat16"
    actual = [x.numpy().astype(np.float64) for x in (out, *(x.grad for x in (*leaves, *learned.values())))]

    def results(dtype, **rounding):
        q, k, v, dy = (x.astype(dtype) for x in (*qkv, dout))
        lengths = (q_lengths, k_lengths)
        cast = options | {name: x.astype(dtype) for name, x in tables.items()}
        expected, _ = reference.attention(q, k, v, *lengths, masks=masks, **cast, **rounding)
        return expected, *reference.attention_backward(dy, q, k, v, *lengths, masks=masks, **cast, **rounding)

    for array, truth, plain in zip(actual, results(np.float64), results(np.float32, rounded=rounded), strict=True):
        reference.assert_close(array[: len(truth)], truth, plain)
        assert not array[len(truth) :].any(), "the tail must be zeros"


@pytest.mark.parametrize("p", [0.0, 0.2])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_bfloat16_matches_reference(rng, case, p):
    check_bfloat16(rng, case, 3, p)


lengths = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=5)


@settings(max_examples=40, deadline=None, database=None, derandomize=True)
@given(
    lengths=lengths,
    heads=st.sampled_from([(1, 1), (4, 2), (3, 1)]),
    head_dim=st.sampled_from([1, 3, 8, 17]),
    causal=st.booleans(),
    window=st.none() | st.integers(0, 45),
    tables=st.sampled_from(
        [
            {},
            {"relative_bias": 8, "max_distance": 9},
            {"alibi_slopes": True},
            {"relative_keys": 3, "relative_values": 3},
        ]
    ),
    p=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 1000),
)
def test_any_ragged_batch(lengths, heads, head_dim, causal, window, tables, p, seed):
    q_lengths, k_lengths = (list(side) for side in zip(*lengths, strict=True))
    case = (q_lengths, k_lengths, *heads, head_dim, {"causal": causal, "window": window, **tables})
    check(np.random.default_rng(seed), case, tail=2, p=p)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"causal": True},
        {"window": 1},
        {"scale": 0.3},
        {"query_offset": 2, "causal": True},
        {"score_cap": 0.8, "causal": True},
        {"relative_bias": 8, "max_distance": 3},
        {"alibi_slopes": True},
        {"relative_keys": 1, "relative_values": 2, "relative_bias": 4, "scale": 0.7},
    ],
    ids=str,
)
def test_reference_gradient(rng, options):
    q_lengths, k_lengths = [3, 2, 2], [2, 4, 0]
    masks = [rng.integers(0, 2, (4, n, m)) * 1.5 for n, m in zip(q_lengths, k_lengths, strict=True)]
    options, tables = with_tables(rng, (q_lengths, k_lengths, 4, 2, 3, options))

    def named(values):
        return dict(zip(tables, values, strict=True)) | options | {"masks": masks}

    check_reference(
        lambda *x: reference.attention(*x[:3], q_lengths, k_lengths, **named(x[3:]))[0],
        lambda dy, *x: reference.attention_backward(dy, *x[:3], q_lengths, k_lengths, **named(x[3:])),
        [*make(rng, q_lengths, k_lengths, 4, 2, 3), *tables.values()],
    )


def test_one_query_by_hand():
    """Scores 2.4989, 5.5011 and 3.4999; the literals come from a computation in 30 decimal digits."""
    q = np.array([[[0.31, 0.41]]], np.float32)
    k = np.array([[[7.77, 0.22]], [[17.19, 0.42]], [[10.47, 0.62]]], np.float32)
    v = np.array([[[0.13, 0.23]], [[0.33, 0.43]], [[0.53, 0.63]]], np.float32)
    out, (weights,) = dg.functional.attention(
        *map(dg.tensor, (q, k, v)), dg.Sequences([1]), dg.Sequences([3]), scale=1.0, return_weights=True
    )
    expected_weights = [0.041927358373187140615, 0.84398823786511814930, 0.11408440376169450009]
    np.testing.assert_allclose(weights.numpy(), [[expected_weights]], rtol=1e-6)
    np.testing.assert_allclose(out.numpy(), [[[0.34443140907770142989, 0.44443140907770142989]]], rtol=1e-6)
    truth, _ = reference.attention(*(x.astype(np.float64) for x in (q, k, v)), [1], [3], scale=1.0)
    np.testing.assert_allclose(truth, [[[0.34443140907770142989, 0.44443140907770142989]]], rtol=1e-6)


def test_weights_that_float32_holds_only_as_denormals_are_zero():
    """Of scores 0, -87 and -88: e^-87 is above the smallest normal number, e^-88 below."""
    q, k = np.ones((1, 1, 1), np.float32), np.array([0, -87, -88], np.float32).reshape(3, 1, 1)
    _, (weights,) = dg.functional.attention(
        *map(dg.tensor, (q, k, k)), dg.Sequences([1]), dg.Sequences([3]), scale=1.0, return_weights=True
    )
    np.testing.assert_allclose(weights.numpy(), [[[1, 1.6458115e-38, 0]]], rtol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        *("odd", "causal_more_keys", "causal_more_queries", "window_causal", "groups", "empty_keys"),
        *("bias", "alibi_causal", "shaw_causal", "all_by_distance", "cap", "step_cap"),
    ],
)
def test_weights_equal_the_reference_and_sum_to_one(rng, name):
    q_lengths, k_lengths, *heads, _ = CASES[name]
    options, tables = with_tables(rng, CASES[name])
    qkv = make(rng, q_lengths, k_lengths, *heads)
    tail = 2
    out, weights = dg.functional.attention(
        *(dg.tensor(with_tail(x, tail)) for x in qkv),
        dg.Sequences(q_lengths, capacity=sum(q_lengths) + tail),
        dg.Sequences(k_lengths, capacity=sum(k_lengths) + tail),
        return_weights=True,
        **of_op(options),
        **{kind: dg.tensor(table) for kind, table in tables.items()},
    )
    double = options | {kind: table.astype(np.float64) for kind, table in tables.items()}
    truth_out, truth = reference.attention(*(x.astype(np.float64) for x in qkv), q_lengths, k_lengths, **double)
    _, plain = reference.attention(*qkv, q_lengths, k_lengths, **options, **tables)
    reference.assert_close(out.numpy()[: len(truth_out)], truth_out)
    assert len(weights) == len(q_lengths)
    for actual, expected, plain32 in zip(weights, truth, plain, strict=True):
        reference.assert_close(actual.numpy(), expected, plain32)
        np.testing.assert_allclose(actual.numpy().sum(-1), expected.any(-1), atol=1e-6)


def test_weights_are_those_before_dropout(rng):
    qkv = [dg.tensor(x) for x in make(rng, [5], [7], 2, 2, 4)]
    sequences = dg.Sequences([5]), dg.Sequences([7])
    _, (plain,) = dg.functional.attention(*qkv, *sequences, return_weights=True)
    _, (dropped,) = dg.functional.attention(*qkv, *sequences, dropout=0.5, return_weights=True)
    np.testing.assert_array_equal(plain.numpy(), dropped.numpy())


def test_query_without_keys_gives_zero(rng):
    """Of five queries over three keys, the first two come before every key."""
    q, k, v = (dg.tensor(x, requires_grad=True) for x in make(rng, [5], [3], 2, 2, 4))
    out = dg.functional.attention(q, k, v, dg.Sequences([5]), dg.Sequences([3]), causal=True)
    assert not out.numpy()[:2].any()
    assert out.numpy()[2:].all()
    backward(out, np.ones(out.shape, np.float32))
    assert not q.grad.numpy()[:2].any()
    # Query 2 has one key: its weight is always 1, so the gradient of its score is 0 except for rounding.
    assert np.abs(q.grad.numpy()[2]).max() < 1e-6
    assert q.grad.numpy()[3:].all()


def test_no_rows(rng):
    check(rng, ([0, 0], [0, 0], 2, 2, 8, {}), tail=3)
    q, k = dg.tensor(np.ones((0, 2, 4), np.float32)), dg.tensor(np.ones((3, 2, 4), np.float32))
    out = dg.functional.attention(q, k, k, dg.Sequences([0]), dg.Sequences([3]))
    assert out.shape == (0, 2, 4)


def test_huge_scores_stay_finite(rng):
    """Scores differ by 1e6: the softmax is one-hot and nothing overflows."""
    q, k, v = (rng.standard_normal((40, 1, 8)).astype(np.float32) for _ in range(3))
    out = dg.functional.attention(*map(dg.tensor, (1e3 * q, 1e3 * k, v)), dg.Sequences([40]), dg.Sequences([40]))
    truth, _ = reference.attention(*(x.astype(np.float64) for x in (1e3 * q, 1e3 * k, v)), [40], [40])
    np.testing.assert_allclose(out.numpy(), truth, atol=1e-4)


@pytest.mark.parametrize("sign", [1, -1])
def test_scores_of_ten_thousand(rng, sign):
    """The exponential of +-1e4 overflows. Softmax and gradients still equal the reference."""
    lengths = ([40], [300])
    q, k, v = make(rng, *lengths, 2, 2, 8)
    options = {"scale": sign * 1e4 / float(np.abs(np.einsum("nhd,mhd->hnm", q, k)).max())}
    tensors = [dg.tensor(x, requires_grad=True) for x in (q, k, v)]
    out = dg.functional.attention(*tensors, *map(dg.Sequences, lengths), **options)
    dout = rng.standard_normal(q.shape).astype(np.float32)
    backward(out, dout)
    double = [x.astype(np.float64) for x in (q, k, v)]
    truth = reference.attention(*double, *lengths, **options)[0]
    gradients = reference.attention_backward(dout.astype(np.float64), *double, *lengths, **options)
    # A rounding of such a score, or of a logsumexp, is 5e-4 of its weight; those of dout . out come times the scale.
    for actual, expected in zip((out, *(x.grad for x in tensors)), (truth, *gradients), strict=True):
        bar = 5e-3 * np.abs(expected).max() + 1e-5 * abs(options["scale"])
        np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=bar)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("options", [{}, {"causal": True}, {"causal": True, "window": 140}, {"bias": "alibi"}], ids=str)
def test_same_bits_for_any_threads_and_batch(rng, dtype, options):
    """A sequence gives the same bits alone on one thread and in a batch on three."""
    lengths, heads, head_dim = [300, 7, 131, 22], 4, 24
    arrays = [rng.standard_normal((sum(lengths), n, head_dim)) for n in (heads, 2, 2, heads)]
    tables = [dg.tensor(rng.standard_normal(shape)).data for shape in ((heads,), (9, head_dim), (9, head_dim))]
    tables = tables if "bias" in options else []

    def run(first, count, threads):
        rows = slice(sum(lengths[:first]), sum(lengths[: first + count]))
        q, k, v, dout = (dg.tensor(x[rows].astype(np.float32), dtype=dtype).data for x in arrays)
        common = (*[dg.Sequences(lengths[first : first + count])] * 2, _core.AttentionOptions(**options))
        before = dg.num_threads()
        dg.set_num_threads(threads)
        try:
            out, logsumexp, _ = _core.attention_forward(q, k, v, *common, *tables)
            results = (out, logsumexp, *_core.attention_backward(dout, q, k, v, out, logsumexp, *common, *tables))
        finally:
            dg.set_num_threads(before)
        return [dg.Tensor(x).numpy().astype(np.float32) for x in results]

    whole = run(0, len(lengths), 3)
    alone = [run(i, 1, 1) for i in range(len(lengths))]
    for batched, *single in zip(whole, *alone, strict=True):
        np.testing.assert_array_equal(batched, np.concatenate(single))


def test_dropout_rate(rng):
    """With equal scores and one-hot values the output is the multipliers."""
    n, m, p = 64, 128, 0.25
    q, k = np.zeros((n, 1, m), np.float32), np.zeros((m, 1, m), np.float32)
    v = np.eye(m, dtype=np.float32)[:, None]
    masks = next_masks(dg.Sequences([n]), dg.Sequences([m]), 1, p)
    out = dg.functional.attention(*map(dg.tensor, (q, k, v)), dg.Sequences([n]), dg.Sequences([m]), dropout=p).numpy()
    np.testing.assert_array_equal(out[:, 0] > 0, masks[0][0] > 0)
    np.testing.assert_allclose(out[:, 0] * m, masks[0][0], rtol=1e-5)
    assert abs((out == 0).mean() - p) < 0.02


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"k": (7, 2, 5)}, ValueError, r"attention: k must have q's head_dim 4, got 5"),
        ({"v": (7, 2, 5)}, ValueError, r"attention: v must .*got \(7, 2, 5\)"),
        ({"v": (6, 2, 4)}, ValueError, r"attention: .*v.* must .*6"),
        ({"q": (5, 16)}, ValueError, r"attention: q must have 3 dimensions .*got shape \(5, 16\)"),
        ({"q": (5, 3, 4)}, ValueError, r"attention: .*heads.*got"),
        ({"q_sequences": [4]}, ValueError, r"attention: q_sequences must have capacity 5.*got 4"),
        ({"k_sequences": [9]}, ValueError, r"attention: k_sequences must have capacity 7.*got 9"),
        ({"k_sequences": [3, 4]}, ValueError, r"attention: k_sequences must .*got 2"),
        ({"window": -1}, ValueError, r"attention: window must .*got -1"),
        ({"dropout": 1.0}, ValueError, r"attention: dropout must lie in \[0, 1\), got 1"),
        ({"query_offset": 2**31}, ValueError, r"attention: query_offset must lie in \[0, 2\^31\), got 2147483648"),
        ({"alibi_slopes": (3,)}, ValueError, r"attention: alibi_slopes must have shape \(4,\), got \(3,\)"),
        ({"relative_bias": (8, 3)}, ValueError, r"attention: relative_bias must have shape \(8, 4\), got \(8, 3\)"),
        ({"relative_bias": (3, 4)}, ValueError, r"attention: relative_bias must have at least 4 buckets, got 3"),
        ({"relative_bias": (32, 4), "max_distance": 8}, ValueError, r"attention: max_distance must lie in \[9.*got 8"),
        ({"score_cap": 0.0}, ValueError, "attention: score_cap must be above 0, got 0"),
        ({"score_cap": 1.0, "alibi_slopes": (4,)}, ValueError, "attention: score_cap must be None with relative_bias"),
        ({"relative_bias": (8, 4), "alibi_slopes": (4,)}, ValueError, r"attention: alibi_slopes must be None with"),
        ({"relative_keys": (4, 4)}, ValueError, r"relative_keys must have shape \(an odd number.*got shape \(4, 4\)"),
        ({"relative_values": (5, 3)}, ValueError, r"relative_values must have shape \(5, 4\), got \(5, 3\)"),
        (
            {"relative_keys": (5, 4), "relative_values": (7, 4)},
            ValueError,
            r"attention: relative_values must have shape \(5, 4\), got \(7, 4\)",
        ),
        ({"num_heads": 3}, ValueError, r"attention: num_heads must be q's 4, got 3"),
        ({"q": (5, 16), "num_heads": 3}, ValueError, r"attention: num_heads must divide the columns of q, got 3"),
        ({"q": (5, 16), "num_heads": 4}, ValueError, r"attention: k must have 2 dimensions"),
        (
            {"q": (5, 16), "k": (7, 6), "v": (7, 6), "num_heads": 4},
            ValueError,
            r"attention: k must have a multiple of head_dim 4 columns, got shape \(7, 6\)",
        ),
        ({"q_dtype": np.int32}, TypeError, r"attention: q must be float32 or bfloat16, got int32"),
    ],
    ids=str,
)
def test_errors_name_the_argument(change, error, message):
    shapes = {"q": (5, 4, 4), "k": (7, 2, 4), "v": (7, 2, 4)}
    tensors = {
        name: dg.tensor(np.ones(change.get(name, shape), change.get(name + "_dtype", np.float32)))
        for name, shape in shapes.items()
    }
    sequences = [
        dg.Sequences(change.get(name, default)) for name, default in [("q_sequences", [5]), ("k_sequences", [7])]
    ]
    plain = ("window", "dropout", "num_heads", "query_offset", "max_distance", "score_cap")
    options = {name: value for name, value in change.items() if name in plain}
    for name in (*TABLES, "alibi_slopes"):
        if name in change:
            options[name] = dg.tensor(np.ones(change[name], np.float32))
    with pytest.raises(error, match=message):
        dg.functional.attention(*tensors.values(), *sequences, **options)


def test_slopes_have_no_gradient():
    q, slopes = dg.tensor(np.ones((2, 1, 4))), dg.tensor([0.5], requires_grad=True)
    with pytest.raises(ValueError, match="attention: alibi_slopes must require no gradient"):
        dg.functional.attention(q, q, q, *[dg.Sequences([2])] * 2, alibi_slopes=slopes)


def test_a_kind_of_bias_needs_its_table():
    q = dg.tensor(np.ones((2, 1, 4))).data
    for options, tables in (({"bias": "alibi"}, []), ({}, [q])):
        with pytest.raises(ValueError, match="attention: bias must be given with options that name its kind"):
            _core.attention_forward(q, q, q, *[dg.Sequences([2])] * 2, _core.AttentionOptions(**options), *tables)
    with pytest.raises(ValueError, match="attention: bias must be none, relative or alibi, got tanh"):
        _core.AttentionOptions(bias="tanh")


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("buckets", "furthest"), [(32, 128), (8, 20), (64, 256), (9, 40), (33, 1000)])
def test_buckets_are_those_of_t5(buckets, furthest, bidirectional):
    """One query sees every distance, and the bias of a bucket is its number; in float32, as transformers computes."""
    torch = pytest.importorskip("torch")
    before, keys = 300, 600
    distance = torch.arange(keys) - before
    half = buckets // 2 if bidirectional else buckets
    first = (distance > 0) * half if bidirectional else torch.zeros_like(distance)
    away = distance.abs() if bidirectional else torch.clamp(-distance, min=0)
    exact = half // 2
    part = torch.log(away.float() / exact) / math.log(furthest / exact)
    far = torch.clamp(exact + (part * (half - exact)).to(torch.long), max=half - 1)
    expected = first + torch.where(away < exact, away, far)

    zeros = dg.tensor(np.zeros((keys, 1, 1), np.float32))
    table = dg.tensor(np.arange(buckets, dtype=np.float32)[:, None] / 8)
    _, (weights,) = dg.functional.attention(
        zeros[:1], zeros, zeros, dg.Sequences([1]), dg.Sequences([keys]), query_offset=before, relative_bias=table,
        bidirectional=bidirectional, max_distance=furthest, return_weights=True,
    )  # fmt: skip
    weights = np.log(weights.numpy()[0, 0].astype(np.float64))
    np.testing.assert_allclose(8 * (weights - weights[before]), expected - expected[before], atol=1e-3)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_heads_side_by_side_are_heads_of_an_axis(rng, kv_heads):
    """(tokens, num_heads * head_dim) gives the bits of (tokens, num_heads, head_dim): output, weights, gradients."""
    lengths = [5, 0, 9], [7, 3, 9]
    arrays = make(rng, *lengths, 4, kv_heads, 6)
    dout = rng.standard_normal(arrays[0].shape).astype(np.float32)
    sequences = [dg.Sequences(n) for n in lengths]

    def run(flat):
        shapes = [(len(x), -1) if flat else x.shape for x in arrays]
        tensors = [dg.tensor(x.reshape(shape), requires_grad=True) for x, shape in zip(arrays, shapes, strict=True)]
        dg.manual_seed(3)
        out, weights = dg.functional.attention(
            *tensors, *sequences, causal=True, dropout=0.3, num_heads=4, return_weights=True
        )
        assert out.shape == tensors[0].shape
        backward(out, dout.reshape(out.shape))
        return [x.numpy().ravel() for x in (out, *weights, *(x.grad for x in tensors))]

    for flat, axes in zip(run(True), run(False), strict=True):
        np.testing.assert_array_equal(flat, axes)


def test_masks_follow_the_bound_of_the_keys(rng):
    """With one max_length a sequence has the same mask at the front of any batch, however long the others are."""
    q, k, v = (dg.tensor(x) for x in make(rng, [5], [7], 2, 2, 4))
    more = [
        dg.tensor(np.concatenate([x.numpy(), rng.standard_normal((n, 2, 4))])) for x, n in ((q, 3), (k, 20), (v, 20))
    ]

    def run(tensors, q_lengths, k_lengths, max_length):
        dg.manual_seed(0)
        sequences = dg.Sequences(q_lengths), dg.Sequences(k_lengths, max_length=max_length)
        masks = next_masks(*sequences, 2, 0.4)
        out = dg.functional.attention(*tensors, *sequences, dropout=0.4).numpy()
        arrays = [x.numpy().astype(np.float64) for x in tensors]
        truth, _ = reference.attention(*arrays, q_lengths, k_lengths, masks=masks)
        np.testing.assert_allclose(out, truth, atol=1e-6)
        return out[:5]

    alone = run((q, k, v), [5], [7], 24)
    np.testing.assert_array_equal(alone, run(more, [5, 3], [7, 20], 24))
    assert (alone != run(more, [5, 3], [7, 20], 32)).any()
