"""Recorded op calls, replayed on other inputs: the bits of the eager run."""

import dragoman as dg
import numpy as np
import pytest
from dragoman import _core
from dragoman.nn import KVCache
from dragoman.program import record as record_twice
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


@pytest.mark.parametrize("kind", ["mean", "max", "first", "last"])
def test_pooled_rows_follow_the_sequences(rng, kind):
    def run(x, sequences):
        return dg.functional.pool(x, sequences, kind)

    with dg.no_grad():
        program = record(run, *batch(rng, [2, 4, 3]))
        inputs = batch(rng, [9, 0, 31, 2], 3)
        np.testing.assert_array_equal(replay(program, *inputs), run(*inputs).numpy())


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


def test_attention_by_distance_on_other_rows(rng):
    """Rotary positions and every table, of other lengths; the tables are constants, which the Program reads anew."""
    shapes = {"relative_bias": (8, 2), "relative_keys": (5, 4), "relative_values": (5, 4)}
    tables = {name: dg.tensor(rng.standard_normal(shape).astype(np.float32)) for name, shape in shapes.items()}
    angles = dg.nn.RotaryPositions(4)(50)

    def run(q, k, q_sequences, k_sequences):
        q, k = (dg.functional.rotary(x, angles, s, head_dim=4) for x, s in ((q, q_sequences), (k, k_sequences)))
        return dg.functional.attention(q, k, k, q_sequences, k_sequences, max_distance=9, **tables)

    def make(q_lengths, k_lengths):
        q, k = (dg.tensor(rng.standard_normal((sum(n), 2, 4)).astype(np.float32)) for n in (q_lengths, k_lengths))
        return q, k, dg.Sequences(q_lengths), dg.Sequences(k_lengths)

    program = record(run, *make([3, 2], [3, 2]))
    tables["relative_bias"].copy_(rng.standard_normal((8, 2)))
    inputs = make([1, 40], [4, 50])
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


@pytest.fixture
def model():
    dg.manual_seed(5)
    config = dg.TransformerConfig(
        vocab_size=23, d_model=16, num_heads=2, d_ff=24, num_encoder_layers=1, num_decoder_layers=2
    )
    model = dg.Transformer(config)
    model.tgt_positions(200)  # the table is a constant of the Program: it must be long enough when recorded
    with model.inference():
        yield model


class Decoding:
    """Sentences in the middle of decoding: what a step takes."""

    def __init__(self, model, rng, src_lengths, steps):
        self.model, self.rng = model, rng
        self.src_sequences = dg.Sequences(src_lengths)
        self.memory = model.encode(rng.integers(4, 23, sum(src_lengths)), self.src_sequences)
        self.cache, self.sentences = KVCache(len(src_lengths)), list(range(len(src_lengths)))
        for _ in range(steps):
            n = len(src_lengths)
            model.decode(rng.integers(4, 23, n), dg.Sequences([1] * n), self.memory, self.src_sequences, self.cache)

    def inputs(self, parents=None):
        """Of the step that follows, whose row i extends what row parents[i] is."""
        parents = list(range(len(self.sentences))) if parents is None else parents
        self.sentences = [self.sentences[i] for i in parents]
        ids = dg.tensor(self.rng.integers(4, 23, len(parents)).astype(np.int32))
        read = self.src_sequences.select(self.sentences)
        one_each = dg.Sequences([1] * len(parents))
        return dg.tensor(np.array(parents, np.int32)), ids, one_each, self.memory, read, self.cache


def step_of(model):
    def step(parents, ids, one_each, memory, read, cache):
        cache.reorder(parents)
        hidden = model.decode(ids, one_each, memory, read, cache)
        return model.project(hidden), hidden

    return step


def test_a_recorded_decoding_step_is_the_eager_one(rng, model):
    """At other batch sizes, steps and source lengths, with other hypotheses, past two growths of the cache's slots."""
    step = step_of(model)
    first, second = Decoding(model, rng, [3, 2], 3), Decoding(model, rng, [1, 4, 2], 40)
    program = record_twice(step, first.inputs([1, 1, 0]), second.inputs([0, 2]))
    assert "reshape" not in program.op_names
    for src_lengths, steps in ([3, 2], 1), ([7], 30), ([2, 5, 1, 1, 9], 60):
        seed = int(rng.integers(2**31))
        eager, replayed = (Decoding(model, np.random.default_rng(seed), src_lengths, steps) for _ in range(2))
        n = len(src_lengths)
        for parents in (None, [n - 1] * (n + 2), None, [0, 1, n + 1], *[None] * 6, [2], None):
            expected, results = step(*eager.inputs(parents)), program(*replayed.inputs(parents))
            for x, y in zip(expected, results, strict=True):
                np.testing.assert_array_equal(x.numpy(), y.numpy())
        assert replayed.cache.lengths == eager.cache.lengths == [steps + 12]


def test_a_program_can_mix_with_eager_steps(rng, model):
    step = step_of(model)
    program = record_twice(step, Decoding(model, rng, [3, 2], 1).inputs(), Decoding(model, rng, [1], 4).inputs())
    eager, mixed = (Decoding(model, np.random.default_rng(3), [4, 4], 2) for _ in range(2))
    for run in (program, step, program):
        expected, _ = step(*eager.inputs())
        result, _ = run(*mixed.inputs())
        np.testing.assert_array_equal(expected.numpy(), result.numpy())


def test_a_cache_without_the_memory_is_refused(rng, model):
    program = record_twice(
        step_of(model), Decoding(model, rng, [3, 2], 1).inputs(), Decoding(model, rng, [1], 4).inputs()
    )
    with pytest.raises(ValueError, match="KVCache: the cache must hold the memory for attention 1, got none"):
        program(*Decoding(model, rng, [2], 0).inputs())


def test_the_first_step_projects_the_memory_so_it_is_another_function(rng, model):
    first, second = Decoding(model, rng, [2], 0), Decoding(model, rng, [3], 1)
    parents, ids, one_each, memory, _, cache = first.inputs()
    with pytest.raises(ValueError, match="record: the function must call the same ops whatever its inputs, got"):
        record_twice(step_of(model), (parents, ids, one_each, memory, first.src_sequences, cache), second.inputs())


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: dg.tensor([1.0]), "a tensor of host values"),
        (lambda: dg.functional.embedding([1], dg.Tensor(_core.Tensor.zeros([3, 2])), SEQUENCES), "a tensor of host"),
        (lambda: dg.from_dlpack(np.ones(3, np.float32)), "a tensor of another library's memory"),
        (lambda: dg.Sequences([1]), "a Sequences"),
        (lambda: dg.Sequences.slotted([1], 2), "a Sequences"),
        (lambda: SEQUENCES.select([0]), "a Sequences"),
    ],
    ids=["tensor", "ids", "dlpack", "Sequences", "slotted", "select"],
)
def test_what_would_become_a_constant_may_not_be_made(make, what):
    with pytest.raises(ValueError, match=f"record: {what}.* while a program is recorded: make it before and pass it"):
        record(lambda x: make(), dg.tensor([1.0]))
    make()


SEQUENCES = dg.Sequences([1])


def rows(n):
    return [dg.tensor(np.ones((n, 4), np.float32))]


WEIGHTS = [dg.tensor(np.eye(4, dtype=np.float32)) for _ in range(5)]


@pytest.mark.cpu
@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x.reshape(x.shape[0] * 2, 2), "record: reshape: shape must not depend on the inputs"),
        (lambda x: x * (1 / x.shape[0]), "record: binary_forward: number must not depend on the inputs"),
        (lambda x: dg.functional.linear(x, WEIGHTS[x.shape[0]]), "record: linear_forward: weight must not depend"),
        (lambda x: dg.functional.dropout(x, 0.5), "record: dropout_forward: dropout must not depend"),
        (
            lambda x: dg.functional.attention(x, x, x, *[ROWS[x.shape[0]]] * 2, num_heads=2),
            "record: attention_forward: q_sequences must not depend",
        ),
        (
            lambda x: dg.functional.relu(x) if x.shape[0] == 2 else x * 2.0,
            "same ops .*got activation_forward and binary_forward",
        ),
        (lambda x: x * 2.0 if x.shape[0] == 2 else x * 2.0 * 2.0, "the same ops .*got 1 and 2 calls"),
        (lambda x: dg.Tensor(x.data.narrow(0, 1)) * 2.0, r"record: binary_forward: \w+ must be an input or the result"),
    ],
    ids=["shape", "factor", "weight", "dropout", "sequences", "op", "calls", "part"],
)
def test_what_depends_on_the_inputs_is_named(function, message):
    with pytest.raises(ValueError, match=message):
        record_twice(function, rows(2), rows(3))


ROWS = {n: dg.Sequences([n]) for n in (2, 3)}


def test_a_head_count_that_differs_is_named():
    def run(x):
        return dg.functional.attention(x, x, x, ROWS[2], ROWS[2], num_heads=heads.pop())

    heads = [2, 4]
    with pytest.raises(ValueError, match="record: attention_forward: options must not depend on the inputs"):
        record_twice(run, rows(2), rows(2))


def test_a_cache_must_be_an_input():
    cache = KVCache(1)
    with pytest.raises(ValueError, match="record: kv_cache_starts: cache must be an input of the Program"):
        record(lambda x: cache.starts(), dg.tensor([1.0]))


def test_inputs_of_another_kind_are_named():
    program = record_twice(lambda x: x * 2.0, rows(2), rows(3))
    np.testing.assert_array_equal(program(*rows(5))[0].numpy(), 2 * np.ones((5, 4)))
    with pytest.raises(TypeError, match="record: input 0 must be a Tensor, Sequences or KVCache, got ndarray"):
        program(np.ones(3))
    with pytest.raises(TypeError, match="replay: input 0 must be of the kind that was recorded"):
        program(SEQUENCES)


def test_a_copy_into_a_tensor_is_refused_while_recording():
    weight = dg.tensor(np.ones(4, np.float32))

    def forward(x):
        weight.copy_(np.full(4, x.shape[0]))
        return x * weight

    inputs = [dg.tensor(np.ones((rows, 4), np.float32)) for rows in (3, 5)]
    with pytest.raises(ValueError, match="copy_: a recorded Program would not repeat it"):
        record_twice(forward, [inputs[0]], [inputs[1]])
