"""Sequences: packed, slotted and selected layouts."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import dragoman as dg
import ml_dtypes
import numpy as np
import pytest
from dragoman import _core


def test_packed():
    sequences = dg.Sequences([3, 0, 5, 2])
    np.testing.assert_array_equal(np.asarray(sequences.offsets.numpy()), [0, 3, 3, 8, 10])
    assert (sequences.tokens, sequences.capacity, sequences.max_length, len(sequences)) == (10, 10, 5, 4)
    assert sequences.lengths == [3, 0, 5, 2]
    assert dg.Sequences([3], capacity=7).capacity == 7
    assert dg.Sequences([]).tokens == 0
    assert dg.Sequences([2, 1]) == dg.Sequences([2, 1])
    assert dg.Sequences([2, 1]) != dg.Sequences([1, 2])
    assert "tokens=10" in repr(sequences)


def test_max_length_may_be_a_bound():
    sequences = dg.Sequences([3, 0, 5], max_length=9)
    assert (sequences.max_length, sequences.tokens) == (9, 8)
    assert sequences == dg.Sequences([3, 0, 5])
    assert dg.Sequences([], max_length=4).max_length == 4
    assert sequences.to_padded(np.arange(8)).shape == (3, 9)


def test_slotted_and_selected():
    slotted = dg.Sequences.slotted([2, 0, 3], 4)
    np.testing.assert_array_equal(slotted.offsets.numpy()[:3], [0, 4, 8])
    assert (slotted.capacity, slotted.packed) == (12, False)
    chosen = slotted.select([2, 2, 0])
    assert chosen.lengths == [3, 3, 2]
    np.testing.assert_array_equal(chosen.offsets.numpy()[:3], [8, 8, 0])
    assert chosen.capacity == 12


def test_there_is_one_class():
    selected = dg.Sequences.slotted([2, 0, 3], 4).select([2, 0])
    _, from_padded = dg.Sequences.from_padded(np.ones((1, 2)), [1])
    assert _core.Sequences is dg.Sequences
    assert {type(selected), type(from_padded), type(dg.Sequences([1]))} == {dg.Sequences}
    assert repr(selected) == "Sequences(tokens=5, sequences=2, capacity=12)"


def test_to_padded_of_any_layout():
    rows = np.arange(12)
    slotted = dg.Sequences.slotted([2, 0, 3], 4)
    np.testing.assert_array_equal(slotted.to_padded(rows, fill=-1), [[0, 1, -1], [-1, -1, -1], [8, 9, 10]])
    np.testing.assert_array_equal(slotted.select([2, 0]).to_padded(rows, fill=-1), [[8, 9, 10], [0, 1, -1]])


def test_offsets_are_a_copy():
    sequences = dg.Sequences([2, 3])
    sequences.offsets.copy_(np.full(3, 2**30, np.int32))
    np.testing.assert_array_equal(sequences.offsets.numpy(), [0, 2, 5])
    x = dg.tensor(np.ones((5, 1, 8), np.float32))
    np.testing.assert_array_equal(dg.functional.attention(x, x, x, sequences, sequences).numpy(), x.numpy())


def test_a_rehearsal_leaves_no_trace_in_sequences():
    sequences, x = dg.Sequences([2, 3], capacity=7), np.full((7, 4), -1.0, np.float32)
    x[5:] = np.nan
    rehearsal = _core.Rehearsal()
    try:
        dg.functional.relu(dg.tensor(x), sequences=sequences)
    finally:
        rehearsal.stop()
    assert not dg.functional.relu(dg.tensor(x), sequences=sequences).numpy().any()


def test_threads_may_share_sequences():
    x = dg.tensor(np.ones((64, 4), np.float32))
    for _ in range(20):
        sequences = dg.Sequences([30, 30], capacity=64)
        with ThreadPoolExecutor(4) as pool:
            outs = list(pool.map(lambda _, s=sequences: dg.functional.relu(x, sequences=s).numpy().sum(), range(8)))
        assert outs == [240.0] * 8


def padded_by(mask, **options):
    mask = np.array(mask)
    return dg.Sequences.from_padded(np.ones(np.atleast_2d(mask).shape), mask=mask, **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dg.Sequences([3, -1]), r"Sequences: lengths must .*got -1 at position 1"),
        (lambda: dg.Sequences([3, 2], capacity=4), r"Sequences: capacity must lie in \[5, .*got 4"),
        (lambda: dg.Sequences([2**31 - 1, 1]), r"Sequences: lengths must .*at position 1"),
        (lambda: dg.Sequences([3, 5], max_length=4), r"Sequences: max_length must lie in \[5, .*got 4"),
        (lambda: dg.Sequences.slotted([5], 4), r"Sequences: lengths must lie in \[0, 4\], got 5"),
        (lambda: dg.Sequences([1]).select([1]), r"Sequences.select: indices must lie in \[0, 1\), got 1"),
        (lambda: dg.Sequences.from_padded(np.ones((2, 3)), [1, 4]), r"lengths must lie in \[0, 3\], got \[1, 4\]"),
        (lambda: dg.Sequences.from_padded(np.ones((2, 3)), [1]), r"lengths must have shape \(2,\) .*got \(1,\)"),
        (lambda: dg.Sequences([2]).to_padded(np.ones((3, 1))), r"to_padded: rows must have 2 rows, got shape"),
        (lambda: dg.Sequences.from_padded(np.ones((2, 3))), "from_padded: either lengths or mask must be given"),
        (lambda: padded_by([[True, False]], lengths=[1]), "from_padded: either lengths or mask must be given"),
        (lambda: padded_by([[True, False], [False, True]]), "mask must be True, then False.* in row 1"),
        (lambda: padded_by([[True, False, True], [False, False, True]]), "mask must be True.* in row 0"),
        (lambda: padded_by([True, False]), r"mask must have shape \(1, 2\), got \(2,\)"),
        (lambda: dg.Sequences.from_padded(np.ones(3), [1]), "array must have at least 2 dimensions"),
    ],
    ids=range(15),
)
def test_errors_name_the_argument(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("lengths", [[3, 0, 4], [0, 0], [1]])
def test_rectangles_there_and_back(rng, lengths):
    padded = rng.standard_normal((len(lengths), max(lengths), 5)).astype(np.float32)
    rows, sequences = dg.Sequences.from_padded(padded, lengths)
    np.testing.assert_array_equal(rows.numpy(), np.concatenate([padded[i, :n] for i, n in enumerate(lengths)]))
    assert sequences.lengths == lengths
    back = sequences.to_padded(rows, fill=-1)
    for i, n in enumerate(lengths):
        np.testing.assert_array_equal(back[i, :n], padded[i, :n])
        assert (back[i, n:] == -1).all()


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.int32])
def test_a_mask_says_what_may_be_attended_to(dtype):
    padded = np.arange(12).reshape(3, 4).astype(dtype)
    mask = np.array([[True, True, False, False], [False] * 4, [True] * 4])
    rows, sequences = dg.Sequences.from_padded(padded, mask=mask)
    assert sequences.lengths == [2, 0, 4]
    assert rows.numpy().dtype == dtype
    np.testing.assert_array_equal(rows.numpy(), padded[mask])
    np.testing.assert_array_equal(sequences.mask(), mask)
    np.testing.assert_array_equal(sequences.to_padded(rows), np.where(mask, padded, 0))


def test_a_mask_of_numbers_is_refused():
    with pytest.raises(TypeError, match="mask must be bool, True for a row in use, got dtype int64"):
        padded_by([[1, 0]])


def test_to_padded_leaves_the_tail_out():
    rows = np.array([[1], [2], [np.nan], [np.nan]], np.float32)
    np.testing.assert_array_equal(dg.Sequences([1, 1], capacity=4).to_padded(rows), [[[1]], [[2]]])


def test_row_ops_refuse_a_slotted_layout():
    with pytest.raises(ValueError, match="sequences must be packed, got a slotted"):
        dg.functional.relu(dg.tensor(np.ones((4, 2), np.float32)), sequences=dg.Sequences.slotted([1, 1], 2))


@pytest.mark.cpu
def test_each_device_gets_one_copy_of_the_arrays():
    """The device "test" lets no host read or write its memory."""
    sequences, x = dg.Sequences([2, 3], capacity=7), np.full((7, 4), np.nan, np.float32)
    x[:5] = 1.0
    on_test = dg.tensor(x, device="test")
    uploads = _core.test_device_counts()["uploads"]
    out = dg.functional.relu(on_test, sequences=sequences)
    assert _core.test_device_counts()["uploads"] == uploads + 1
    again = dg.functional.relu(out, sequences=sequences)
    assert _core.test_device_counts()["uploads"] == uploads + 1
    on_cpu = dg.functional.relu(dg.tensor(x), sequences=sequences)
    for result in (out, again, on_cpu):
        np.testing.assert_array_equal(result.numpy(), np.nan_to_num(x))
    q = dg.tensor(np.arange(14, dtype=np.float32).reshape(7, 1, 2), device="test")
    attended = dg.functional.attention(q, q, q, sequences, sequences).numpy()
    host = dg.tensor(q.numpy())
    np.testing.assert_array_equal(attended, dg.functional.attention(host, host, host, sequences, sequences).numpy())


def test_packed_sequences_survive_copy_and_pickle():
    sequences = dg.Sequences([2, 0, 3], capacity=7, max_length=4)
    for twin in (copy.deepcopy(sequences), pickle.loads(pickle.dumps(sequences))):
        assert twin == sequences and twin.max_length == 4
    with pytest.raises(TypeError, match="only packed ones can be copied or pickled"):
        copy.copy(sequences.select([2, 0]))
