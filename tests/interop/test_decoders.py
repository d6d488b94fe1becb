"""Decoder-only families: names of tensors, spellings of config.json, what is refused, and back; and the fixtures."""

import json

import dragoman as dg
import numpy as np
import pytest
from dragoman.models import DecoderConfig, TextDecoder
from huggingface_folders import assert_close, change_json, checkpoint, expected, losses
from safetensors.numpy import load_file, save_file

FOLDERS = [
    *[
        ("tiny", name)
        for name in ("gpt2", "llama", "llama3-rope", "llama-linear", "mistral-window", "qwen2", "smollm3")
    ],
    *[("tiny", name) for name in ("gemma", "gemma2", "gemma3")],
    *[("formats", name) for name in ("llama-sharded", "llama-bfloat16", "llama-old-rope", "gpt2-hub")],
]

SIZES = {"vocab_size": 31, "d_model": 12, "d_ff": 20, "num_layers": 3, "max_length": 32, "pad_id": None, "unk_id": None}
GPT2 = {
    **{**SIZES, "num_heads": 3, "positions": "learned", "norm_first": True, "activation": "gelu_tanh"},
    "scale_embeddings": False,
}
LLAMA = {
    **{**SIZES, "num_heads": 4, "kv_heads": 2, "head_dim": 6, "positions": "rotary", "norm": "rms", "norm_eps": 1e-6},
    **{"norm_first": True, "gated": True, "activation": "silu", "scale_embeddings": False, "tie_embeddings": False},
    **{"attention_bias": "", "feed_forward_bias": False},
}
GEMMA = {**LLAMA, "scale_embeddings": True, "tie_embeddings": True, "activation": "gelu_tanh"}
GEMMA2 = {**GEMMA, "sandwich_norm": True}
GEMMA3 = {**GEMMA, "sandwich_norm": True, "qk_norm": "rms", "attention_scale": 7**-0.5}
YARN = {"type": "yarn", "factor": 4, "original_max_length": 8, "beta_fast": 16, "attention_factor": 1.25}
LLAMA3 = {"type": "llama3", "factor": 4, "original_max_length": 8, "low_freq_factor": 1, "high_freq_factor": 3}
MODELS = {  # model_type, config
    "gpt2": ("gpt2", GPT2),
    "gpt2, scaled by layer": ("gpt2", {**GPT2, "layers": [{"attention_scale": 0.5 / (i + 1)} for i in range(3)]}),
    "llama": ("llama", {**LLAMA, "attention_bias": "qkvo", "feed_forward_bias": True, "eos_id": [2, 5]}),
    "llama, yarn": ("llama", {**LLAMA, "rotary_base": 50.0, "rotary_scaling": YARN}),
    "llama, llama3": ("llama", {**LLAMA, "rotary_scaling": LLAMA3, "tie_embeddings": True}),
    "mistral": ("mistral", {**LLAMA, "window": 3}),
    "qwen2": (
        "qwen2",
        {**LLAMA, "attention_bias": "qkv", "layers": [{}, {"window": 2}, {"window": 2}], "eos_id": None},
    ),
    "qwen3": ("qwen3", {**LLAMA, "qk_norm": "rms"}),
    "smollm3": ("smollm3", {**LLAMA, "layers": [{}, {"positions": "none"}]}),
    "gemma": ("gemma", {**GEMMA, "bos_id": 2, "eos_id": 1}),
    "gemma2": ("gemma2", {**GEMMA2, "layers": [{"window": 4}, {}], "score_cap": 2.5, "logit_cap": 1.5}),
    "gemma2, no caps": ("gemma2", GEMMA2),
    "gemma3": (
        "gemma3_text",
        {**GEMMA3, "layers": [{"window": 4, "rotary_base": 50.0}, {"rotary_base": 1e5, "rotary_scaling": LLAMA3}]},
    ),
}
LAYER = {
    "gpt2": [
        *("attn.c_attn.bias", "attn.c_attn.weight", "attn.c_proj.bias", "attn.c_proj.weight", "ln_1.bias"),
        *("ln_1.weight", "ln_2.bias", "ln_2.weight", "mlp.c_fc.bias", "mlp.c_fc.weight", "mlp.c_proj.bias"),
        "mlp.c_proj.weight",
    ],
    "qwen3": [
        *("input_layernorm.weight", "mlp.down_proj.weight", "mlp.gate_proj.weight", "mlp.up_proj.weight"),
        *("post_attention_layernorm.weight", "self_attn.k_norm.weight", "self_attn.k_proj.weight"),
        *("self_attn.o_proj.weight", "self_attn.q_norm.weight", "self_attn.q_proj.weight", "self_attn.v_proj.weight"),
    ],
    "gemma3": [
        *("input_layernorm.weight", "mlp.down_proj.weight", "mlp.gate_proj.weight", "mlp.up_proj.weight"),
        *("post_attention_layernorm.weight", "post_feedforward_layernorm.weight", "pre_feedforward_layernorm.weight"),
        *("self_attn.k_norm.weight", "self_attn.k_proj.weight", "self_attn.o_proj.weight", "self_attn.q_norm.weight"),
        *("self_attn.q_proj.weight", "self_attn.v_proj.weight"),
    ],
}
IDS = [[1, 5, 6, 7, 8, 9, 3, 4, 5, 6, 11], [7], [2, 30, 12]]


def model_of(name):
    """A model of ours with weights that show every option."""
    config = DecoderConfig(**MODELS[name][1], dropout=0.0, embedding_dropout=0.0)
    model, rng = TextDecoder(config), np.random.default_rng(3)
    for parameter in model.parameters():
        if len(parameter.shape) > 1:
            parameter.copy_(rng.normal(0, 1.2 / parameter.shape[-1] ** 0.5, parameter.shape))
        else:  # numbers that stay as they are when Gemma's norms are written less one
            parameter.copy_(parameter.numpy() + rng.integers(-512, 512, parameter.shape) / 1024)
    return model.eval()


def saved(tmp_path, name):
    model = model_of(name)
    model.save_pretrained(tmp_path, model_type=MODELS[name][0])
    return model


def change_tensors(folder, change):
    arrays = load_file(folder / "model.safetensors")
    save_file(change(arrays), folder / "model.safetensors")


@pytest.mark.parametrize("name", MODELS)
def test_what_is_saved_is_what_is_loaded(tmp_path, name):
    model = saved(tmp_path, name)
    again = dg.load(tmp_path)
    np.testing.assert_array_equal(again.logits(IDS), model.logits(IDS))
    assert again.config.eos_id == model.config.eos_id
    again.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again/config.json").read_text() == (tmp_path / "config.json").read_text()


@pytest.mark.parametrize(
    ("name", "begin", "others"),
    [
        ("gpt2", "transformer.h", {"transformer.wte", "transformer.wpe", "transformer.ln_f"}),
        ("qwen3", "model.layers", {"model.embed_tokens", "model.norm", "lm_head"}),
        ("gemma3", "model.layers", {"model.embed_tokens", "model.norm"}),
    ],
)
def test_names_of_tensors(tmp_path, name, begin, others):
    saved(tmp_path, name)
    names = set(load_file(tmp_path / "model.safetensors"))
    layers = {f"{begin}.{i}.{tensor}" for i in range(3) for tensor in LAYER[name]}
    norms = {"transformer.ln_f.bias"} if name == "gpt2" else set()
    assert names == layers | norms | {f"{tensor}.weight" for tensor in others}


def test_gpt2_without_a_prefix_and_with_masks(tmp_path):
    model = saved(tmp_path, "gpt2")
    mask = np.ones((1, 1, 32, 32), bool)

    def as_on_the_hub(arrays):
        found = {name.removeprefix("transformer."): array for name, array in arrays.items()}
        buffers = {f"h.{i}.attn.bias": mask for i in range(3)} | {"h.0.attn.masked_bias": np.float32([-1e4])}
        return found | buffers

    change_tensors(tmp_path, as_on_the_hub)
    np.testing.assert_array_equal(dg.load(tmp_path).logits(IDS), model.logits(IDS))


def test_the_head_is_tied_by_what_is_in_the_file(tmp_path):
    model = saved(tmp_path, "gemma")
    embedding = "model.embed_tokens.weight"
    change_tensors(tmp_path, lambda arrays: arrays | {"lm_head.weight": arrays[embedding].copy()})
    change_json(tmp_path, tie_word_embeddings=False)
    assert dg.load(tmp_path).config.tie_embeddings  # the values are the same
    change_tensors(tmp_path, lambda arrays: {k: array for k, array in arrays.items() if k != embedding})
    loaded = dg.load(tmp_path)  # the head's name alone
    assert loaded.config.tie_embeddings
    np.testing.assert_array_equal(loaded.logits(IDS), model.logits(IDS))
    change_tensors(tmp_path, lambda arrays: arrays | {embedding: arrays["lm_head.weight"] * 2})
    change_json(tmp_path, tie_word_embeddings=True)
    assert not dg.load(tmp_path).config.tie_embeddings


def test_weights_of_a_model_without_its_prefix(tmp_path):
    model = saved(tmp_path, "llama, llama3")
    change_tensors(tmp_path, lambda arrays: {name.removeprefix("model."): array for name, array in arrays.items()})
    np.testing.assert_array_equal(dg.load(tmp_path).logits(IDS), model.logits(IDS))


SCALED = {"rope_type": "llama3", "factor": 4, "low_freq_factor": 1, "high_freq_factor": 3}


@pytest.mark.parametrize(
    "fields",
    [
        {"rope_scaling": ..., "rope_theta": ..., "rope_parameters": {**SCALED, "rope_theta": 10000.0}},
        {"rope_scaling": {**SCALED, "rope_type": ..., "type": "llama3"}, "rope_theta": ...},
        {"rope_scaling": {**SCALED, "original_max_position_embeddings": 8}, "max_position_embeddings": 99},
        {"rope_scaling": {**SCALED, "original_max_position_embeddings": 99}, "original_max_position_embeddings": 8},
    ],
    ids=["version 5", "type", "original length in the scaling", "original length outside"],
)
def test_spellings_of_rotary_positions(tmp_path, fields):
    model = saved(tmp_path, "llama, llama3")
    fields = {"max_position_embeddings": 8, **fields}
    if isinstance(fields["rope_scaling"], dict):
        fields["rope_scaling"] = {key: value for key, value in fields["rope_scaling"].items() if value is not ...}
    change_json(tmp_path, **fields)
    np.testing.assert_array_equal(dg.load(tmp_path).logits(IDS), model.logits(IDS))


def test_null_is_nothing_where_an_absent_field_has_a_default(tmp_path):
    saved(tmp_path, "mistral")
    for window, distance in ((None, None), (..., 4095), (7, 6)):
        change_json(tmp_path, sliding_window=window)
        assert dg.load(tmp_path).config.window == distance


def test_caps_of_gemma2(tmp_path):
    saved(tmp_path, "gemma2")
    change_json(tmp_path, attn_logit_softcapping=..., final_logit_softcapping=...)
    assert (dg.load(tmp_path).config.score_cap, dg.load(tmp_path).config.logit_cap) == (50, 30)
    change_json(tmp_path, attn_logit_softcapping=None, final_logit_softcapping=None)
    assert (dg.load(tmp_path).config.score_cap, dg.load(tmp_path).config.logit_cap) == (None, None)


def test_special_tokens(tmp_path):
    saved(tmp_path, "llama")
    change_json(tmp_path, bos_token_id=30, eos_token_id=[31, 2], pad_token_id=None)
    config = dg.load(tmp_path).config
    assert (config.bos_id, config.eos_id, config.pad_id) == (30, 2, None)  # 31 is no token
    change_json(tmp_path, pad_token_id=-1)
    assert dg.load(tmp_path).config.pad_id is None
    change_json(tmp_path, eos_token_id=...)
    assert dg.load(tmp_path).config.eos_id == 2


REFUSED = {
    "dynamic": (
        "llama",
        {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
        r"rope_scaling\.type must be one of default",
    ),
    "longrope": ("llama", {"rope_scaling": {"rope_type": "longrope"}}, r"rope_scaling\.rope_type .* got 'longrope'"),
    "unknown field": (
        "llama",
        {"rope_scaling": {"type": "linear", "factor": 2, "mrope_section": [1]}},
        "mrope_section",
    ),
    "no factor": ("llama", {"rope_scaling": {"type": "linear"}}, r"rope_scaling\.factor must be given"),
    "partial": ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor must be 1.0"),
    "activation": ("llama", {"hidden_act": "relu2"}, "hidden_act must be one of .* got 'relu2'"),
    "layer types": ("qwen2", {"layer_types": ["full_attention", "chunked", "full_attention"]}, "layer_types must be"),
    "too few": ("qwen2", {"layer_types": ["full_attention"]}, "layer_types must be a list of 3"),
    "no window": ("qwen2", {"use_sliding_window": False}, "sliding_window must be"),
    "rope of layers": ("smollm3", {"no_rope_layers": [1, 2, 1]}, "no_rope_layers must be a list of 3"),
    "both ways": ("gemma3", {"use_bidirectional_attention": True}, "use_bidirectional_attention must be"),
    "cross-attention": ("gpt2", {"add_cross_attention": True}, "add_cross_attention must be"),
    "heads": ("gpt2", {"n_head": 5}, "config.json.*num_heads"),
    "cap": ("gemma2", {"attn_logit_softcapping": 0}, "attn_logit_softcapping must be a number above 0"),
}


@pytest.mark.parametrize(("name", "fields", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_understood_is_refused_by_name(tmp_path, name, fields, message):
    saved(tmp_path, name)
    change_json(tmp_path, **fields)
    with pytest.raises(ValueError, match=message) as error:
        dg.load(tmp_path)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize(
    ("model_type", "fields", "message"),
    [
        ("llama", {**LLAMA, "qk_norm": "rms"}, "qk_norm"),
        ("llama", {**LLAMA, "window": 3}, "window"),
        ("mistral", {**LLAMA, "layers": [{"window": 3}, {}]}, "layers"),
        ("qwen2", LLAMA, "attention_bias"),
        ("gpt2", LLAMA, "kv_heads"),
        ("gpt2", {**GPT2, "attention_scale": 0.25}, "attention_scale"),
        ("llama", {**LLAMA, "rotary_scaling": {"type": "ntk", "factor": 2}}, "rotary_scaling must have a type of"),
        ("qwen3", {**LLAMA, "qk_norm": "rms", "layers": [{"window": 3}, {"window": 4}]}, "window must be the same"),
    ],
)
def test_a_model_that_a_family_cannot_hold_is_not_saved(tmp_path, model_type, fields, message):
    model = TextDecoder(DecoderConfig(**fields))
    with pytest.raises(ValueError, match=f"save_pretrained: .*{message}"):
        model.save_pretrained(tmp_path / "out", model_type=model_type)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("adapters", [False, True])
@pytest.mark.parametrize(
    "name", ["gpt2", "llama, yarn", "mistral", "qwen2", "qwen3", "smollm3", "gemma", "gemma2", "gemma3"]
)
def test_fine_tuning(tmp_path, name, adapters):
    saved(tmp_path, name)
    model = dg.load(tmp_path)
    if adapters:
        dg.lora.add(model, rank=2)
    found = losses(model, 1e-2, IDS)
    assert found[-1] < 0.9 * found[0]
    model.eval().save_pretrained(tmp_path / "tuned")
    np.testing.assert_allclose(dg.load(tmp_path / "tuned").logits(IDS), model.logits(IDS), atol=1e-4)


@pytest.mark.parametrize("parts", FOLDERS, ids="/".join)
def test_logits_of_checkpoints(parts):
    folder = checkpoint(*parts)
    wanted = expected(folder)
    assert_close(dg.load(folder).logits(wanted["ids"].tolist()), wanted["logits"])


@pytest.mark.parametrize("name", ["gpt2", "gemma3"])
def test_an_adapter_has_the_names_of_the_checkpoint(tmp_path, name):
    saved(tmp_path, name)
    model, rng = dg.load(tmp_path), np.random.default_rng(0)
    dg.lora.add(model, rank=2, alpha=3.0, modules=["q_proj", "v_proj", "linear2"])
    for ours, parameter in model.named_parameters():
        if ".adapters." in ours:
            parameter.copy_(rng.normal(0, 0.3, parameter.shape))
    dg.lora.save(model, tmp_path / "adapter")
    arrays = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    first = "base_model.model." + (
        "transformer.h.0.attn.c_attn" if name == "gpt2" else "model.layers.0.self_attn.q_proj"
    )
    rank = 4 if name == "gpt2" else 2  # queries and values are in one product
    assert arrays[f"{first}.lora_A.weight"].shape == (rank, 12)
    assert config["lora_alpha"] / config["r"] == 1.5 and config["r"] == rank
    assert config["fan_in_fan_out"] == (name == "gpt2")
    again = dg.load(tmp_path)
    dg.lora.load(again, tmp_path / "adapter")
    np.testing.assert_allclose(again.logits(IDS), model.logits(IDS), atol=1e-5)
    own = model_of(name)  # of no checkpoint: the names are ours
    dg.lora.add(own, modules=["q_proj"])
    dg.lora.save(own, tmp_path / "own")
    names = load_file(tmp_path / "own" / "adapter_model.safetensors")
    assert "base_model.model.decoder.layers.0.self_attention.q_proj.lora_A.weight" in names
    dg.lora.load(model, tmp_path / "own", "own")
