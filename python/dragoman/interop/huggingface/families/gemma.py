"""Gemma 1, 2 and the text of Gemma 3: LLaMA's kin with scaled embeddings, whose norms multiply by weight + 1."""

from __future__ import annotations

from typing import Any

from dragoman.interop.huggingface.decoders import by_layer
from dragoman.interop.huggingface.families.llama import ALIASES, NAMES, Sizes, biases, kin
from dragoman.interop.huggingface.family import ACTIVATION_NAMES, ACTIVATIONS, PLUS_ONE
from dragoman.interop.huggingface.fields import Fields
from dragoman.interop.huggingface.layer_types import window_size, windows, written_windows
from dragoman.interop.huggingface.rope import read_kind, read_rope, written_rope
from dragoman.models.decoder import DecoderConfig

_FORMS = ((r".*norm.*\.weight", PLUS_ONE),)
_FOUR_NORMS = (  # before and after each sublayer
    (r"\.norm2\.", ".pre_feedforward_layernorm."),
    (r"\.output_norms\.0\.", ".post_attention_layernorm."),
    (r"\.output_norms\.1\.", ".post_feedforward_layernorm."),
    *NAMES,
)
_ACTIVATIONS = {**ACTIVATIONS, "gelu": "gelu_tanh"}  # the first files of Gemma say gelu and mean gelu_tanh


def _gemma(fields: Fields, sizes: Sizes) -> dict[str, Any]:
    chosen = fields.choice("hidden_act", _ACTIVATIONS, "gelu_tanh")
    return {**_shared(fields), "activation": chosen, **read_rope(fields, sizes["max_length"])}


def _gemma2(fields: Fields, sizes: Sizes) -> dict[str, Any]:
    seen = windows(fields, window_size(fields, 4096), [place % 2 == 0 for place in range(sizes["num_layers"])])
    caps = {"score_cap": _cap(fields, "attn_logit_softcapping", 50.0), **_logit_cap(fields, 30.0)}
    return {**_later(fields), **caps, **read_rope(fields, sizes["max_length"]), **by_layer(seen)}


def _gemma3(fields: Fields, sizes: Sizes) -> dict[str, Any]:
    every = fields.size("sliding_window_pattern", 6)
    default = [(place + 1) % every != 0 for place in range(sizes["num_layers"])]
    seen = windows(fields, window_size(fields, 4096), default)
    far, near = _ropes(fields, sizes["max_length"])
    own = [{**window, **(near if window else far)} for window in seen]
    return {**_later(fields), **_logit_cap(fields, None), "qk_norm": "rms", **by_layer(own)}


def _cap(fields: Fields, name: str, default: float | None) -> float | None:
    return None if fields.is_null(name) else fields.number(name, default)


def _logit_cap(fields: Fields, default: float | None) -> dict[str, Any]:
    return {"logit_cap": _cap(fields, "final_logit_softcapping", default)}


def _ropes(fields: Fields, max_length: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Rotary positions of the layers without a window, and of those with one, which no scaling slows."""
    given = fields.section("rope_parameters")
    for name in given.values if given is not None else ():
        if name not in ("full_attention", "sliding_attention"):
            raise fields.error("rope_parameters", "an object of full_attention and sliding_attention")
    far = fields.section("rope_scaling") or (given and given.section("full_attention"))
    near = given and given.section("sliding_attention")
    return (
        read_kind(fields, far, max_length, fields.number("rope_theta", 1e6)),
        read_kind(fields, near, max_length, fields.number("rope_local_base_freq", 1e4)),
    )


def _shared(fields: Fields) -> dict[str, Any]:
    fields.only("use_bidirectional_attention", False)
    return {"scale_embeddings": True, **biases(fields, feed_forward=False)}


def _later(fields: Fields) -> dict[str, Any]:
    """What Gemma 2 and 3 share."""
    return {
        **_shared(fields),
        "sandwich_norm": True,
        "attention_scale": fields.number("query_pre_attn_scalar", 256) ** -0.5,
        "activation": fields.choice("hidden_activation", ACTIVATIONS, "gelu_tanh"),
    }


def _written_activation(config: DecoderConfig) -> str:
    return "gelu_pytorch_tanh" if config.activation == "gelu_tanh" else ACTIVATION_NAMES[config.activation]


def _written_gemma(config: DecoderConfig) -> dict[str, Any]:
    return {
        "hidden_act": _written_activation(config),
        "attention_bias": config.attention_bias == "qkvo",
        **written_rope(config),
    }


def _written_later(config: DecoderConfig) -> dict[str, Any]:
    head_dim = config.head_dim or config.d_model // config.num_heads
    squared = head_dim if config.attention_scale is None else round(config.attention_scale**-2)
    slides = written_windows(config)
    if slides["sliding_window"] is None:
        del slides["sliding_window"]  # transformers reads one even where no layer has a window
    return {
        "hidden_activation": _written_activation(config),
        "attention_bias": config.attention_bias == "qkvo",
        "query_pre_attn_scalar": squared,
        "attn_logit_softcapping": config.score_cap,
        "final_logit_softcapping": config.logit_cap,
        **slides,
    }


def _written_gemma2(config: DecoderConfig) -> dict[str, Any]:
    return {**_written_later(config), **written_rope(config)}


def _written_gemma3(config: DecoderConfig) -> dict[str, Any]:
    layers = [config.of_layer(place) for place in range(config.num_layers)]
    far = next((layer for layer in layers if layer.window is None), None)
    near = next((layer for layer in layers if layer.window is not None), None)
    written = {} if far is None else written_rope(far)
    if near is not None:
        if near.rotary_scaling is not None:
            raise ValueError("save_pretrained: rotary_scaling must be None in layers with a window, got another one")
        written["rope_local_base_freq"] = near.rotary_base
    nothing_else = {"text_config": None, "vision_config": None}
    return {**_written_later(config), **written, **nothing_else}


def _text(fields: Fields) -> Fields:
    """The part of a multimodal file that describes the text model. Its special ids may stand outside."""
    text = fields.section("text_config")
    if text is None:
        return fields
    outside = {name: value for name, value in fields.values.items() if name.endswith(("os_token_id", "pad_token_id"))}
    return Fields({**outside, **text.values}, fields.path, "text_config.")


_GEMMA_SIZES = {
    "vocab_size": 256000,
    "hidden_size": 3072,
    "intermediate_size": 24576,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "head_dim": 256,
    "max_position_embeddings": 8192,
    "pad": 0,
    "bos": 2,
    "eos": 1,
}
_GEMMA2_SIZES = {
    **_GEMMA_SIZES,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
}
_GEMMA3_SIZES = {**_GEMMA2_SIZES, "vocab_size": 262208, "max_position_embeddings": 131072}

FAMILIES = (
    kin(("gemma",), "GemmaForCausalLM", _GEMMA_SIZES, _gemma, _written_gemma, forms=_FORMS),
    kin(
        ("gemma2",),
        "Gemma2ForCausalLM",
        _GEMMA2_SIZES,
        _gemma2,
        _written_gemma2,
        names=_FOUR_NORMS,
        forms=_FORMS,
    ),
    kin(
        ("gemma3_text", "gemma3"),  # the second is multimodal, of which the text is read
        "Gemma3ForCausalLM",
        _GEMMA3_SIZES,
        _gemma3,
        _written_gemma3,
        names=_FOUR_NORMS,
        forms=_FORMS,
        aliases=((r"^(model\.)?language_model\.(model\.)?", "model."), (r"^model\.lm_head\.", "lm_head."), *ALIASES),
        ignored=(r"(model\.)?(vision_tower|multi_modal_projector)\..*",),
        of=_text,
    ),
)
