"""The same bits for any number of threads and, row by row, for any other rows in the batch."""

import dragoman as dg
import numpy as np
import pytest
from gradcheck import backward

THREADS = (1, 2, 3)


def tensors(rng, *shapes):
    return [dg.tensor(rng.standard_normal(shape).astype(np.float32), requires_grad=True) for shape in shapes]


def linear(kind, dropout=0.0):
    def run(rng):
        inputs = tensors(rng, (521, 130), (70, 130), (70,))
        return inputs, dg.functional.linear(*inputs, activation=kind, dropout=dropout)

    return run


def attention(**options):
    def run(rng):
        q_lengths, k_lengths = [3, 200, 1, 0, 64], [90, 150, 31, 4, 64]
        inputs = tensors(rng, (sum(q_lengths), 4, 24), (sum(k_lengths), 2, 24), (sum(k_lengths), 2, 24))
        return inputs, dg.functional.attention(*inputs, dg.Sequences(q_lengths), dg.Sequences(k_lengths), **options)

    return run


def attention_by_distance(rng):
    """Many short sequences, so that tables are summed over groups of sequences, and two of several blocks of keys."""
    lengths = [3, 200, 1, 0, 164, *[7] * 300]
    inputs = tensors(rng, (sum(lengths), 4, 24), *[(sum(lengths), 2, 24)] * 2, (12, 4), (9, 24), (9, 24))
    names = ("relative_bias", "relative_keys", "relative_values")
    options = dict(zip(names, inputs[3:], strict=True))
    return inputs, dg.functional.attention(*inputs[:3], *[dg.Sequences(lengths)] * 2, causal=True, **options)


def rotary(rng):
    lengths = [400, 0, 623]
    inputs = tensors(rng, (1023, 65))
    table = dg.nn.RotaryPositions(12)(700)
    return inputs, dg.functional.rotary(inputs[0], table, dg.Sequences(lengths), head_dim=13)


def layer_norm(rng):
    inputs = tensors(rng, (1023, 65), (65,), (65,))
    return inputs, dg.functional.layer_norm(*inputs)


def residual(rng):
    inputs = tensors(rng, (1023, 65), (1023, 65))
    return inputs, dg.functional.residual(*inputs, dropout=0.3)


def residual_layer_norm(rng):
    inputs = tensors(rng, (1023, 65), (1023, 65), (65,), (65,))
    return inputs, dg.functional.residual_layer_norm(*inputs, dropout=0.3)


def embedding(rng):
    inputs = tensors(rng, (20, 65), (400, 65))
    lengths = [400, 300, 0, 323]
    ids = rng.integers(0, 20, sum(lengths))
    return inputs, dg.functional.embedding(ids, inputs[0], dg.Sequences(lengths), positions=inputs[1], dropout=0.1)


def cross_entropy(rng):
    inputs = tensors(rng, (1023, 65))
    return inputs, dg.functional.cross_entropy(inputs[0], rng.integers(-1, 65, 1023), label_smoothing=0.1)


def linear_cross_entropy(rng):
    inputs = tensors(rng, (1023, 31), (517, 31), (517,))
    x, weight, bias = inputs
    return inputs, dg.functional.linear_cross_entropy(x, weight, rng.integers(-1, 517, 1023), bias=bias)


def repeated_operands(rng):
    inputs = tensors(rng, (1023, 65), (65,), (1023, 1), (1,))
    x, weight, column, number = inputs
    return inputs, (x * weight + column) / (number * number + 1.0)


def reductions(rng):
    inputs = tensors(rng, (1023, 65))
    x = inputs[0]
    return inputs, x.sum() + x.mean(0).sum() + x.mean(-1).sum()


def rows_and_columns(rng):
    inputs = tensors(rng, (400, 300))
    x = inputs[0]
    parts = [x[rng.integers(0, 400, 1000)], x[2:1000], x.T.transpose()]
    return inputs, dg.functional.concat(parts)[:, 17:290]


def softmax(rng):
    inputs = tensors(rng, (1023, 65))
    return inputs, inputs[0].softmax()


def matmul(rng):
    inputs = tensors(rng, (521, 130), (130, 70))
    return inputs, inputs[0] @ inputs[1]


def gate(rng):
    inputs = tensors(rng, (523, 65), (523, 65))
    return inputs, dg.functional.gate(*inputs, activation="gelu_tanh", dropout=0.2)


def pool(kind):
    def run(rng):
        inputs = tensors(rng, (1023, 65))
        return inputs, dg.functional.pool(inputs[0], dg.Sequences([400, 300, 0, 1, 322]), kind)

    return run


OPS = {
    "pool_mean": pool("mean"),
    "pool_max": pool("max"),
    "repeated_operands": repeated_operands,
    "reductions": reductions,
    "rows_and_columns": rows_and_columns,
    "softmax": softmax,
    "matmul": matmul,
    "linear": linear("none"),
    "linear_relu": linear("relu"),
    "linear_gelu": linear("gelu"),
    "linear_silu": linear("silu"),
    "gate": gate,
    "linear_dropout": linear("none", dropout=0.3),
    "linear_relu_dropout": linear("relu", dropout=0.3),
    "attention": attention(),
    "attention_causal_dropout": attention(causal=True, dropout=0.2),
    "attention_by_distance": attention_by_distance,
    "rotary": rotary,
    "layer_norm": layer_norm,
    "residual": residual,
    "residual_layer_norm": residual_layer_norm,
    "embedding": embedding,
    "cross_entropy": cross_entropy,
    "linear_cross_entropy": linear_cross_entropy,
}


@pytest.mark.parametrize("run", OPS.values(), ids=OPS)
def test_forward_and_gradients_do_not_depend_on_the_thread_count(run):
    def bits(threads):
        dg.set_num_threads(threads)
        dg.manual_seed(7)
        inputs, out = run(np.random.default_rng(5))
        upstream = np.random.default_rng(6).standard_normal(out.shape)
        if out.shape:
            backward(out, upstream)
        else:
            out.backward()
        return [out.numpy(), *(x.grad.numpy() for x in inputs)]

    expected = bits(THREADS[0])
    for threads in THREADS[1:]:
        for actual, array in zip(bits(threads), expected, strict=True):
            np.testing.assert_array_equal(actual, array)


@pytest.mark.parametrize("size", [1, 1023, 300_001])
def test_gradient_norm_does_not_depend_on_the_thread_count(rng, size):
    gradients = dg.tensor(rng.standard_normal(size).astype(np.float32))
    norms = []
    for threads in THREADS:
        dg.set_num_threads(threads)
        norms.append(dg._core.gradient_norm(gradients.data).numpy().item())
    assert len(set(norms)) == 1


@pytest.mark.parametrize("kind", ["none", "relu", "gelu"])
@pytest.mark.parametrize("features", [(31, 33), (257, 100), (512, 64), (1023, 40)])
def test_linear_rows_do_not_depend_on_the_batch(rng, kind, features):
    """Numbers of rows around the size of every tile and around the limit for few rows, and other places of a row."""
    in_features, out_features = features
    x, weight, bias = tensors(rng, (211, in_features), (out_features, in_features), (out_features,))
    dy = rng.standard_normal((211, out_features))

    def run(begin, end):
        rows = dg.tensor(x.numpy()[begin:end], requires_grad=True)
        out = dg.functional.linear(rows, weight, bias, activation=kind)
        backward(out, dy[begin:end])
        return out.numpy(), rows.grad.numpy()

    y, dx = run(0, 211)
    for begin, end in [
        (0, 1),
        (5, 6),
        (3, 5),
        (7, 11),
        (0, 12),
        (5, 18),
        (100, 131),
        (1, 66),
        (0, 130),
        (210, 211),
    ]:
        part_y, part_dx = run(begin, end)
        np.testing.assert_array_equal(part_y, y[begin:end])
        np.testing.assert_array_equal(part_dx, dx[begin:end])


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"window": 20}], ids=str)
def test_attention_of_a_sequence_does_not_depend_on_the_batch(rng, options):
    """Forward and all three gradients, with neighbours that are longer, shorter and empty."""
    q_lengths, k_lengths = [5, 130, 0, 1, 33], [70, 130, 3, 200, 33]
    q_all, k_all, v_all = (
        rng.standard_normal((sum(n), heads, 16)) for n, heads in [(q_lengths, 4), (k_lengths, 2), (k_lengths, 2)]
    )
    dy = rng.standard_normal(q_all.shape)
    q_first, k_first = np.cumsum([0, *q_lengths]), np.cumsum([0, *k_lengths])

    def run(members):
        rows = np.concatenate([np.arange(q_first[i], q_first[i + 1]) for i in members]).astype(int)
        columns = np.concatenate([np.arange(k_first[i], k_first[i + 1]) for i in members]).astype(int)
        qkv = [
            dg.tensor(x[r].astype(np.float32), requires_grad=True)
            for x, r in [(q_all, rows), (k_all, columns), (v_all, columns)]
        ]
        sequences = [dg.Sequences([lengths[i] for i in members]) for lengths in (q_lengths, k_lengths)]
        out = dg.functional.attention(*qkv, *sequences, **options)
        backward(out, dy[rows])
        return out.numpy(), *(x.grad.numpy() for x in qkv)

    whole = run(range(5))
    for members in ([0], [1], [3], [4], [0, 4], [2, 3, 4]):
        part = run(members)
        for place, actual in enumerate(part):
            first = q_first if place < 2 else k_first
            expected = np.concatenate([whole[place][first[i] : first[i + 1]] for i in members])
            np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("name", ["gelu", "layer_norm", "cross_entropy"])
def test_rows_of_pointwise_ops_do_not_depend_on_the_batch(rng, name):
    x = rng.standard_normal((67, 33)).astype(np.float32)
    ids = rng.integers(0, 33, 67)
    weight = dg.tensor(rng.standard_normal(33).astype(np.float32))

    def run(begin, end):
        rows = dg.tensor(x[begin:end], requires_grad=True)
        if name == "gelu":
            out = dg.functional.gelu(rows)
        elif name == "layer_norm":
            out = dg.functional.layer_norm(rows, weight)
        else:
            out = dg.functional.cross_entropy(rows, ids[begin:end], num_targets=10)
            out.backward()
            return None, rows.grad.numpy()
        backward(out, x[begin:end])
        return out.numpy(), rows.grad.numpy()

    y, dx = run(0, 67)
    for begin, end in [(0, 1), (3, 20), (66, 67)]:
        part_y, part_dx = run(begin, end)
        np.testing.assert_array_equal(part_dx, dx[begin:end])
        if y is not None:
            np.testing.assert_array_equal(part_y, y[begin:end])


SOURCES = [[5, 6, 7, 8, 9, 10, 11], [12], [13, 14, 15], list(range(4, 39))]
TARGETS = [[9, 8, 7], [6, 5, 4, 10, 11, 12, 13, 14], [15], list(range(40, 4, -1))]


def make_model(**changes):
    dg.manual_seed(11)
    config = dg.TransformerConfig(
        vocab_size=50,
        d_model=32,
        num_heads=4,
        num_encoder_layers=2,
        num_decoder_layers=2,
        d_ff=64,
        **changes,
    )
    return dg.Transformer(config)


@pytest.mark.parametrize("norm_first", [False, True])
def test_training_steps_do_not_depend_on_the_thread_count(norm_first):
    """Three steps with every dropout on: the same losses, gradient norms and parameters, to the bit."""

    def train(threads):
        dg.set_num_threads(threads)
        model = make_model(norm_first=norm_first, dropout=0.1, attention_dropout=0.1, activation_dropout=0.1)
        optimizer = dg.optim.AdamW(model, lr=1e-2, weight_decay=0.01, max_grad_norm=1.0)
        numbers = []
        for _ in range(3):
            loss = model.loss(SOURCES, TARGETS)
            loss.backward()
            numbers += [loss.item(), optimizer.step()]
        return numbers, model.state_dict()

    numbers, state = train(1)
    for threads in THREADS[1:]:
        other_numbers, other_state = train(threads)
        assert other_numbers == numbers
        for name, array in state.items():
            np.testing.assert_array_equal(other_state[name], array)


@pytest.mark.parametrize("norm_first", [False, True])
def test_logits_of_a_sentence_do_not_depend_on_its_batch(norm_first):
    """Other sequences change no bit."""
    model = make_model(norm_first=norm_first).eval()
    whole = model.logits(SOURCES, TARGETS)
    first = np.cumsum([0, *map(len, TARGETS)])
    for members in ([0], [1], [2], [3], [3, 0], [2, 1, 0]):
        part = model.logits([SOURCES[i] for i in members], [TARGETS[i] for i in members])
        np.testing.assert_array_equal(part, np.concatenate([whole[first[i] : first[i + 1]] for i in members]))


@pytest.mark.parametrize("norm_first", [False, True])
def test_later_targets_change_no_earlier_logits(norm_first):
    """Later tokens change no bit of earlier rows, and change every later row."""
    model = make_model(norm_first=norm_first).eval()
    before = model.logits([SOURCES[0]], [TARGETS[3]])
    for place in (1, 17, 35):
        target = TARGETS[3][:place] + [4 + token % 7 for token in TARGETS[3][place:]]
        after = model.logits([SOURCES[0]], [target])
        np.testing.assert_array_equal(after[:place], before[:place])
        assert (after[place:] != before[place:]).any(axis=1).all()
    shorter = model.logits([SOURCES[0]], [TARGETS[3][:20]])
    np.testing.assert_array_equal(shorter, before[:20])
