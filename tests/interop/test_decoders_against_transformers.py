"""Decoder-only models of transformers, saved by it and opened here: the same logits, searches and texts, and back."""

import dragoman as dg
import numpy as np
import pytest
from dragoman.generate import generate
from dragoman.nn import KVCache

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore::FutureWarning")]

SIZES = {
    **{"vocab_size": 71, "hidden_size": 24, "intermediate_size": 44, "num_hidden_layers": 3},
    **{"num_attention_heads": 6, "num_key_value_heads": 2, "max_position_embeddings": 64},
    **{"pad_token_id": None, "bos_token_id": 1, "eos_token_id": 2},
}
GPT2 = {"vocab_size": 71, "n_positions": 40, "n_embd": 24, "n_layer": 3, "n_head": 4}
LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"rope_type": "yarn", "rope_theta": 100.0, "factor": 3.0, "original_max_position_embeddings": 20}
TYPES = ["sliding_attention", "full_attention", "sliding_attention"]
WINDOWS = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}
FULL, LOCAL = {"rope_type": "linear", "factor": 2.5, "rope_theta": 1e5}, {"rope_type": "default", "rope_theta": 50.0}
VISION = {
    **{"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12},
    **{"image_size": 8, "patch_size": 4},
}
CASES = {  # the prefix of their classes, and the config
    "gpt2": ("GPT2", GPT2),
    "gpt2, odd": (
        "GPT2",
        {**GPT2, "n_embd": 27, "n_head": 9, "n_inner": 50, "scale_attn_by_inverse_layer_idx": True}
        | {"tie_word_embeddings": False, "activation_function": "gelu", "layer_norm_epsilon": 1e-3},
    ),
    "gpt2, scores not scaled": (
        "GPT2",
        {**GPT2, "scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True, "activation_function": "relu"},
    ),
    "llama": ("Llama", SIZES),
    "llama, one key head": (
        "Llama",
        {**SIZES, "hidden_size": 25, "num_attention_heads": 5, "num_key_value_heads": 1, "head_dim": 14}
        | {"hidden_act": "relu", "rms_norm_eps": 1e-2, "eos_token_id": [2, 5]},
    ),
    "llama 3": (
        "Llama",
        {**SIZES, "tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True, "num_key_value_heads": None}
        | {"rope_parameters": {**LLAMA3, "rope_theta": 500.0, "original_max_position_embeddings": 16}},
    ),
    "llama, linear": ("Llama", {**SIZES, "rope_parameters": {"rope_type": "linear", "factor": 2.5}}),
    "llama, yarn": ("Llama", {**SIZES, "head_dim": 10, "rope_parameters": YARN}),
    "llama, yarn of DeepSeek": (
        "Llama",
        {**SIZES, "head_dim": 10, "rope_parameters": {**YARN, "mscale": 1.5, "mscale_all_dim": 0.5, "beta_fast": 8}},
    ),
    "mistral": ("Mistral", {**SIZES, "head_dim": 8, "sliding_window": 5}),
    "mistral, no window": ("Mistral", {**SIZES, "sliding_window": None}),
    "qwen2": ("Qwen2", {**SIZES, **WINDOWS, "bos_token_id": None, "eos_token_id": None}),
    "qwen2, small": ("Qwen2", {**SIZES, "tie_word_embeddings": True}),
    "qwen3": ("Qwen3", {**SIZES, "head_dim": 10, "attention_bias": True}),
    "smollm3": ("SmolLM3", {**SIZES, "no_rope_layer_interval": 2, "use_sliding_window": True, "sliding_window": 3}),
    "gemma": ("Gemma", {**SIZES, "head_dim": 10, "hidden_act": "gelu"}),
    "gemma 2": (
        "Gemma2",
        {**SIZES, "head_dim": 10, "query_pre_attn_scalar": 7, "sliding_window": 5, "attn_logit_softcapping": 2.0}
        | {"final_logit_softcapping": 3.0},
    ),
    "gemma 2, no windows": (
        "Gemma2",
        {**SIZES, "head_dim": 10, "layer_types": ["full_attention"] * 3, "attn_logit_softcapping": None},
    ),
    "gemma 3": ("Gemma3", {**SIZES, "head_dim": 10, "query_pre_attn_scalar": 7, "sliding_window": 5}),
    "gemma 3, mixed": (
        "Gemma3",
        {**SIZES, "head_dim": 10, "sliding_window": 5, "layer_types": TYPES, "tie_word_embeddings": False}
        | {"final_logit_softcapping": 2.0}
        | {"rope_parameters": {"full_attention": FULL, "sliding_attention": LOCAL}},
    ),
}


def config_of(name, values):
    return getattr(transformers, "Gemma3TextConfig" if name == "Gemma3" else f"{name}Config")(**values)


def redraw(model):
    """Weights that show every option: far from where training would begin."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            inputs = parameter.shape[-1] if parameter.ndim > 1 else 20
            parameter.copy_(torch.randn_like(parameter) * 1.2 / inputs**0.5 + (parameter if parameter.ndim == 1 else 0))
    return model.eval()


def theirs(name, values):
    config = config_of(name, values)
    config._attn_implementation = "eager"
    heads = "LMHeadModel" if name == "GPT2" else "ForCausalLM"
    return redraw(getattr(transformers, name + heads)(config))


def logits_of(model, ids):
    with torch.no_grad():
        return model(input_ids=torch.tensor(ids)).logits.numpy().reshape(-1, model.get_output_embeddings().out_features)


def assert_same(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.fixture(params=CASES, scope="module")
def both(request, tmp_path_factory):
    name, values = CASES[request.param]
    folder = tmp_path_factory.mktemp("theirs")
    other = theirs(name, values)
    other.save_pretrained(folder)
    return other, dg.load(folder), np.random.default_rng(0).integers(3, 70, (2, 23))


def test_logits(both):
    other, model, ids = both
    assert_same(model.logits(ids.tolist()), logits_of(other, ids))


def test_cached_decoding(both):
    _, model, ids = both
    sequences = [dg.Sequences([count] * 2) for count in (9, 1, 1, 12)]
    cache, place, parts = KVCache(2), 0, []
    with model.inference():
        for each in sequences:
            count = each.max_length
            part = ids[:, place : place + count].astype(np.int32).reshape(-1)
            parts.append(model.project(model.decode(part, each, cache), each).numpy().reshape(2, count, -1))
            place += count
    assert_same(np.concatenate(parts, axis=1).reshape(2 * 23, -1), model.logits(ids.tolist()))


def test_saved_back(both, tmp_path):
    other, model, ids = both
    model.save_pretrained(tmp_path)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    assert type(again) is type(other)
    for ours, expected in again.state_dict().items():
        np.testing.assert_allclose(expected.numpy(), other.state_dict()[ours].numpy(), rtol=0, atol=1e-7)
    assert_same(logits_of(again, ids), logits_of(other, ids))
    np.testing.assert_array_equal(dg.load(tmp_path).logits(ids.tolist()), model.logits(ids.tolist()))


@pytest.mark.parametrize("beam", [1, 4])
def test_searches(both, beam):
    other, model, ids = both
    for prompt, found in zip(
        ids[:, :5].tolist(),
        generate(model, ids[:, :5].tolist(), beam=beam, count=beam, like="hf", max_length=9),
        strict=True,
    ):
        result = other.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, 5, dtype=torch.int64), do_sample=False, num_beams=beam,
            num_return_sequences=beam, max_new_tokens=9, early_stopping=False, pad_token_id=0, output_scores=True,
            return_dict_in_generate=True,
        )  # fmt: skip
        eos = other.generation_config.eos_token_id
        ends = eos if isinstance(eos, list) else [] if eos is None else [eos]
        expected = []
        for row in result.sequences[:, 5:].tolist():
            end = next((place for place, id in enumerate(row) if id in ends), len(row))
            expected.append(row[:end])
        assert [h.ids for h in found] == expected
        if beam > 1:
            np.testing.assert_allclose([h.score for h in found], result.sequences_scores.numpy(), atol=1e-4)


def test_text_of_a_multimodal_model(tmp_path):
    values = {**SIZES, "head_dim": 10, "sliding_window": 5, "eos_token_id": None}
    config = transformers.Gemma3Config(
        text_config=values, vision_config={"model_type": "siglip_vision_model", **VISION}, mm_tokens_per_image=4,
        image_token_index=70, eos_token_id=[2, 5],
    )  # fmt: skip
    config._attn_implementation = "eager"
    other = redraw(transformers.Gemma3ForConditionalGeneration(config))
    other.save_pretrained(tmp_path / "theirs")
    model = dg.load(tmp_path / "theirs")
    ids = np.random.default_rng(0).integers(3, 60, (2, 11))
    with torch.no_grad():
        expected = other(input_ids=torch.tensor(ids), token_type_ids=torch.zeros(2, 11, dtype=torch.int64)).logits
    assert_same(model.logits(ids.tolist()), expected.numpy().reshape(22, -1))
    model.save_pretrained(tmp_path / "text")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "text")
    assert type(again) is transformers.Gemma3ForCausalLM
    assert_same(logits_of(again, ids), model.logits(ids.tolist()))


@pytest.mark.parametrize("name", ["gpt2, odd", "llama, yarn", "gemma 3"])
def test_adapters_of_peft(tmp_path, name):
    """PEFT adds to their model what we wrote for it, and we read what PEFT writes."""
    peft = pytest.importorskip("peft")
    other = theirs(*CASES[name])
    other.save_pretrained(tmp_path / "model")
    model, ids = dg.load(tmp_path / "model"), np.random.default_rng(0).integers(3, 70, (2, 9))
    rng = np.random.default_rng(1)
    dg.lora.add(model, rank=2, alpha=3.0, modules=["q_proj", "v_proj", "out_proj", "linear1"])
    for ours, parameter in model.named_parameters():
        if ".adapters." in ours:
            parameter.copy_(rng.normal(0, 0.3, parameter.shape))
    dg.lora.save(model, tmp_path / "ours")
    wrapped = peft.PeftModel.from_pretrained(other, tmp_path / "ours")
    assert_same(model.logits(ids.tolist()), logits_of(wrapped, ids))
    again = dg.load(tmp_path / "model")
    dg.lora.load(again, tmp_path / "ours")
    assert_same(again.logits(ids.tolist()), model.logits(ids.tolist()))

    other = theirs(*CASES[name])
    ends = ["c_attn", "c_fc"] if name.startswith("gpt2") else ["k_proj", "down_proj"]
    config = peft.LoraConfig(r=3, lora_alpha=5, target_modules=ends, init_lora_weights=False)
    config.fan_in_fan_out = name.startswith("gpt2")
    wrapped = peft.get_peft_model(other, config)
    wrapped.save_pretrained(tmp_path / "theirs")
    again = dg.load(tmp_path / "model")
    dg.lora.load(again, tmp_path / "theirs")
    assert_same(again.logits(ids.tolist()), logits_of(wrapped.eval(), ids))
