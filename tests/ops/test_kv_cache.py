"""kv_cache ops, and attention over a cache against attention over the packed sequences."""

import dragoman as dg
import numpy as np
import pytest
from dragoman import _core
from gradcheck import with_tail


def contents(cache, attention=0):
    """The keys of each sequence, by an append of no rows."""
    empty = dg.Sequences([0] * len(cache.lengths))
    rows = dg.tensor(np.ones((0, FEATURES), np.float32)).data
    keys, _, sequences = _core.kv_cache_append(cache, attention, rows, rows, empty)
    offsets = sequences.offsets.numpy()
    return [keys.numpy()[offsets[i] : offsets[i] + n] for i, n in enumerate(sequences.lengths)]


FEATURES = 5


def append(cache, rng, new, attention=0, tail=0, dtype="float32"):
    """Random keys for `new` rows of each sequence, and their negatives as values; returns the keys by sequence."""
    sequences = dg.Sequences(new, capacity=sum(new) + tail)
    rows = rng.standard_normal((sum(new), FEATURES)).astype(np.float32)
    k, v = (dg.tensor(with_tail(x, tail), dtype=dtype).data for x in (rows, -rows))
    _core.kv_cache_extend(cache, sequences)
    keys, values, layout = _core.kv_cache_append(cache, attention, k, v, sequences)
    offsets = layout.offsets.numpy()
    for i, n in enumerate(layout.lengths):
        used = slice(offsets[i], offsets[i] + n)
        np.testing.assert_array_equal(dg.Tensor(keys).numpy()[used], -dg.Tensor(values).numpy()[used])
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
    new, rows = dg.Sequences([2]), dg.tensor(rng.standard_normal((2, FEATURES))).data
    _core.kv_cache_append(cache, 7, rows, rows, new)
    np.testing.assert_array_equal(contents(cache, 0), first)
    np.testing.assert_array_equal(contents(cache, 7), rows.numpy()[None])


def test_bfloat16_rows_stay_bfloat16(rng):
    cache = _core.KVCache(2)
    rows = append(cache, rng, [3, 1], dtype="bfloat16")
    _core.kv_cache_reorder(cache, dg.tensor(np.array([1, 0], np.int32)).data)
    empty = dg.tensor(np.ones((0, FEATURES)), dtype="bfloat16").data
    keys, _, layout = _core.kv_cache_append(cache, 0, empty, empty, dg.Sequences([0, 0]))
    assert keys.dtype == "bfloat16"
    first = layout.offsets.numpy()[1]
    np.testing.assert_array_equal(
        dg.Tensor(keys).numpy()[first : first + 3], dg.tensor(rows[0], dtype="bfloat16").numpy()
    )


@pytest.mark.parametrize("indices", [[2, 0, 0, 1, 2], [1], [], [0, 1, 2]], ids=str)
def test_reorder_copies_sequences(rng, indices):
    cache = _core.KVCache(3)
    rows = append(cache, rng, [4, 0, 33])
    _core.kv_cache_reorder(cache, dg.tensor(np.array(indices, np.int32)).data)
    assert cache.lengths == [[4, 0, 33][i] for i in indices]
    for actual, i in zip(contents(cache), indices, strict=True):
        np.testing.assert_array_equal(actual, rows[i])


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


def test_steps_over_a_cache_are_the_whole_causal_pass(rng):
    """Token by token, each row has the same bits as in one pass over the whole sequence."""
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
        np.testing.assert_array_equal(out.numpy(), whole[rows].reshape(2, -1))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
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
    ids=range(13),
)
def test_errors_name_the_argument(rng, device, call, error, message):
    cache = _core.KVCache(3)
    append(cache, rng, [1, 1, 1])
    with pytest.raises(error, match=f"KVCache: .*{message}" if "KVCache" not in message else message):
        call(cache, lambda n, features, dtype="float32": _core.Tensor.zeros([n, features], dtype, device))
    assert cache.lengths == [1, 1, 1]
