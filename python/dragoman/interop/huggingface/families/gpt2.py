"""GPT-2: learned positions, pre-norm layers, and one product for queries, keys and values."""

from __future__ import annotations

from typing import Any

from dragoman.interop.huggingface.decoders import by_layer, head, special_ids, written_ids
from dragoman.interop.huggingface.family import ACTIVATION_NAMES, ACTIVATIONS, TRANSPOSED, Family, Layout, Part
from dragoman.interop.huggingface.fields import Fields
from dragoman.interop.huggingface.weights import Tensors
from dragoman.models.decoder import DecoderConfig, TextDecoder

_NAMES = (
    (r"^embedding\.", "transformer.wte."),
    (r"^positions\.", "transformer.wpe."),
    (r"^decoder\.layers\.", "transformer.h."),
    (r"^decoder\.norm\.", "transformer.ln_f."),
    (r"^output\.", "lm_head."),
    (r"\.norm([12])\.", r".ln_\1."),
    (r"\.self_attention\.[qkv]_proj\.", ".attn.c_attn."),
    (r"\.self_attention\.out_proj\.", ".attn.c_proj."),
    (r"\.feed_forward\.linear1\.", ".mlp.c_fc."),
    (r"\.feed_forward\.linear2\.", ".mlp.c_proj."),
)
_FORMS = (  # weights are (inputs, outputs)
    *((rf".*\.{letter}_proj\..*", Part(i, 3)) for i, letter in enumerate("qkv")),
    (r".*\.(out_proj|linear1|linear2)\.weight", TRANSPOSED),
)
_MASKS = r"transformer\.h\.\d+\.attn\.(bias|masked_bias)"
_SCALINGS = ("scale_attn_weights", "scale_attn_by_inverse_layer_idx")


def _layout(fields: Fields, tensors: Tensors) -> Layout:
    fields.only("add_cross_attention", False)
    fields.only("is_causal", True)
    vocab_size, d_model = fields.size("vocab_size", 50257), fields.size("n_embd", 768)
    num_heads, num_layers = fields.size("n_head", 12), fields.size("n_layer", 12)
    by_size, by_place = (fields.flag(name, name == _SCALINGS[0]) for name in _SCALINGS)
    scales = _scales(by_size, by_place, d_model / num_heads, num_layers)
    tied, names, ignored = head(tensors, "transformer.wte.weight")
    config = DecoderConfig(
        vocab_size=vocab_size,
        d_model=d_model,
        num_heads=num_heads,
        num_layers=num_layers,
        d_ff=fields.size("n_inner", 4 * d_model),
        positions="learned",
        max_length=fields.size("n_positions", 1024),
        norm_first=True,
        norm_eps=fields.number("layer_norm_epsilon", 1e-5),
        activation=fields.choice("activation_function", ACTIVATIONS, "gelu_tanh"),
        scale_embeddings=False,
        tie_embeddings=tied,
        dropout=fields.rate("resid_pdrop", 0.1),
        embedding_dropout=fields.rate("embd_pdrop", 0.1),
        attention_dropout=fields.rate("attn_pdrop", 0.1),
        **by_layer([{"attention_scale": scale} for scale in scales]),
        **special_ids(fields, vocab_size, bos=50256, eos=50256),
    )
    return Layout(config, (*names, *_NAMES), _FORMS, (_MASKS, *ignored))


def _scales(by_size: bool, by_place: bool, head_dim: float, num_layers: int) -> list[float]:
    """The factor on the scores of each layer."""
    factor = head_dim**-0.5 if by_size else 1.0
    return [factor / (place + 1 if by_place else 1) for place in range(num_layers)]


def _fields(model: TextDecoder) -> dict[str, Any]:
    config = model.config
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": config.vocab_size,
        "n_embd": config.d_model,
        "n_head": config.num_heads,
        "n_layer": config.num_layers,
        "n_inner": config.d_ff,
        "n_positions": config.max_length,
        "layer_norm_epsilon": config.norm_eps,
        "activation_function": ACTIVATION_NAMES[config.activation],
        "tie_word_embeddings": config.tie_embeddings,
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.embedding_dropout,
        "attn_pdrop": config.attention_dropout,
        **_written_scaling(config),
        **written_ids(config),
    }


def _written_scaling(config: DecoderConfig) -> dict[str, bool]:
    head_dim, num_layers = config.d_model / config.num_heads, config.num_layers
    layers = (config.of_layer(place) for place in range(num_layers))
    scales = [layer.attention_scale or head_dim**-0.5 for layer in layers]
    for flags in ((True, False), (True, True), (False, False), (False, True)):
        if scales == _scales(*flags, head_dim, num_layers):
            return dict(zip(_SCALINGS, flags, strict=True))
    raise ValueError(f"save_pretrained: attention_scale must be one that GPT-2 has, got {scales}")


FAMILY = Family(("gpt2",), _layout, _fields, aliases=((r"^(wte|wpe|h|ln_f)\.", r"transformer.\1."),))
