"""kv_cache ops, and attention over a cache against attention over the packed sequences."""

import dragoman as dg
import numpy as np
import pytest
from dragoman import _core
from gradcheck import with_tail


def test_append_puts_rows_behind_what_is_there(rng):
    slot, features = 6, 5
    cache = dg.tensor(np.full((3 * slot, features), -1, np.float32))
    expected = cache.numpy().copy()
    held = [0, 0, 0]
    for new in ([2, 1, 0], [1, 0, 3], [3, 1, 3]):
        rows = rng.standard_normal((sum(new), features)).astype(np.float32)
        held = [a + b for a, b in zip(held, new, strict=True)]
        _core.kv_cache_append(
            cache.data,
            dg.tensor(with_tail(rows, 2)).data,
            dg.Sequences(new, capacity=sum(new) + 2),
            dg.Sequences.slotted(held, slot),
        )
        taken = 0
        for i, (n, total) in enumerate(zip(new, held, strict=True)):
            expected[i * slot + total - n : i * slot + total] = rows[taken : taken + n]
            taken += n
    np.testing.assert_array_equal(cache.numpy(), expected)


def test_reorder_copies_whole_slots(rng):
    slot = 4
    cache = rng.standard_normal((3 * slot, 7)).astype(np.float32)
    indices = np.array([2, 0, 0, 1, 2], np.int32)
    out = _core.kv_cache_reorder(dg.tensor(cache).data, dg.tensor(indices).data, slot)
    np.testing.assert_array_equal(out.numpy().reshape(5, slot, 7), cache.reshape(3, slot, 7)[indices])


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
    lengths, slot, heads, head_dim = [9, 4], 9, 2, 4
    q, k, v = (rng.standard_normal((13, heads, head_dim)).astype(np.float32) for _ in range(3))
    whole = dg.functional.attention(
        *map(dg.tensor, (q, k, v)), dg.Sequences(lengths), dg.Sequences(lengths), causal=True
    ).numpy()
    caches = [dg.tensor(np.full((2 * slot, heads * head_dim), np.nan, np.float32)) for _ in range(2)]
    for step in range(4):
        rows = [step, 9 + step]
        layout = dg.Sequences.slotted([step + 1, step + 1], slot)
        new = dg.Sequences([1, 1])
        for cache, source in zip(caches, (k, v), strict=True):
            _core.kv_cache_append(cache.data, dg.tensor(source[rows].reshape(2, -1)).data, new, layout)
        out = dg.functional.attention(
            dg.tensor(q[rows]), *(c.reshape(-1, heads, head_dim) for c in caches), new, layout, causal=True
        )
        np.testing.assert_array_equal(out.numpy(), whole[rows])


def test_errors_name_the_argument():
    cache, rows = _core.Tensor.zeros([12, 5]), _core.Tensor.zeros([2, 5])
    slotted = dg.Sequences.slotted([1, 1, 1], 4)
    with pytest.raises(ValueError, match=r"kv_cache_append: rows .*\(2, 4\)"):
        _core.kv_cache_append(cache, _core.Tensor.zeros([2, 4]), dg.Sequences([1, 1, 0]), slotted)
    with pytest.raises(ValueError, match=r"kv_cache_append: new_sequences"):
        _core.kv_cache_append(cache, rows, dg.Sequences([2]), slotted)
    with pytest.raises(ValueError, match=r"kv_cache_append: .*sequences"):
        _core.kv_cache_append(cache, rows, dg.Sequences([2, 0, 0]), slotted)
    for bad in ([3], [-1]):
        with pytest.raises(ValueError, match=r"kv_cache_reorder: indices must lie in \[0, 3\).*got " + str(bad[0])):
            _core.kv_cache_reorder(cache, dg.tensor(np.array(bad, np.int32)).data, 4)
    with pytest.raises(ValueError, match=r"kv_cache_reorder: slot"):
        _core.kv_cache_reorder(cache, dg.tensor(np.zeros(1, np.int32)).data, 5)
