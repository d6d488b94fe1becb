"""kv_cache ops, and attention over a cache against attention over the packed sequences."""

import dragoman as dg
import numpy as np
import pytest
import reference
from dragoman import _core
from gradcheck import with_tail


def contents(cache, attention=0):
    """The keys of each sequence, by an append of no rows. They are the values' negatives."""
    empty = dg.Sequences([0] * len(cache.lengths))
    rows = dg.tensor(np.ones((0, FEATURES), np.float32)).data
    keys, values, sequences = _core.kv_cache_append(cache, attention, rows, rows, empty)
    keys, values = (sequences.to_padded(dg.Tensor(x).numpy()) for x in (keys, values))
    np.testing.assert_array_equal(keys, -values)
    return [row[:n] for row, n in zip(keys, sequences.lengths, strict=True)]


FEATURES = 5


def append(cache, rng, new, attention=0, tail=0, dtype="float32"):
    """Random keys for `new` rows of each sequence, and their negatives as values; returns the keys by sequence."""
    sequences = dg.Sequences(new, capacity=sum(new) + tail)
    rows = rng.standard_normal((sum(new), FEATURES)).astype(np.float32)
    k, v = (dg.tensor(with_tail(x, tail), dtype=dtype).data for x in (rows, -rows))
    _core.kv_cache_extend(cache, sequences)
    _core.kv_cache_append(cache, attention, k, v, sequences)
    return np.split(rows, np.cumsum(new)[:-1])


def test_append_puts_rows_behind_what_is_there(rng):
    """Past the first slots of 32 rows, with a second attention whose rows are its own."""
    cache, expected = _core.KVCache(3), [np.zeros((0, FEATURES), np.float32)] * 3
    for new in ([2, 1, 0], [1, 0, 3], [30, 1, 3], [70, 0, 1]):
        more = append(cache, rng, new, tail=2)
        expected = [np.concatenate(pair) for pair in zip(expected, more, strict=True)]
        assert cache.lengths == [len(rows) for rows in expected]
        np.testing.assert_array_equal(_core.kv_cache_starts(cache).numpy(), cache.lengths)
        for actual, rows in zip(contents(cache), expected, strict=True):
            np.testing.assert_array_equal(actual, rows)


def test_attentions_have_buffers_of_their_own(rng):
    cache = _core.KVCache(1)
    first = append(cache, rng, [2], attention=0)
    new, rows = dg.Sequences([2]), rng.standard_normal((2, FEATURES)).astype(np.float32)
    _core.kv_cache_append(cache, 7, *(dg.tensor(x).data for x in (rows, -rows)), new)
    np.testing.assert_array_equal(contents(cache, 0), first)
    np.testing.assert_array_equal(contents(cache, 7), rows[None])


def test_bfloat16_rows_stay_bfloat16(rng):
    cache = _core.KVCache(2)
    rows = append(cache, rng, [3, 1], dtype="bfloat16")
    _core.kv_cache_reorder(cache, dg.tensor(np.array([1, 0], np.int32)).data)
    empty = dg.tensor(np.ones((0, FEATURES)), dtype="bfloat16").data
    keys, _, layout = _core.kv_cache_append(cache, 0, empty, empty, dg.Sequences([0, 0]))
    assert keys.dtype == "bfloat16"
    np.testing.assert_array_equal(
        layout.to_padded(dg.Tensor(keys).numpy())[1], dg.tensor(rows[0], dtype="bfloat16").numpy()
    )


@pytest.mark.parametrize("indices", [[2, 0, 0, 1, 2], [1], [], [0, 1, 2]], ids=str)
def test_sequences_go_on_from_others(rng, indices):
    cache = _core.KVCache(3)
    rows = append(cache, rng, [4, 0, 33])
    _core.kv_cache_reorder(cache, dg.tensor(np.array(indices, np.int32)).data)
    assert cache.lengths == [[4, 0, 33][i] for i in indices]
    for actual, i in zip(contents(cache), indices, strict=True):
        np.testing.assert_array_equal(actual, rows[i])


def test_caches_that_grow_part_and_join_are_lists_of_rows(rng):
    """Random appends of differing counts, orders, joins of caches that have histories, and ends, beside lists."""
    for _ in range(20):
        caches = [(_core.KVCache(n), [np.zeros((0, FEATURES), np.float32)] * n) for n in (2, 0, 3)]
        for _ in range(25):
            at = int(rng.integers(len(caches)))
            cache, rows = caches[at]
            n = len(rows)
            act = rng.integers(10)
            if act == 0 and len(caches) > 1:
                other, more = caches.pop((at + 1) % len(caches))
                if rows and more:
                    append(cache, rng, [0] * len(rows))  # both have buffers
                    append(other, rng, [0] * len(more))
                _core.kv_cache_join(cache, other)
                assert other.lengths == []
                caches = [(c, rows + more if c is cache else r) for c, r in caches]
            elif act < 4 and n:
                indices = rng.integers(0, n, int(rng.integers(0 if len(caches) > 1 else 1, 6)))
                _core.kv_cache_reorder(cache, dg.tensor(indices.astype(np.int32)).data)
                caches[at] = cache, [rows[i] for i in indices]
            elif n:
                new = rng.integers(0, 3, n) if act < 8 else rng.integers(0, 40, n)
                parts = append(cache, rng, new.tolist())
                caches[at] = cache, [np.concatenate(pair) for pair in zip(rows, parts, strict=True)]
            for cache, rows in caches:
                assert cache.lengths == [len(each) for each in rows]
                if rows:
                    for actual, expected in zip(contents(cache), rows, strict=True):
                        np.testing.assert_array_equal(actual, expected)


def test_nothing_is_copied_where_sequences_part(rng):
    cache = _core.KVCache(3)
    append(cache, rng, [5, 5, 5])
    _core.kv_cache_reorder(cache, dg.tensor(np.array([0, 1, 2], np.int32)).data)
    dg.reset_peak_memory_stats()
    before = dg.memory_stats()["peak_allocated"]
    for _ in range(20):
        _core.kv_cache_reorder(cache, dg.tensor(rng.permutation(3).astype(np.int32)).data)
    assert dg.memory_stats()["peak_allocated"] - before < 3 * 32 * FEATURES * 4


def test_memory_is_shared_and_freed(rng):
    """Sequences share a source; a join keeps only the sources that somebody reads when there is no room left."""

    def filled(lengths):
        cache, rows = _core.KVCache(len(lengths)), rng.standard_normal((sum(lengths), FEATURES)).astype(np.float32)
        append(cache, rng, [1] * len(lengths))
        _core.kv_cache_set_memory(cache, 1, *(dg.tensor(x).data for x in (rows, -rows)))
        assert _core.kv_cache_sources(cache, dg.Sequences(lengths)).lengths == lengths
        return cache, np.split(rows, np.cumsum(lengths)[:-1])

    def check(cache, expected):
        k, v = (dg.Tensor(x).numpy() for x in _core.kv_cache_memory(cache, 1))
        sources = _core.kv_cache_sources(cache)
        padded = sources.to_padded(k)
        np.testing.assert_array_equal(padded, -sources.to_padded(v))
        for actual, rows in zip(padded, expected, strict=True):
            np.testing.assert_array_equal(actual[: len(rows)], rows)

    cache, (a, _b, c) = filled([3, 0, 4])
    _core.kv_cache_reorder(cache, dg.tensor(np.array([2, 2, 0], np.int32)).data)
    check(cache, [c, c, a])
    rows = [c, c, a]
    for lengths in ([5], [1, 2], [9, 1, 1]):
        other, more = filled(lengths)
        _core.kv_cache_join(cache, other)
        rows = [*rows, *more]
        check(cache, rows)
    _core.kv_cache_reorder(cache, dg.tensor(np.array([4, 0], np.int32)).data)
    rows, sizes = [rows[4], rows[0]], []
    for _ in range(40):
        other, more = filled([6])
        _core.kv_cache_join(cache, other)
        check(cache, [*rows, *more])
        _core.kv_cache_reorder(cache, dg.tensor(np.array([0, 1], np.int32)).data)
        sizes.append(_core.kv_cache_memory(cache, 1)[0].shape[0])
    assert max(sizes) <= 40
    with pytest.raises(ValueError, match="KVCache: other must hold memory for 1 attentions, got 0"):
        other = _core.KVCache(1)
        append(other, rng, [1])
        _core.kv_cache_join(cache, other)
    with pytest.raises(ValueError, match="KVCache: other must be another cache"):
        _core.kv_cache_join(cache, cache)
    with pytest.raises(ValueError, match="KVCache: the memory must have 2 sequences, got 1"):
        _core.kv_cache_sources(_core.KVCache(2), dg.Sequences([3]))


def test_the_memory_is_kept(rng):
    cache = _core.KVCache(2)
    k, v = (dg.tensor(rng.standard_normal((4, FEATURES))).data for _ in range(2))
    assert not cache.has_memory(1)
    _core.kv_cache_set_memory(cache, 1, k, v)
    assert (cache.has_memory(1), cache.has_memory(0)) == (True, False)
    for kept, given in zip(_core.kv_cache_memory(cache, 1), (k, v), strict=True):
        np.testing.assert_array_equal(kept.numpy(), given.numpy())


@pytest.mark.parametrize("kv_heads", [1, 4])
@pytest.mark.parametrize("indices", [[0, 1, 2], [2, 2, 0, 1]], ids=["slotted", "selected"])
def test_attention_over_a_cache_is_attention_over_packed_rows(rng, kv_heads, indices):
    """The same bits, wherever a sequence's rows are in memory. Rows that are not used yet hold NaN."""
    lengths, slot, head_dim = [65, 0, 33], 70, 8
    packed = {name: [rng.standard_normal((n, kv_heads, head_dim)) for n in lengths] for name in "kv"}
    slotted = {}
    for name, sequences in packed.items():
        slotted[name] = np.full((3 * slot, kv_heads, head_dim), np.nan, np.float32)
        for i, rows in enumerate(sequences):
            slotted[name][i * slot : i * slot + len(rows)] = rows
    q_sequences = dg.Sequences([2, 1, 3, 1][: len(indices)])
    q = dg.tensor(rng.standard_normal((q_sequences.tokens, 4, head_dim)).astype(np.float32))
    layout = dg.Sequences.slotted(lengths, slot).select(indices)
    actual = dg.functional.attention(
        q, dg.tensor(slotted["k"]), dg.tensor(slotted["v"]), q_sequences, layout, causal=True
    )
    k, v = (dg.tensor(np.concatenate([packed[name][i] for i in indices]).astype(np.float32)) for name in "kv")
    expected = dg.functional.attention(q, k, v, q_sequences, dg.Sequences([lengths[i] for i in indices]), causal=True)
    np.testing.assert_array_equal(actual.numpy(), expected.numpy())


@pytest.mark.parametrize("lengths", [[1, 1, 1, 1, 1], [1, 1, 1, 2, 0]], ids=["each one", "not each"])
@pytest.mark.parametrize("kv_heads", [1, 4])
def test_queries_that_share_keys_are_queries_alone(rng, lengths, kv_heads):
    """The same bits for a sequence of one query, whoever reads the same keys and whoever is in the batch."""
    k, v = (dg.tensor(rng.standard_normal((50, kv_heads, 24)).astype(np.float32)) for _ in range(2))
    q_sequences = dg.Sequences(lengths)
    q = dg.tensor(rng.standard_normal((q_sequences.tokens, 4, 24)).astype(np.float32))
    read = dg.Sequences([33, 0, 17]).select([2, 2, 0, 0, 0])
    out = dg.functional.attention(q, k, v, q_sequences, read).numpy()
    for i in range(3):
        alone = dg.functional.attention(q[i : i + 1], k, v, dg.Sequences([1]), read.select([i])).numpy()
        np.testing.assert_array_equal(out[i : i + 1], alone)
        rows = slice(33, 50) if i < 2 else slice(0, 33)
        truth, _ = reference.attention(
            *(x.numpy().astype(np.float64) for x in (q[i : i + 1], k[rows], v[rows])), [1], [read.lengths[i]]
        )
        np.testing.assert_allclose(alone, truth, rtol=0, atol=1e-5)


def test_steps_over_a_cache_are_the_whole_causal_pass(rng):
    """Token by token, each row is that of one pass over the whole sequence."""
    lengths, heads, head_dim = [9, 4], 2, 4
    q, k, v = (rng.standard_normal((13, heads, head_dim)).astype(np.float32) for _ in range(3))
    whole = dg.functional.attention(
        *map(dg.tensor, (q, k, v)), dg.Sequences(lengths), dg.Sequences(lengths), causal=True
    ).numpy()
    cache = _core.KVCache(2)
    for step in range(4):
        rows = [step, 9 + step]
        new = dg.Sequences([1, 1])
        _core.kv_cache_extend(cache, new)
        new_k, new_v = (dg.tensor(x[rows].reshape(2, -1)).data for x in (k, v))
        keys, values, layout = _core.kv_cache_append(cache, 0, new_k, new_v, new)
        out = dg.functional.attention(
            dg.tensor(q[rows].reshape(2, -1)),
            *map(dg.Tensor, (keys, values)),
            new,
            layout,
            causal=True,
            num_heads=heads,
        )
        np.testing.assert_allclose(out.numpy(), whole[rows].reshape(2, -1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kv_heads", [1, 4])
def test_a_bfloat16_cache_is_read_in_float32(rng, device, kv_heads):
    """The bits of a float32 cache that holds the same rounded rows: rows that come at once, one by one, and shared."""
    heads, head_dim, rounded = 4, 24, device == "cpu"
    caches = {"bfloat16": _core.KVCache(2, "bfloat16"), "float32": _core.KVCache(2)}
    memory = [rng.standard_normal((5, kv_heads * head_dim)).astype(np.float32) for _ in range(2)]

    def on_device(x, dtype):
        x = dg.tensor(x, dtype="bfloat16").numpy().astype(np.float32) if dtype == "float32" and rounded else x
        return dg.tensor(x, device)

    def attend(new, order=None):
        sequences, found = dg.Sequences(new), []
        q, k, v = (
            rng.standard_normal((sum(new), n * head_dim)).astype(np.float32) for n in (heads, kv_heads, kv_heads)
        )
        for dtype, cache in caches.items():
            if order is not None:
                _core.kv_cache_reorder(cache, dg.tensor(np.array(order, np.int32)).data)
            _core.kv_cache_extend(cache, sequences)
            rows = (on_device(x, dtype).data for x in (k, v))
            keys, values, layout = _core.kv_cache_append(cache, 0, *rows, sequences)
            assert keys.dtype == (dtype if rounded else "float32")
            for k_all, v_all, read in ((keys, values, layout), (*_core.kv_cache_memory(cache, 1), source(cache))):
                q_here = dg.tensor(q, device)
                out = dg.functional.attention(
                    q_here, dg.Tensor(k_all), dg.Tensor(v_all), sequences, read, num_heads=heads
                )
                found.append(out.numpy())
        np.testing.assert_array_equal(found[0], found[2])
        np.testing.assert_array_equal(found[1], found[3])

    def source(cache):
        return _core.kv_cache_sources(cache, None if cache.has_sources else dg.Sequences([3, 2]))

    for dtype, cache in caches.items():
        _core.kv_cache_set_memory(cache, 1, *(on_device(x, dtype).data for x in memory))
    attend([3, 2])
    attend([1, 1])
    attend([1, 1, 1], [1, 0, 1])
    attend([1, 2, 0])


@pytest.mark.cpu
def test_an_empty_cache_takes_the_dtype_of_the_one_that_joins(rng):
    cache, other = _core.KVCache(0), _core.KVCache(1, "bfloat16")
    append(other, rng, [1])
    _core.kv_cache_join(cache, other)
    append(cache, rng, [1])
    more = _core.KVCache(1)
    append(more, rng, [1])
    with pytest.raises(TypeError, match="KVCache: other must be bfloat16, got float32"):
        _core.kv_cache_join(cache, more)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda c, rows: _core.KVCache(1, "int8"), ValueError, "KVCache: dtype must be float32 or bfloat16, got int8"),
        (lambda c, rows: _core.KVCache(-1), ValueError, "KVCache: num_sequences must be at least 0, got -1"),
        (lambda c, rows: _core.kv_cache_extend(c, dg.Sequences([1])), ValueError, "new must have 3 sequences, got 1"),
        (
            lambda c, rows: _core.kv_cache_extend(c, dg.Sequences.slotted([1, 1, 1], 4)),
            ValueError,
            "new must be packed",
        ),
        (
            lambda c, rows: _core.kv_cache_append(c, 0, rows(2, 4), rows(2, 4), dg.Sequences([1, 1, 0])),
            ValueError,
            r"k must have shape \(2, 5\), got \(2, 4\)",
        ),
        (
            lambda c, rows: _core.kv_cache_append(c, 0, rows(2, 5), rows(2, 4), dg.Sequences([1, 1, 0])),
            ValueError,
            r"v must have shape \(2, 5\), got \(2, 4\)",
        ),
        (
            lambda c, rows: _core.kv_cache_append(c, 0, *[rows(2, 5, "bfloat16")] * 2, dg.Sequences([1, 1, 0])),
            TypeError,
            "k must be float32, got bfloat16",
        ),
        (
            lambda c, rows: _core.kv_cache_append(c, 0, rows(2, 5), rows(2, 5), dg.Sequences([2])),
            ValueError,
            "new must have 3 sequences, got 1",
        ),
        (
            lambda c, rows: _core.kv_cache_append(c, 0, rows(2, 5), rows(2, 5), dg.Sequences([2, 0, 0])),
            ValueError,
            "extend must count the rows of new first, got length 1 with 2 new rows for sequence 0",
        ),
        (
            lambda c, rows: _core.kv_cache_append(c, -1, rows(2, 5), rows(2, 5), dg.Sequences([1, 1, 0])),
            ValueError,
            "attention must be at least 0, got -1",
        ),
        (lambda c, rows: _core.kv_cache_memory(c, 4), ValueError, "must hold the memory for attention 4, got none"),
        (
            lambda c, rows: _core.kv_cache_reorder(c, dg.tensor([1.0], "cpu").data),
            TypeError,
            "indices must be int32, got float32",
        ),
        (
            lambda c, rows: _core.kv_cache_reorder(c, dg.tensor(np.array([3], np.int32)).data),
            ValueError,
            r"indices must lie in \[0, 3\), got 3",
        ),
        (
            lambda c, rows: _core.kv_cache_reorder(c, dg.tensor(np.array([-1], np.int32)).data),
            ValueError,
            r"indices must lie in \[0, 3\), got -1",
        ),
    ],
    ids=range(14),
)
def test_errors_name_the_argument(rng, device, call, error, message):
    cache = _core.KVCache(3)
    append(cache, rng, [1, 1, 1])
    with pytest.raises(error, match=f"KVCache: .*{message}" if "KVCache" not in message else message):
        call(cache, lambda n, features, dtype="float32": _core.Tensor.zeros([n, features], dtype, device))
    assert cache.lengths == [1, 1, 1]
