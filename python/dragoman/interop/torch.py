"""Converts parameters from and to torch.nn.Transformer, as plain dictionaries. PyTorch itself is not needed.

torch.nn.Transformer holds the two stacks and their final norms. The projections of queries, keys and values are one
matrix. Embeddings and the output projection are not part of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman.arguments import check_types
from dragoman.models.encoder_decoder import Transformer
from dragoman.models.speech import SpeechTransformer
from dragoman.models.transformer_config import TransformerConfig

State = dict[str, npt.NDArray[Any]]

_PROJECTIONS = ("q_proj", "k_proj", "v_proj")


def from_torch_state_dict(state: Mapping[str, npt.ArrayLike], config: TransformerConfig) -> State:
    """The parameters of torch.nn.Transformer, by the names of `Transformer(config)`.

    `model.load_state_dict(model.state_dict() | from_torch_state_dict(state, config))` loads them and keeps the model's
    own embeddings. The state does not contain num_heads, norm_first, activation and norm_eps: `config` must have the
    values of the PyTorch model. It must have final_norm=True, because torch.nn.Transformer always ends in norms.

    Args:
        state: state_dict() of torch.nn.Transformer; values are arrays or CPU tensors.
        config: of the model that loads them.

    Returns:
        float32 arrays, by the names of `Transformer.state_dict`.

    Raises:
        ValueError: a tensor is missing, not expected or of another shape; names it as PyTorch does. The config asks
            for attention that torch.nn.Transformer does not have.
        TypeError: a value does not hold numbers.
    """
    check_types("from_torch_state_dict", TransformerConfig, config=config)
    check_types("from_torch_state_dict", Mapping, state=state)
    _check_attention("from_torch_state_dict", config)
    shapes = _torch_shapes(config)
    if missing := [name for name in shapes if name not in state]:
        raise ValueError(f"from_torch_state_dict: state must hold {missing[0]}{_more(missing)}, got none")
    if unexpected := [name for name in state if name not in shapes]:
        hint = "; set final_norm=True" if unexpected[0] in ("encoder.norm.weight", "decoder.norm.weight") else ""
        raise ValueError(
            f"from_torch_state_dict: config has no place for {unexpected[0]}{_more(unexpected)} of state{hint}"
        )
    ours: State = {}
    for name, shape in shapes.items():
        values = np.asarray(state[name])
        if values.dtype.kind not in "fiu" and values.dtype.name != "bfloat16":
            raise TypeError(f"from_torch_state_dict: {name} must hold numbers, got dtype {values.dtype}")
        if values.shape != shape:
            raise ValueError(f"from_torch_state_dict: {name} must have shape {shape}, got {values.shape}")
        parts = np.split(values, 3) if ".in_proj_" in name else [values]
        for our_name, part in zip(_our_names(name), parts, strict=True):
            ours[our_name] = np.array(part, np.float32)
    return ours


def to_torch_state_dict(model: Transformer) -> State:
    """The parameters of `model`'s stacks, by the names of torch.nn.Transformer: the inverse of `from_torch_state_dict`.

    Convert them to tensors for load_state_dict of PyTorch: {name: torch.from_numpy(array)}. torch.nn.Transformer
    expects final norms; a model without them has none in the result.

    Args:
        model: embeddings and output projection are left out.

    Returns:
        float32 arrays, copies of the parameters.

    Raises:
        TypeError: `model` is not a Transformer.
        ValueError: torch.nn.Transformer has no attention like the model's.
    """
    if not isinstance(model, Transformer) or isinstance(model, SpeechTransformer):
        raise TypeError(f"to_torch_state_dict: model must be a Transformer, got {type(model).__name__}")
    _check_attention("to_torch_state_dict", model.config)
    ours = model.state_dict()
    return {
        name: np.concatenate([ours[our_name] for our_name in _our_names(name)]) for name in _torch_shapes(model.config)
    }


def _check_attention(op: str, config: TransformerConfig) -> None:
    only = {"kv_heads": None, "head_dim": None, "attention_scale": None, "window": None, "attention_bias": "qkvo"}
    for name, value in {**only, "qk_norm": "none", "layers": None, "encoder": None, "decoder": None}.items():
        if (got := getattr(config, name)) != value:
            raise ValueError(f"{op}: config.{name} must be {value!r}, as in torch.nn.Transformer, got {got!r}")
    if config.positions in ("relative", "alibi", "shaw", "rotary"):
        raise ValueError(f"{op}: config.positions must be none in attention, got {config.positions!r}")


def _our_names(name: str) -> list[str]:
    """Our names for a tensor of torch.nn.Transformer: three for merged projections, else one."""
    name = name.replace("self_attn", "self_attention").replace("multihead_attn", "cross_attention")
    name = name.replace("linear1", "feed_forward.linear1").replace("linear2", "feed_forward.linear2")
    prefix, merged, kind = name.partition(".in_proj_")
    return [f"{prefix}.{projection}.{kind}" for projection in _PROJECTIONS] if merged else [name]


def _torch_shapes(config: TransformerConfig) -> dict[str, tuple[int, ...]]:
    """The name and shape of every tensor of torch.nn.Transformer."""
    d_model, d_ff = config.d_model, config.d_ff
    attention = {
        "in_proj_weight": (3 * d_model, d_model),
        "in_proj_bias": (3 * d_model,),
        "out_proj.weight": (d_model, d_model),
        "out_proj.bias": (d_model,),
    }
    feed_forward = {
        "linear1.weight": (d_ff, d_model),
        "linear1.bias": (d_ff,),
        "linear2.weight": (d_model, d_ff),
        "linear2.bias": (d_model,),
    }
    norm = {"weight": (d_model,), "bias": (d_model,)}
    stacks = (
        ("encoder", config.num_encoder_layers, ("self_attn",)),
        ("decoder", config.num_decoder_layers, ("self_attn", "multihead_attn")),
    )
    shapes: dict[str, tuple[int, ...]] = {}
    for stack, depth, attentions in stacks:
        parts = dict.fromkeys(attentions, attention) | {f"norm{i + 1}": norm for i in range(len(attentions) + 1)}
        for layer in range(depth):
            prefix = f"{stack}.layers.{layer}"
            shapes |= {f"{prefix}.{part}.{name}": shape for part in parts for name, shape in parts[part].items()}
            shapes |= {f"{prefix}.{name}": shape for name, shape in feed_forward.items()}
        if config.ends_in_norm:
            shapes |= {f"{stack}.norm.{name}": shape for name, shape in norm.items()}
    return shapes


def _more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""
