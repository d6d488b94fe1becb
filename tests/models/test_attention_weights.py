"""`attention_weights` of every kind of model and of attention, against float64 NumPy from what each attention reads."""

import dragoman as dg
import numpy as np
import pytest
import reference
from dragoman.models import DecoderConfig, EncoderConfig, TextDecoder, TextEncoder, VisionConfig, VisionTransformer
from dragoman.plot import attention_page

SIZES = {"d_model": 16, "num_heads": 4, "d_ff": 24}
KINDS = {
    "plain": {},
    "learned": {"positions": "learned"},
    "grouped": {"kv_heads": 2, "head_dim": 6, "qk_norm": "rms", "attention_bias": ""},
    "relative": {"positions": "relative", "position_buckets": 8, "position_distance": 20, "attention_scale": 1.0},
    "window": {"positions": "alibi", "window": 3, "kv_heads": 1},
    "shaw": {"positions": "shaw", "position_distance": 3, "window": 4},
    "rotary": {"positions": "rotary", "rotary_features": 2},
}
IDS, TARGET = [1, *range(5, 16), 2], [1, 7, 9, 8, 11, 20, 6]


def translator(**fields):
    config = dg.TransformerConfig(vocab_size=30, num_encoder_layers=2, num_decoder_layers=2, **SIZES, **fields)
    return dg.Transformer(config), (IDS, TARGET)


def encoder(**fields):
    return TextEncoder(EncoderConfig(vocab_size=30, num_layers=2, head="tag", labels=["a"], **SIZES, **fields)), (IDS,)


def decoder(**fields):
    return TextDecoder(DecoderConfig(vocab_size=30, num_layers=2, **SIZES, **fields)), (IDS,)


def vision(**fields):
    config = VisionConfig(labels=["a"], image_size=6, patch_size=2, channels=1, num_layers=2, **SIZES, **fields)
    return VisionTransformer(config), (np.arange(36, dtype=np.uint8).reshape(6, 6) * 7,)


CASES = [(make, kind) for make in (translator, encoder, decoder) for kind in KINDS]
CASES += [(vision, "plain"), (vision, "grouped")]


def truth(attention, x, memory, causal):
    """The weights of one sequence, float64 (heads, queries, keys)."""

    def heads(layer, rows, norm):
        bias = None if layer.bias is None else layer.bias.numpy().astype(np.float64)
        rows = reference.linear(rows, layer.weight.numpy().astype(np.float64), bias)
        rows = rows.reshape(len(rows), -1, attention.head_dim)
        return rows if norm is None else reference.rms_norm(rows, norm.weight.numpy().astype(np.float64), norm.eps)

    read = x if memory is None else memory
    q, k = heads(attention.q_proj, x, attention.q_norm), heads(attention.k_proj, read, attention.k_norm)
    options = {"causal": causal, "window": attention.window}
    if (positions := attention.positions) is not None:
        options |= {
            name: value.numpy().astype(np.float64) if isinstance(value, dg.Tensor) else value
            for name, value in positions.options().items()
        }
        if isinstance(positions, dg.nn.RotaryPositions):
            pairs = positions.features // 2
            angles = np.arange(len(x))[:, None] * positions.base ** (-np.arange(pairs) / pairs)
            q, k = reference.rotary(q, angles), reference.rotary(k, angles)
    _, (weights,) = reference.attention(q, k, np.zeros_like(k), [len(q)], [len(k)], scale=attention.scale, **options)
    return weights


@pytest.mark.parametrize(("make", "kind"), CASES, ids=[f"{make.__name__}-{kind}" for make, kind in CASES])
def test_they_are_the_softmax_of_what_each_attention_reads(make, kind, monkeypatch, rng):
    dg.manual_seed(0)
    model, example = make(**KINDS[kind])
    model.load_state_dict(
        {k: v + rng.normal(0, 0.3, v.shape).astype(np.float32) for k, v in model.state_dict().items()}
    )
    read, call = {}, dg.nn.MultiHeadAttention.__call__

    def noted(self, x, sequences, memory=None, memory_sequences=None, *, causal=False, cache=None):
        rows = [None if each is None else each.numpy().astype(np.float64) for each in (x, memory)]
        read[self] = (*rows, causal)
        return call(self, x, sequences, memory, memory_sequences, causal=causal, cache=cache)

    monkeypatch.setattr(dg.nn.MultiHeadAttention, "__call__", noted)
    weights = model.attention_weights(*example)
    stacks = {"encoder": getattr(model, "encoder", None), "decoder": getattr(model, "decoder", None)}
    attentions = {name: [layer.self_attention for layer in stack.layers] for name, stack in stacks.items() if stack}
    if make is translator:
        attentions["cross"] = [layer.cross_attention for layer in model.decoder.layers]
    assert list(weights) == list(attentions)
    for name, layers in attentions.items():
        for found, attention in zip(weights[name], layers, strict=True):
            expected = truth(attention, *read[attention])
            assert found.shape == expected.shape and found.shape[0] == 4
            np.testing.assert_allclose(found, expected, atol=2e-5, err_msg=name)
            np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)
            assert ((found == 0) | (expected > 0)).all()  # nothing where nothing may be seen
    tokens = {name: [str(i) for i in range(layers[0].shape[1])] for name, layers in weights.items()}
    assert len(attention_page(weights, tokens.get("encoder"), tokens.get("decoder"))) > 5000
