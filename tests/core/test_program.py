"""Recorded op calls, replayed on other inputs: the bits of the eager run."""

import dragoman as dg
import numpy as np
import pytest
from dragoman import _core
from gradcheck import next_mask


def record(function, *inputs):
    """function(*inputs) -> Program; inputs are Tensors or Sequences, the result is a Tensor."""
    recorder = _core.Recorder()
    try:
        out = function(*inputs)
        return recorder.finish([getattr(x, "data", x) for x in inputs], [out.data])
    finally:
        recorder.stop()


def replay(program, *inputs):
    (out,) = program.replay([getattr(x, "data", x) for x in inputs])
    return out.numpy()


@pytest.fixture
def block(rng):
    """An encoder-like function of (x, sequences), and its weights."""
    weights = [dg.tensor(rng.standard_normal((8, 8)).astype(np.float32)) for _ in range(2)]
    gain = dg.tensor(np.ones(8, np.float32))

    def run(x, sequences):
        hidden = dg.functional.linear(x, weights[0], activation="gelu", sequences=sequences)
        heads = hidden.reshape(-1, 2, 4)
        attended = dg.functional.attention(heads, heads, heads, sequences, sequences, causal=True)
        out = dg.functional.linear(attended.reshape(-1, 8), weights[1], sequences=sequences)
        return dg.functional.layer_norm(dg.functional.residual(out, x, sequences=sequences), gain, sequences=sequences)

    return run, weights


def batch(rng, lengths, tail=0):
    x = rng.standard_normal((sum(lengths) + tail, 8)).astype(np.float32)
    x[sum(lengths) :] = np.nan
    return dg.tensor(x), dg.Sequences(lengths, capacity=len(x))


@pytest.mark.parametrize("lengths", [[5, 3], [1], [9, 0, 31, 2], [0]])
@pytest.mark.parametrize("tail", [0, 3])
def test_replay_with_other_row_counts_is_the_eager_run(rng, block, lengths, tail):
    run, _ = block
    with dg.no_grad():
        program = record(run, *batch(rng, [2, 4, 3]))
        inputs = batch(rng, lengths, tail)
        for _ in range(2):
            np.testing.assert_array_equal(replay(program, *inputs), run(*inputs).numpy())
    assert program.op_names[0] == "linear_forward"
    assert program.op_names[-1] == "layer_norm_forward"


@pytest.mark.parametrize("lengths", [[5, 3], [1], [9, 0, 31, 2], [0]])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_plain_operations_replay_with_other_row_counts(rng, lengths, dtype):
    """Shapes, means and joined rows come from the inputs, not from what was recorded."""
    weight, bias = (dg.tensor(rng.standard_normal(shape), dtype=dtype) for shape in ((8, 6), (6,)))
    ids = dg.tensor(np.array([1, 0, 5], np.int32))

    def run(x, sequences):
        hidden = x @ weight + bias
        gate = 1.0 / (1.0 + (-hidden).exp()).sqrt() - hidden.softmax().maximum(0.25)
        wide = dg.functional.concat([hidden * gate, gate, gate, gate, x[:, 1:5]], 1)
        tall = dg.functional.concat([wide, wide / 3.0])
        centred = tall - tall.mean(0, keepdims=True) * tall.sum(-1, keepdims=True)
        return centred.T[ids]

    def rows(count):
        return dg.tensor(rng.standard_normal((count, 8)), dtype=dtype), None

    with dg.no_grad():
        program = record(run, *rows(9))
        inputs = rows(sum(lengths))
        np.testing.assert_array_equal(replay(program, *inputs), run(*inputs).data.numpy())


def test_a_program_follows_the_weights_it_was_recorded_with(rng, block):
    run, weights = block
    inputs = batch(rng, [3, 2])
    program = record(run, *inputs)
    weights[1].copy_(rng.standard_normal((8, 8)))
    np.testing.assert_array_equal(replay(program, *inputs), run(*inputs).numpy())


def test_sequences_that_are_equal_while_recording_stay_apart(rng):
    """Queries and keys have the same lengths in the recorded run, and different lengths in the replayed one."""

    def run(q, k, q_sequences, k_sequences):
        return dg.functional.attention(q, k, k, q_sequences, k_sequences)

    def make(q_lengths, k_lengths):
        q, k = (dg.tensor(rng.standard_normal((sum(n), 2, 4)).astype(np.float32)) for n in (q_lengths, k_lengths))
        return q, k, dg.Sequences(q_lengths), dg.Sequences(k_lengths)

    program = record(run, *make([3, 2], [3, 2]))
    inputs = make([1, 1], [4, 2])
    np.testing.assert_array_equal(replay(program, *inputs), run(*inputs).numpy())


def test_intermediate_memory_goes_back_while_replaying(rng):
    """Twenty layers of 400 kB each need memory for two or three at a time."""
    weight = dg.tensor(np.eye(100, dtype=np.float32))

    def run(x):
        for _ in range(20):
            x = dg.functional.linear(x, weight)
        return x

    x = dg.tensor(rng.standard_normal((1000, 100)).astype(np.float32))
    with dg.no_grad():
        program = record(run, x)
    dg.reset_peak_memory_stats()
    before = dg.memory_stats()["allocated"]
    replay(program, x)
    assert dg.memory_stats()["peak_allocated"] - before < 4 * 500_000


def test_reading_values_while_recording_is_refused(rng):
    x = dg.tensor(rng.standard_normal((2, 2)).astype(np.float32))
    recorder = _core.Recorder()
    try:
        assert _core.is_recording()
        with pytest.raises(ValueError, match="record: the values of a tensor may not be read"):
            np.asarray(x)
        with pytest.raises(ValueError, match="record: this thread is recording a program already"):
            _core.Recorder()
    finally:
        recorder.stop()
    assert not _core.is_recording()
    np.asarray(x)


def test_errors(rng):
    x, y = (dg.tensor(rng.standard_normal((2, 2)).astype(np.float32)) for _ in range(2))
    program = record(lambda x: x * 2.0, x)
    with pytest.raises(ValueError, match="replay: expected 1 inputs, got 2"):
        program.replay([x.data, y.data])
    with pytest.raises(TypeError, match="replay: input 0 must be of the kind that was recorded"):
        program.replay([3])
    with pytest.raises(ValueError, match="record: output 0 was made by none of the recorded ops"):
        record(lambda x: y, x)
    weight = dg.tensor(np.ones((3, 2), np.float32))
    program = record(lambda x: dg.functional.linear(x, weight), x)
    with pytest.raises(ValueError, match=r"linear: weight"):
        replay(program, dg.tensor(np.ones((2, 5), np.float32)))


def test_a_recorded_dropout_keeps_its_mask(rng):
    mask = next_mask(4, 8, 0.5).astype(np.float32)
    program = record(lambda x: dg.functional.dropout(x, 0.5), dg.tensor(np.ones((4, 8), np.float32)))
    x = rng.standard_normal((4, 8)).astype(np.float32)
    np.testing.assert_array_equal(replay(program, dg.tensor(x)), x * mask)
