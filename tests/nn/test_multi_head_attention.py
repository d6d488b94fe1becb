"""MultiHeadAttention with its options, against float64 NumPy and finite differences, and against PyTorch."""

import dragoman as dg
import numpy as np
import pytest
import reference
from dragoman import nn
from gradcheck import assert_near, numerical_gradient

LENGTHS = [3, 0, 5, 1]


def truth(state, x, lengths, attention, causal):
    """The layer in float64, from the arrays of its state."""
    size = attention.head_dim

    def heads(kind):
        rows = reference.linear(x, state[f"{kind}_proj.weight"], state.get(f"{kind}_proj.bias")).reshape(
            len(x), -1, size
        )
        return reference.rms_norm(rows, state[f"{kind}_norm.weight"]) if f"{kind}_norm.weight" in state else rows

    q, k, v = map(heads, "qkv")
    positions, options = attention.positions, {"scale": attention.scale, "window": attention.window, "causal": causal}
    if isinstance(positions, nn.RotaryPositions):
        place, pairs = np.concatenate([np.arange(n) for n in lengths]), positions.features // 2
        angles = place[:, None] * positions.base ** (-np.arange(pairs) / pairs)
        q, k = reference.rotary(q, angles), reference.rotary(k, angles)
    elif isinstance(positions, nn.RelativeBias):
        options |= positions.options() | {"relative_bias": state["positions.weight"]}
    elif isinstance(positions, nn.Alibi):
        options["alibi_slopes"] = positions.slopes.numpy().astype(np.float64)
    elif isinstance(positions, nn.RelativeKeysValues):
        options |= {f"relative_{kind}": state[f"positions.{kind}"] for kind in ("keys", "values")}
    out, _ = reference.attention(q, k, v, lengths, lengths, **options)
    return reference.linear(out.reshape(len(x), -1), state["out_proj.weight"], state.get("out_proj.bias"))


CASES = {
    "plain": {},
    "grouped": {"kv_heads": 2, "head_dim": 3},
    "one_kv_head": {"kv_heads": 1, "bias": "kvo", "scale": 0.7},
    "wide": {"head_dim": 5, "bias": "", "window": 2},
    "qk_norm": {"qk_norm": "rms", "bias": "qk", "kv_heads": 2},
    "relative": {"positions": lambda: nn.RelativeBias(4, num_buckets=6, max_distance=4)},
    "relative_causal": {"positions": lambda: nn.RelativeBias(4, num_buckets=4, max_distance=4, bidirectional=False)},
    "alibi": {"positions": lambda: nn.Alibi(4), "window": 3},
    "shaw": {"positions": lambda: nn.RelativeKeysValues(3, max_distance=2), "head_dim": 3, "kv_heads": 2},
    "rotary": {"positions": lambda: nn.RotaryPositions(2, base=30.0), "kv_heads": 1, "qk_norm": "rms"},
}


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_output_and_every_gradient(rng, case, causal):
    case = dict(case)
    if "positions" in case:
        case["positions"] = case["positions"]()
    attention = nn.MultiHeadAttention(8, 4, **case)
    state = {k: rng.normal(0, 0.5, v.shape).astype(np.float32) for k, v in attention.state_dict().items()}
    attention.load_state_dict(state)
    state = {name: array.astype(np.float64) for name, array in state.items()}
    rows = rng.standard_normal((sum(LENGTHS), 8)).astype(np.float32)
    x, double = dg.tensor(rows, requires_grad=True), rows.astype(np.float64)
    out = attention(x, dg.Sequences(LENGTHS), causal=causal)
    assert_near(out, truth(state, double, LENGTHS, attention, causal), 2e-6)
    dy = rng.standard_normal(out.shape)
    out.backward(dy)
    leaves = {"x": (x, double), **{name: (p, state[name]) for name, p in attention.named_parameters()}}
    for leaf, array in leaves.values():
        expected = numerical_gradient(
            lambda: float((dy * truth(state, double, LENGTHS, attention, causal)).sum()), array
        )
        assert_near(leaf.grad, expected, 5e-6)


@pytest.mark.parametrize("positions", [None, nn.RotaryPositions(4), nn.Alibi(4), nn.RelativeBias(4)], ids=str)
def test_rows_that_are_not_in_use(rng, device, positions):
    """NaN rows beyond the tokens change nothing, with norms of heads, too."""
    attention = nn.MultiHeadAttention(16, 4, kv_heads=2, qk_norm="rms", positions=positions).to(device)
    rows = rng.standard_normal((5, 16)).astype(np.float32)
    results = []
    for tail in (0, 3):
        x = dg.tensor(np.concatenate([rows, np.full((tail, 16), np.nan, np.float32)]), requires_grad=True)
        out = attention(x, dg.Sequences([2, 3], capacity=5 + tail), causal=True)
        for parameter in attention.parameters():
            parameter.grad = None
        out.backward(np.ones(out.shape, np.float32))
        results.append([out.numpy()[:5], x.grad.numpy()[:5], *(p.grad.numpy() for p in attention.parameters())])
        assert not out.numpy()[5:].any()
    for exact, with_tail in zip(*results, strict=True):
        np.testing.assert_allclose(with_tail, exact, atol=1e-6)


@pytest.mark.parametrize("name", ["relative", "alibi", "grouped"])
def test_torch_has_the_same_attention(rng, name):
    """scaled_dot_product_attention with a bias as its mask, and with grouped heads."""
    torch = pytest.importorskip("torch")
    n, heads, kv_heads, size = 37, 4, 2 if name == "grouped" else 4, 8
    q, k, v = (rng.standard_normal((n, h, size)).astype(np.float32) for h in (heads, kv_heads, kv_heads))
    distance = np.arange(n)[None] - np.arange(n)[:, None]
    table, options, mask = None, {}, np.zeros((heads, n, n), np.float32)
    if name == "relative":
        table = rng.standard_normal((12, heads)).astype(np.float32)
        options = {"relative_bias": dg.tensor(table, requires_grad=True), "max_distance": 20}
        buckets = [[reference.bucket(int(d), 12, True, 20) for d in row] for row in distance]
        mask = table[np.array(buckets)].transpose(2, 0, 1)
    elif name == "alibi":
        slopes = nn.attention_positions.alibi_slopes(heads)
        options, mask = {"alibi_slopes": dg.tensor(slopes)}, -slopes[:, None, None] * abs(distance)
    ours = [dg.tensor(x, requires_grad=True) for x in (q, k, v)]
    out = dg.functional.attention(*ours, *[dg.Sequences([n])] * 2, **options)
    theirs = [torch.tensor(x.transpose(1, 0, 2).copy(), requires_grad=True) for x in (q, k, v)]
    bias = torch.tensor(np.ascontiguousarray(mask), dtype=torch.float32, requires_grad=True)
    expanded = [theirs[0], *(x.repeat_interleave(heads // kv_heads, 0) for x in theirs[1:])]
    expected = torch.nn.functional.scaled_dot_product_attention(*expanded, attn_mask=bias)
    np.testing.assert_allclose(out.numpy().transpose(1, 0, 2), expected.detach().numpy(), atol=1e-6)
    dy = rng.standard_normal(out.shape).astype(np.float32)
    out.backward(dy)
    expected.backward(torch.tensor(dy.transpose(1, 0, 2).copy()))
    for x, y in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(x.grad.numpy().transpose(1, 0, 2), y.grad.numpy(), atol=2e-6)
    if table is not None:
        expected_table = np.zeros_like(table)
        np.add.at(expected_table, np.array(buckets), bias.grad.numpy().transpose(1, 2, 0))
        np.testing.assert_allclose(options["relative_bias"].grad.numpy(), expected_table, atol=1e-5)


def test_slopes_of_the_paper():
    np.testing.assert_allclose(nn.attention_positions.alibi_slopes(8), 0.5 ** np.arange(1, 9), rtol=1e-7)
    np.testing.assert_allclose(nn.attention_positions.alibi_slopes(1), [2.0**-8], rtol=1e-7)
    six = nn.attention_positions.alibi_slopes(6)
    np.testing.assert_allclose(six, [0.25, 0.0625, 2.0**-6, 2.0**-8, 0.5, 0.125], rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.MultiHeadAttention(8, 4, kv_heads=3), "kv_heads must divide num_heads = 4, got 3"),
        (lambda: nn.MultiHeadAttention(8, 3), "num_heads must divide 8, got 3"),
        (lambda: nn.MultiHeadAttention(8, 4, head_dim=0), "head_dim must be at least 1, got 0"),
        (lambda: nn.MultiHeadAttention(8, 4, bias="w"), "bias must be made of letters of \"qkvo\", got 'w'"),
        (lambda: nn.MultiHeadAttention(8, 4, bias=True), "bias must be a str, got bool"),
        (lambda: nn.MultiHeadAttention(8, 4, qk_norm="layer"), "qk_norm must be one of rms, got 'layer'"),
        (lambda: nn.MultiHeadAttention(8, 4, window=-1), "window must be at least 0, got -1"),
        (lambda: nn.MultiHeadAttention(8, 4, scale="1"), "scale must be a number, got str"),
        (lambda: nn.MultiHeadAttention(8, 4, positions="rotary"), "positions must be an AttentionPositions, got str"),
        (lambda: nn.RelativeBias(4, num_buckets=3), "num_buckets must be at least 4, got 3"),
        (lambda: nn.RelativeBias(4, max_distance=8), "max_distance must be above 8 for 32 buckets, got 8"),
        (lambda: nn.RotaryPositions(3), "features must be even, got 3"),
        (lambda: nn.RotaryPositions(4, base=0), "base must be above 0, got 0"),
        (lambda: nn.RotaryPositions(4, scaling="linear"), "scaling must be None or a dict, got str"),
        (lambda: nn.RotaryPositions(4, scaling={"factor": 2}), "scaling must have a type of linear, ntk, llama3, yarn"),
        (lambda: nn.RotaryPositions(4, scaling={"type": "ntk"}), "must have a number factor of at least 1, got None"),
        (
            lambda: nn.RotaryPositions(4, scaling={"type": "linear", "factor": 2, "beta_fast": 3}),
            "scaling of type linear must have only factor, got 'beta_fast'",
        ),
        (
            lambda: nn.RotaryPositions(4, scaling={"type": "llama3", "factor": 2, "low_freq_factor": 4}),
            "scaling must have a low_freq_factor below high_freq_factor, got 4 and 4.0",
        ),
        (
            lambda: nn.RotaryPositions(4, base=1, scaling={"type": "ntk", "factor": 2}),
            "base must be above 1 with scaling",
        ),
        (lambda: nn.Alibi(0), "num_heads must be at least 1, got 0"),
        (lambda: nn.RelativeKeysValues(4, max_distance=0), "max_distance must be at least 1, got 0"),
        (lambda: nn.LearnedPositionalEncoding(4, 2, offset=-1), "offset must be at least 0, got -1"),
        (
            lambda: nn.SinusoidalPositionalEncoding(4, "sines"),
            "layout must be one of interleaved, halves, fairseq, got",
        ),
    ],
    ids=range(23),
)
def test_errors_name_the_argument(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_positions_are_for_self_attention(rng):
    attention, x = nn.MultiHeadAttention(8, 2, positions=nn.Alibi(2)), dg.tensor(rng.standard_normal((3, 8)))
    with pytest.raises(ValueError, match="MultiHeadAttention: memory must be None with positions"):
        attention(x, dg.Sequences([3]), x, dg.Sequences([3]))


def test_learned_positions_with_an_offset():
    """Position 0 has row `offset`; the rows before it have no gradient."""
    table = nn.LearnedPositionalEncoding(3, 2, offset=2)
    assert table.weight.shape == (5, 2)
    np.testing.assert_array_equal(table(3).numpy(), table.weight.numpy()[2:])
    table(2).sum().backward()
    np.testing.assert_array_equal(table.weight.grad.numpy(), [[0, 0], [0, 0], [1, 1], [1, 1], [1, 1]])
    with pytest.raises(ValueError, match="LearnedPositionalEncoding: a sequence must have at most 3 tokens, got 4"):
        table(4)


def test_halves_are_the_interleaved_columns():
    whole, halves = (nn.positional.sinusoidal_table(9, 7, layout) for layout in ("interleaved", "halves"))
    np.testing.assert_array_equal(halves, np.concatenate([whole[:, 0::2], whole[:, 1::2]], 1))
    assert nn.SinusoidalPositionalEncoding(6, "halves")(100).shape[0] >= 100
