"""Parameters from and to torch.nn.Transformer's names; against PyTorch itself see test_parity.py."""

import dataclasses

import dragoman as dg
import ml_dtypes
import numpy as np
import pytest

CONFIG = dg.TransformerConfig(
    vocab_size=11,
    d_model=4,
    num_heads=2,
    d_ff=6,
    num_encoder_layers=1,
    num_decoder_layers=2,
    final_norm=True,
)


@pytest.fixture
def model():
    return dg.Transformer(CONFIG)


def test_names_and_shapes_are_pytorchs(model):
    state = dg.interop.to_torch_state_dict(model)
    assert state["encoder.layers.0.self_attn.in_proj_weight"].shape == (12, 4)
    assert state["decoder.layers.1.multihead_attn.in_proj_bias"].shape == (12,)
    assert state["decoder.layers.1.linear2.weight"].shape == (4, 6)
    assert {name for name in state if name.startswith("decoder.layers.0.")} == {
        *(
            f"decoder.layers.0.{attention}.{name}"
            for attention in ("self_attn", "multihead_attn")
            for name in ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
        ),
        *(
            f"decoder.layers.0.{part}.{kind}"
            for part in ("linear1", "linear2", "norm1", "norm2", "norm3")
            for kind in ("weight", "bias")
        ),
    }
    assert {"encoder.norm.weight", "encoder.norm.bias", "decoder.norm.weight", "decoder.norm.bias"} <= set(state)


def test_queries_keys_and_values_are_thirds(model):
    merged = dg.interop.to_torch_state_dict(model)["encoder.layers.0.self_attn.in_proj_weight"]
    attention = model.encoder.layers[0].self_attention
    for part, projection in zip(
        np.split(merged, 3), (attention.q_proj, attention.k_proj, attention.v_proj), strict=True
    ):
        np.testing.assert_array_equal(part, projection.weight)


@pytest.mark.parametrize("final_norm", [True, False])
def test_there_and_back(final_norm):
    config = dataclasses.replace(CONFIG, final_norm=final_norm)
    model, other = dg.Transformer(config), dg.Transformer(config)
    state = dg.interop.from_torch_state_dict(dg.interop.to_torch_state_dict(model), config)
    outside = {
        name: array for name, array in model.state_dict().items() if not name.startswith(("encoder.", "decoder."))
    }
    other.load_state_dict(state | outside)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name], array)


def test_other_dtypes_become_float32(model):
    state = dg.interop.to_torch_state_dict(model)
    for dtype in (np.float64, np.float16, ml_dtypes.bfloat16):
        ours = dg.interop.from_torch_state_dict({name: a.astype(dtype) for name, a in state.items()}, CONFIG)
        np.testing.assert_array_equal(
            ours["encoder.norm.weight"], state["encoder.norm.weight"].astype(dtype).astype(np.float32)
        )
        assert {array.dtype for array in ours.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda s: s.pop("encoder.layers.0.linear1.bias"),
            ValueError,
            r"must hold encoder.layers.0.linear1.bias, got none",
        ),
        (lambda s: s.update(extra=np.ones(1)), ValueError, "config has no place for extra of state"),
        (
            lambda s: s.update({"decoder.norm.bias": np.ones(5)}),
            ValueError,
            r"decoder.norm.bias must have shape \(4,\), got \(5,\)",
        ),
        (
            lambda s: s.update({"decoder.norm.bias": ["a"] * 4}),
            TypeError,
            "decoder.norm.bias must hold numbers, got dtype <U1",
        ),
        (
            lambda s: s.update({"decoder.norm.bias": None}),
            TypeError,
            "decoder.norm.bias must hold numbers, got dtype object",
        ),
    ],
    ids=range(5),
)
def test_a_state_that_does_not_fit_is_named(model, change, error, message):
    state = dg.interop.to_torch_state_dict(model)
    change(state)
    with pytest.raises(error, match=f"from_torch_state_dict: .*{message}"):
        dg.interop.from_torch_state_dict(state, CONFIG)


def test_the_configs_final_norm_must_be_pytorchs(model):
    state = dg.interop.to_torch_state_dict(model)
    with pytest.raises(ValueError, match=r"no place for encoder.norm.weight and 3 more of state; set final_norm=True"):
        dg.interop.from_torch_state_dict(state, dataclasses.replace(CONFIG, final_norm=None))
    with pytest.raises(TypeError, match="to_torch_state_dict: model must be a Transformer, got dict"):
        dg.interop.to_torch_state_dict(state)
