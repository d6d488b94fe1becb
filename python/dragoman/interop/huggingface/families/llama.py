"""LLaMA, Mistral and SmolLM3, and what all their kin share: decoders with RMS norms before each sublayer, rotary
positions and gated feed-forward networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dragoman.interop.huggingface.decoders import by_layer, head, special_ids, written_ids
from dragoman.interop.huggingface.family import ACTIVATION_NAMES, ACTIVATIONS, Family, Form, Layout
from dragoman.interop.huggingface.fields import Fields
from dragoman.interop.huggingface.layer_types import window_size, windows, written_windows
from dragoman.interop.huggingface.rope import read_rope, written_rope
from dragoman.interop.huggingface.weights import Tensors
from dragoman.models.decoder import DecoderConfig, TextDecoder

Sizes = Mapping[str, int]

NAMES = (
    (r"^embedding\.", "model.embed_tokens."),
    (r"^decoder\.", "model."),
    (r"^output\.", "lm_head."),
    (r"\.self_attention\.", ".self_attn."),
    (r"\.out_proj\.", ".o_proj."),
    (r"\.feed_forward\.gate\.", ".mlp.gate_proj."),
    (r"\.feed_forward\.linear1\.", ".mlp.up_proj."),
    (r"\.feed_forward\.linear2\.", ".mlp.down_proj."),
    (r"\.norm1\.", ".input_layernorm."),
    (r"\.norm2\.", ".post_attention_layernorm."),
)
ALIASES = ((r"^(embed_tokens|layers|norm)\.", r"model.\1."),)
_FREQUENCIES = r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq"
_SIZES = {
    "vocab_size": "vocab_size",
    "d_model": "hidden_size",
    "d_ff": "intermediate_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "max_length": "max_position_embeddings",
}


def kin(
    model_types: tuple[str, ...],
    architecture: str,
    defaults: Mapping[str, Any],
    own: Callable[[Fields, Sizes], dict[str, Any]],
    written: Callable[[DecoderConfig], dict[str, Any]],
    *,
    names: Sequence[tuple[str, str]] = NAMES,
    forms: Sequence[tuple[str, Form]] = (),
    aliases: Sequence[tuple[str, str]] = ALIASES,
    ignored: Sequence[str] = (),
    of: Callable[[Fields], Fields] = lambda fields: fields,
) -> Family:
    """A family of this kin.

    Args:
        model_types: its names; models are saved under the first.
        architecture: the class of a model with a head.
        defaults: of fields that config.json may lack, "pad", "bos" and "eos" among them.
        own: the fields of DecoderConfig that the family sets, from config.json and the sizes in it.
        written: the fields of config.json that say the same.
        names, forms, aliases, ignored: as of Layout and Family.
        of: the part of config.json that describes the decoder.
    """

    def layout(fields: Fields, tensors: Tensors) -> Layout:
        fields = of(fields)
        fields.only("is_causal", True)
        sizes: dict[str, int] = {ours: fields.size(theirs, defaults[theirs]) for ours, theirs in _SIZES.items()}
        tied, swapped, left = head(tensors, "model.embed_tokens.weight")
        heads = sizes["num_heads"]
        kv_heads = heads if fields.is_null("num_key_value_heads") else defaults.get("num_key_value_heads", heads)
        values = {
            **sizes,
            "kv_heads": fields.size("num_key_value_heads", kv_heads),
            "head_dim": fields.size("head_dim", defaults.get("head_dim")),
            "norm": "rms",
            "norm_first": True,
            "norm_eps": fields.number("rms_norm_eps", 1e-6),
            "gated": True,
            "positions": "rotary",
            "scale_embeddings": False,
            "tie_embeddings": tied,
            "dropout": 0.0,
            "embedding_dropout": 0.0,
            "attention_dropout": fields.rate("attention_dropout", 0.0),
            **special_ids(
                fields, sizes["vocab_size"], **{k: defaults[k] for k in ("pad", "bos", "eos") if k in defaults}
            ),
            **own(fields, sizes),
        }
        return Layout(DecoderConfig(**values), (*swapped, *names), forms, (_FREQUENCIES, *ignored, *left))

    def their_fields(model: TextDecoder) -> dict[str, Any]:
        config = model.config
        return {
            "model_type": model_types[0],
            "architectures": [architecture],
            **{theirs: getattr(config, ours) for ours, theirs in _SIZES.items()},
            "num_key_value_heads": config.kv_heads or config.num_heads,
            "head_dim": config.head_dim or config.d_model // config.num_heads,
            "rms_norm_eps": config.norm_eps,
            "tie_word_embeddings": config.tie_embeddings,
            "attention_dropout": config.attention_dropout,
            **written_ids(config),
            **written(config),
        }

    return Family(model_types, layout, their_fields, aliases)


def activation(fields: Fields, default: str = "silu") -> dict[str, Any]:
    """`activation` of a config."""
    return {"activation": fields.choice("hidden_act", ACTIVATIONS, default)}


def biases(fields: Fields, *, feed_forward: bool = True) -> dict[str, Any]:
    """`attention_bias` and `feed_forward_bias` of a config; without `feed_forward` there are none of the latter."""
    return {
        "attention_bias": "qkvo" if fields.flag("attention_bias", False) else "",
        "feed_forward_bias": fields.flag("mlp_bias", False) if feed_forward else False,
    }


def written_activation(config: DecoderConfig) -> dict[str, Any]:
    return {"hidden_act": ACTIVATION_NAMES[config.activation]}


def written_biases(config: DecoderConfig) -> dict[str, Any]:
    return {"attention_bias": config.attention_bias == "qkvo", "mlp_bias": config.feed_forward_bias}


def _llama(fields: Fields, sizes: Sizes) -> dict[str, Any]:
    return {**activation(fields), **biases(fields), **read_rope(fields, sizes["max_length"])}


def _written_llama(config: DecoderConfig) -> dict[str, Any]:
    return {**written_activation(config), **written_biases(config), **written_rope(config)}


def _mistral(fields: Fields, sizes: Sizes) -> dict[str, Any]:
    size = window_size(fields, 4096)
    return {
        **activation(fields),
        "attention_bias": "",
        "feed_forward_bias": False,
        "window": None if size is None else size - 1,
        **read_rope(fields, sizes["max_length"]),
    }


def _written_mistral(config: DecoderConfig) -> dict[str, Any]:
    window = None if config.window is None else config.window + 1
    return {**written_activation(config), "sliding_window": window, **written_rope(config)}


def _smollm3(fields: Fields, sizes: Sizes) -> dict[str, Any]:
    depth = sizes["num_layers"]
    turned = fields.values.get("no_rope_layers")
    if turned is None:
        interval = fields.size("no_rope_layer_interval", 4)
        turned = [(place + 1) % interval != 0 for place in range(depth)]
    elif not isinstance(turned, list) or len(turned) < depth or not all(turn in (0, 1) for turn in turned):
        raise fields.error("no_rope_layers", f"a list of {depth} numbers, 0 or 1")
    size = window_size(fields, None) if fields.flag("use_sliding_window", False) else None
    seen = windows(fields, size, [size is not None and not turn for turn in turned[:depth]])
    own = [{**window, **({} if turn else {"positions": "none"})} for window, turn in zip(seen, turned, strict=False)]
    rope = read_rope(fields, sizes["max_length"], 2e6)
    return {**activation(fields), **biases(fields), **rope, **by_layer(own)}


def _written_smollm3(config: DecoderConfig) -> dict[str, Any]:
    turned = [int(config.of_layer(place).positions == "rotary") for place in range(config.num_layers)]
    slides = written_windows(config)
    uses = {"use_sliding_window": slides["sliding_window"] is not None}
    return {**_written_llama(config), "no_rope_layers": turned, **uses, **slides}


_LLAMA_SIZES = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 2048,
    "bos": 1,
    "eos": 2,
}
_MISTRAL_SIZES = {
    **_LLAMA_SIZES,
    "intermediate_size": 14336,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
}
_SMOLLM3_SIZES = {
    "vocab_size": 128256,
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "max_position_embeddings": 32768,
    "pad": 128004,
    "bos": 128000,
    "eos": 128001,
}

FAMILIES = (
    kin(("llama",), "LlamaForCausalLM", _LLAMA_SIZES, _llama, _written_llama),
    kin(("mistral",), "MistralForCausalLM", _MISTRAL_SIZES, _mistral, _written_mistral),
    kin(("smollm3",), "SmolLM3ForCausalLM", _SMOLLM3_SIZES, _smollm3, _written_smollm3),
)
