"""Attention of a device beside the CPU's: what only a device treats apart, and equal bits."""

import dragoman as dg
import numpy as np
import pytest
from dragoman import _core

DTYPES = ["float32", "bfloat16"]


@pytest.fixture(autouse=True)
def _on_a_device(device):
    if device == "cpu":
        pytest.skip("compares a device with the CPU")


def on(device, dtype, *arrays):
    return [dg.tensor(np.asarray(x, np.float32), device, dtype).data for x in arrays]


def numpy(*tensors):
    return [dg.Tensor(x).numpy().astype(np.float32) for x in tensors]


def test_a_mask_has_the_bits_of_the_cpu():
    """With equal scores and one-hot values the output is the mask: forward by queries, dv by keys."""
    n, m, heads = 70, 128, 3
    zeros, eye = np.zeros((n, heads, m)), np.repeat(np.eye(m)[:, None], heads, axis=1)
    for dtype in DTYPES:
        for step in (0, 2**33 + 5):
            masks = []
            for device in ("cpu", "cuda"):
                dropout = _core.Dropout(0.3, 2**40 + 1, 7, 3, dg.tensor(np.array(step), device).data)
                options = _core.AttentionOptions(dropout=dropout)
                sequences = dg.Sequences([n]), dg.Sequences([m], max_length=131)
                q, k, v = on(device, dtype, zeros, zeros[:1].repeat(m, axis=0), eye)
                out, logsumexp, _ = _core.attention_forward(q, k, v, *sequences, options)
                (dout,) = on(device, dtype, np.repeat(np.eye(n, m)[:, None], heads, axis=1))
                _, _, dv = _core.attention_backward(dout, q, k, v, out, logsumexp, *sequences, options)
                masks.append([x != 0 for x in numpy(out, dv)])
            for here, there in zip(*masks, strict=True):
                assert here.any()
                np.testing.assert_array_equal(here, there)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("head_dim", [32, 33, 80, 96, 128, 129])
def test_heads_of_every_tile(rng, head_dim, bias, dtype):
    """Several tiles of queries and keys, with two heads of queries to one of keys and a tail of NaN."""
    n, m, tail = [70, 0, 3], [200, 4, 9], 2
    sequences = [dg.Sequences(lengths, capacity=sum(lengths) + tail) for lengths in (n, m)]
    shapes = [(73, 4), (213, 2), (213, 2), (73, 4)]
    arrays = [
        np.concatenate([rng.standard_normal((*s, head_dim)), np.full((tail, s[1], head_dim), np.nan)]) for s in shapes
    ]
    dropout = _core.Dropout(0.2, 3, 4, 5)
    options = _core.AttentionOptions(
        causal=True, window=150, query_offset=90, dropout=dropout, bias="relative" if bias else "none", max_distance=50
    )
    results = []
    for device in ("cpu", "cuda"):
        q, k, v, dout = on(device, dtype, *arrays)
        tables = on(device, "float32", np.arange(80).reshape(20, 4) % 7, np.ones((20, 4))) if bias else []
        out, logsumexp, _ = _core.attention_forward(q, k, v, *sequences, options, *tables[:1])
        more = (tables[0], None, None, tables[1], True) if bias else ()
        gradients = _core.attention_backward(dout, q, k, v, out, logsumexp, *sequences, options, *more)
        results.append(numpy(out, logsumexp, *gradients, *tables[1:]))
    for here, there in zip(*results, strict=True):
        bar = (1e-2 if dtype == "bfloat16" else 2e-6) * max(1.0, np.abs(here[np.isfinite(here)]).max())
        np.testing.assert_allclose(there, here, rtol=0, atol=bar)


@pytest.mark.parametrize("dtype", DTYPES)
def test_keys_of_a_cache(rng, dtype):
    """Sequences in slots, several of which read the same one. NaN lies beside them."""
    slots, lengths, chosen = 80, [0, 70, 3], [2, 1, 1, 0]
    k, v = rng.standard_normal((2, 3 * slots, 2, 16))
    for i, length in enumerate(lengths):
        k[i * slots + length : (i + 1) * slots] = v[i * slots + length : (i + 1) * slots] = np.nan
    q = rng.standard_normal((6, 4, 16))
    queries = dg.Sequences([1, 3, 1, 1])
    keys = _core.Sequences.slotted(lengths, slots).select(chosen)
    options = _core.AttentionOptions(causal=True, return_weights=True)
    here, there = (
        numpy(*_core.attention_forward(*on(device, dtype, q, k, v), queries, keys, options))
        for device in ("cpu", "cuda")
    )
    for actual, expected in zip(there, here, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-2 if dtype == "bfloat16" else 2e-6)
    assert not there[0][5:].any()


def test_heads_of_any_width_or_a_refusal():
    q = dg.tensor(np.ones((1, 1, 2000), np.float32))
    with pytest.raises(
        RuntimeError, match="attention_forward: attention heads of this width are not supported on cuda"
    ):
        dg.functional.attention(q, q, q, dg.Sequences([1]), dg.Sequences([1]))
