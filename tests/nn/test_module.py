"""Modules: names, state, modes, initial values, and layers with rows beyond `tokens`."""

import threading

import dragoman as dg
import numpy as np
import pytest
import reference
from dragoman import nn
from dragoman._core import Sequences
from dragoman.nn.init import skip_init


class Tied(nn.Module):
    def __init__(self):
        self.embedding = nn.Embedding(7, 4)
        self.layers = [nn.Linear(4, 3), nn.Linear(3, 4, bias=False)]
        self.output = nn.Linear(4, 7, bias=False, weight=self.embedding.weight)
        self.scale = 2.0


def test_names_follow_attributes_and_tied_parameters_count_once():
    module = Tied()
    assert {name: p.shape for name, p in module.named_parameters()} == {
        "embedding.weight": (7, 4),
        "layers.0.weight": (3, 4),
        "layers.0.bias": (3,),
        "layers.1.weight": (4, 3),
    }
    assert [name for name, _ in module.named_modules()] == ["", "embedding", "layers.0", "layers.1", "output"]
    assert module.num_parameters() == 28 + 15 + 12
    assert len(module.parameters()) == 4


def test_repr_is_a_tree_of_shapes_and_counts():
    assert repr(Tied()).splitlines() == [
        "Tied, 55 parameters",
        "  embedding: Embedding, 28 parameters",
        "    weight (7, 4) 28",
        "  layers.0: Linear, 15 parameters",
        "    weight (3, 4) 12",
        "    bias (3,) 3",
        "  layers.1: Linear, 12 parameters",
        "    weight (4, 3) 12",
        "  output: Linear, 28 parameters",
        "    weight (7, 4) tied to embedding.weight",
    ]


def test_state_is_a_copy_and_loads_into_the_same_memory():
    source, target = Tied(), Tied()
    memory = [p.data.data_ptr for p in target.parameters()]
    state = source.state_dict()
    target.load_state_dict(state)
    assert [p.data.data_ptr for p in target.parameters()] == memory
    for name, value in target.state_dict().items():
        np.testing.assert_array_equal(value, state[name])
    state["embedding.weight"][:] = 0
    assert source.embedding.weight.numpy().any()
    assert target.output.weight is target.embedding.weight


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("layers.1.weight"), "missing parameters: layers.1.weight"),
        (lambda s: s.update({"output.weight": np.zeros((7, 4))}), "unexpected parameters: output.weight"),
        (
            lambda s: s.update({"layers.0.bias": np.zeros(4, np.float32)}),
            r"layers.0.bias must have shape \(3,\)",
        ),
        (
            lambda s: s.update({"layers.0.bias": np.zeros(3)}),
            "layers.0.bias must be float32, float16 or bfloat16, got float64",
        ),
    ],
)
def test_a_state_that_does_not_fit_is_refused_whole(change, message):
    module = Tied()
    before = module.state_dict()
    state = {name: value + 1 for name, value in before.items()}
    change(state)
    with pytest.raises(ValueError, match=message):
        module.load_state_dict(state)
    for name, value in module.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_modes_reach_the_whole_tree_and_inference_gives_them_back():
    module = Tied()
    assert module.training and module.layers[0].training
    module.eval()
    assert not any(m.training for _, m in module.named_modules())
    module.train()
    module.output.eval()
    with module.inference():
        assert not any(m.training for _, m in module.named_modules())
        assert not dg.is_grad_enabled()
    assert module.training and module.layers[1].training and not module.output.training
    assert dg.is_grad_enabled()


def test_dropout_is_at_work_in_training_only():
    x = dg.tensor(np.ones((50, 40), np.float32))
    dropout = nn.Dropout(0.25)
    dropped = dropout(x).numpy()
    assert 0.2 < (dropped == 0).mean() < 0.3
    assert set(np.unique(dropped)) == {np.float32(0), np.float32(4 / 3)}
    np.testing.assert_array_equal(dropout.eval()(x), x)


def check_uniform(linear, bound):
    weight = linear.weight.numpy()
    assert np.abs(weight).max() <= bound
    assert weight.std() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert abs(weight.mean()) < 0.02 * bound


def test_initial_values():
    check_uniform(nn.Linear(300, 100), (6 / 400) ** 0.5)
    attention = nn.MultiHeadAttention(128, 4)
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        check_uniform(projection, (6 / 512) ** 0.5)  # as of one matrix for all three
    check_uniform(attention.out_proj, (6 / 256) ** 0.5)
    assert nn.Embedding(1000, 64).weight.numpy().std() == pytest.approx(64**-0.5, rel=0.02)
    assert not nn.Linear(3, 2).bias.numpy().any()
    norm = nn.LayerNorm(5)
    assert (norm.weight.numpy() == 1).all() and not norm.bias.numpy().any()


def test_the_seed_decides_the_initial_values():
    dg.manual_seed(5)
    first, second = nn.Linear(4, 4).weight.numpy(), nn.Linear(4, 4).weight.numpy()
    assert (first != second).any()
    dg.manual_seed(5)
    np.testing.assert_array_equal(nn.Linear(4, 4).weight, first)


def test_skip_init_draws_nothing():
    dg.manual_seed(5)
    with skip_init():
        assert nn.Linear(4, 4).weight.shape == nn.Embedding(4, 4).weight.shape == (4, 4)
    after = nn.Linear(4, 4).weight.numpy()
    dg.manual_seed(5)
    np.testing.assert_array_equal(nn.Linear(4, 4).weight, after)


def test_skip_init_has_limits():
    with skip_init(max_parameters=2), pytest.raises(ValueError, match=r"a parameter of shape \(7, 4\) is more than"):
        nn.Linear(4, 3), nn.Embedding(7, 4)
    with skip_init(max_values=10**6), pytest.raises(ValueError, match=r"a parameter of shape \(1000000, 1000000\)"):
        nn.Linear(10**6, 10**6)
    with skip_init(max_parameters=1, max_values=16):
        nn.Linear(4, 4, bias=False)


@pytest.mark.parametrize("features", [1, 6, 7])
def test_sinusoidal_table(features):
    encoding = nn.SinusoidalPositionalEncoding(features)
    table = encoding(200).numpy()
    assert table.shape[0] >= 200 and table.dtype == np.float32
    for position in (0, 1, 63, 64, 199):
        for column in range(features):
            angle = position / 10000 ** ((column - column % 2) / features)
            assert table[position, column] == np.float32(np.cos(angle) if column % 2 else np.sin(angle))
    assert not encoding.parameters()


def test_learned_positions_have_an_end():
    encoding = nn.LearnedPositionalEncoding(8, 4)
    assert encoding(8) is encoding.weight
    with pytest.raises(ValueError, match="at most 8 tokens, got 9"):
        encoding(9)


def test_constructors_name_what_is_wrong():
    with pytest.raises(ValueError, match="num_heads must divide 6, got 4"):
        nn.MultiHeadAttention(6, 4)
    weight = nn.Parameter(np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"Linear: weight must have shape \(2, 3\), got \(3, 2\)"):
        nn.Linear(3, 2, weight=weight)
    with pytest.raises(ValueError, match=r"Embedding: weight must have shape \(2, 3\), got \(3, 2\)"):
        nn.Embedding(2, 3, weight=weight)
    attention, one = nn.MultiHeadAttention(4, 2), Sequences([1])
    x = dg.tensor(np.zeros((1, 4), np.float32))
    with pytest.raises(ValueError, match="memory_sequences must be given"):
        attention(x, one, x)


def test_attention_against_the_reference(rng):
    attention = nn.MultiHeadAttention(12, 3)
    state = {name: value.astype(np.float64) for name, value in attention.state_dict().items()}
    x, memory = rng.standard_normal((5, 12)), rng.standard_normal((7, 12))
    q_lengths, k_lengths = [2, 0, 3], [4, 1, 2]

    def project(rows, name):
        return reference.linear(rows, state[f"{name}_proj.weight"], state[f"{name}_proj.bias"])

    heads = [project(*pair).reshape(-1, 3, 4) for pair in ((x, "q"), (memory, "k"), (memory, "v"))]
    truth, weights = reference.attention(*heads, q_lengths, k_lengths)
    tensors = [dg.tensor(array) for array in (x, memory)]
    with nn.record_attention() as record:
        out = attention(tensors[0], Sequences(q_lengths), tensors[1], Sequences(k_lengths))
    reference.assert_close(out, project(truth.reshape(-1, 12), "out"))
    for actual, expected in zip(record[attention], weights, strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_threads_may_be_in_inference_together():
    """Whoever leaves first leaves the others without dropout; the last one restores the modes, in any order."""
    module = dg.nn.Linear(2, 2)
    for first, second in (("a", "b"), ("b", "a")):
        inside, leave = threading.Barrier(3), {name: threading.Event() for name in "ab"}

        def infer(name, inside=inside, leave=leave):
            with module.inference():
                inside.wait(30)
                leave[name].wait(30)

        threads = {name: threading.Thread(target=infer, args=name) for name in "ab"}
        for thread in threads.values():
            thread.start()
        inside.wait(30)
        leave[first].set()
        threads[first].join()
        assert not module.training
        leave[second].set()
        threads[second].join()
        assert module.training


def test_inference_may_be_nested():
    module = dg.nn.Linear(2, 2)
    with module.inference():
        with module.inference():
            assert not module.training
        assert not module.training
    assert module.training
    module.eval()
    with module.inference():
        assert not module.training
    assert not module.training
