"""Writes one model, with random weights, for every system that decodes it.

No output ends by itself: the bias of the special tokens is so low that none is ever written. So all systems do the same
work, and without any option of theirs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from works import BOS, EOS, FIRST_WORD, Model

NEVER = -1e9  # the bias of a token that is not to be written
POSITIONS = 512  # rows of a table

State = dict[str, npt.NDArray[np.float32]]


def dragoman_model(model: Model) -> Any:
    import dragoman as dg

    dg.manual_seed(0)
    sizes = {
        "vocab_size": model.vocab_size,
        "d_model": model.d_model,
        "num_heads": model.num_heads,
        "d_ff": model.d_ff,
        "output_bias": True,
        "max_length": POSITIONS,
        "bos_id": BOS,
        "eos_id": EOS,
    }
    made: Any
    if model.decoder_only:
        gpt2 = {"positions": "learned", "norm_first": True, "activation": "gelu_tanh", "scale_embeddings": False}
        made = dg.models.TextDecoder(dg.models.DecoderConfig(**sizes, **gpt2, num_layers=model.layers))
    else:
        layers = {"num_encoder_layers": model.layers, "num_decoder_layers": model.layers}
        made = dg.Transformer(dg.TransformerConfig(**sizes, **layers))
    bias = np.zeros(model.vocab_size, np.float32)
    bias[:FIRST_WORD] = NEVER
    made.output.bias.copy_(bias)
    return made.eval()


def state_of(folder: Path, model: Model) -> State:
    """The weights of a saved dragoman model as PyTorch names and merges them, and "embedding", "positions", "bias"."""
    import dragoman as dg
    from dragoman import interop
    from dragoman.nn.positional import sinusoidal_table

    loaded = dg.load(folder)
    ours = loaded.state_dict()
    if model.decoder_only:
        shared = {"embedding": ours["embedding.weight"], "positions": ours["positions.weight"]}
        return shared | {"bias": ours["output.bias"], **_merged(ours)}
    shared = {"embedding": ours["src_embedding.weight"], "positions": sinusoidal_table(POSITIONS, model.d_model)}
    return shared | {"bias": ours["output.bias"], **interop.to_torch_state_dict(loaded)}


def read_state(folder: Path) -> State:
    from safetensors.numpy import load_file

    return dict(load_file(folder / "state.safetensors"))


def write_transformers(state: State, folder: Path) -> None:
    from safetensors.numpy import save_file

    save_file(state, folder / "state.safetensors")


def _merged(ours: State) -> State:
    """The layers of a decoder-only model by the names that torch.nn.Transformer has for an encoder's."""
    merged = {}
    for original, values in ours.items():
        name = original.replace("self_attention", "self_attn").replace("feed_forward.", "")
        start, found, kind = name.partition(".q_proj.")
        if found:
            parts = [ours[original.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            merged[f"{start}.in_proj_{kind}"] = np.concatenate(parts)
        elif ".k_proj." not in name and ".v_proj." not in name:
            merged[name] = values
    return merged


_SPECIALS = ["<pad>", "<s>", "</s>", "<unk>"]


def word_of(i: int) -> str:
    """The token of an id, for CTranslate2."""
    return f"t{i}" if i >= FIRST_WORD else _SPECIALS[i]


def id_of(word: str) -> int:
    return int(word[1:]) if word.startswith("t") else _SPECIALS.index(word)


def write_ctranslate2(state: State, model: Model, folder: Path, dtype: str) -> None:
    from ctranslate2.specs import common_spec, transformer_spec

    spec: Any
    words = [word_of(i) for i in range(model.vocab_size)]
    if model.decoder_only:
        spec = transformer_spec.TransformerDecoderModelSpec.from_config(
            model.layers, model.num_heads, activation=common_spec.Activation.GELUTanh
        )
        spec.register_vocabulary(words)
        _norm(spec.decoder.layer_norm, state, "decoder.norm")
    else:
        spec = transformer_spec.TransformerSpec.from_config(
            model.layers, model.num_heads, pre_norm=False, activation=common_spec.Activation.RELU
        )
        spec.register_source_vocabulary(words)
        spec.register_target_vocabulary(words)
        spec.encoder.scale_embeddings = True
        spec.encoder.embeddings[0].weight = state["embedding"]
        spec.encoder.position_encodings.encodings = state["positions"]
        for i, layer in enumerate(spec.encoder.layer):
            _layer(layer, state, f"encoder.layers.{i}", {"self_attention": "self_attn"})
    spec.decoder.scale_embeddings = not model.decoder_only
    spec.decoder.embeddings.weight = state["embedding"]
    spec.decoder.position_encodings.encodings = state["positions"]
    spec.decoder.projection.weight, spec.decoder.projection.bias = state["embedding"], state["bias"]
    attentions = {"self_attention": "self_attn"}
    if not model.decoder_only:
        attentions["attention"] = "multihead_attn"
    for i, layer in enumerate(spec.decoder.layer):
        _layer(layer, state, f"decoder.layers.{i}", attentions)
    spec.validate()
    spec.optimize(quantization=None if dtype == "float32" else dtype)
    spec.save(str(folder))


def _layer(spec: Any, state: State, prefix: str, attentions: dict[str, str]) -> None:
    """Fills a layer of CTranslate2."""
    for i, (name, of_torch) in enumerate(attentions.items()):
        attention = getattr(spec, name)
        weight, bias = (state[f"{prefix}.{of_torch}.in_proj_{kind}"] for kind in ("weight", "bias"))
        cuts = [] if name == "self_attention" else [weight.shape[1]]  # cross-attention merges keys and values alone
        for linear, w, b in zip(attention.linear, np.split(weight, cuts), np.split(bias, cuts), strict=False):
            linear.weight, linear.bias = w, b
        _linear(attention.linear[-1], state, f"{prefix}.{of_torch}.out_proj")
        _norm(attention.layer_norm, state, f"{prefix}.norm{i + 1}")
    _linear(spec.ffn.linear_0, state, f"{prefix}.linear1")
    _linear(spec.ffn.linear_1, state, f"{prefix}.linear2")
    _norm(spec.ffn.layer_norm, state, f"{prefix}.norm{len(attentions) + 1}")


def _linear(spec: Any, state: State, name: str) -> None:
    spec.weight, spec.bias = state[f"{name}.weight"], state[f"{name}.bias"]


def _norm(spec: Any, state: State, name: str) -> None:
    spec.gamma, spec.beta = state[f"{name}.weight"], state[f"{name}.bias"]


def transformers_model(state: State, model: Model) -> Any:
    """A MarianMTModel, or a GPT2LMHeadModel."""
    import torch
    import transformers

    def tensors(values: State) -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in values.items()}

    if model.decoder_only:
        made = transformers.GPT2LMHeadModel(
            transformers.GPT2Config(
                vocab_size=model.vocab_size,
                n_positions=POSITIONS,
                n_embd=model.d_model,
                n_layer=model.layers,
                n_head=model.num_heads,
                n_inner=model.d_ff,
                **_SPECIAL,
            )
        )
        made.load_state_dict(tensors(_gpt2(state, model)), strict=False)
        made.lm_head.bias = torch.nn.Parameter(torch.from_numpy(state["bias"]))
        return made
    made = transformers.MarianMTModel(
        transformers.MarianConfig(
            vocab_size=model.vocab_size,
            d_model=model.d_model,
            encoder_layers=model.layers,
            decoder_layers=model.layers,
            encoder_attention_heads=model.num_heads,
            decoder_attention_heads=model.num_heads,
            encoder_ffn_dim=model.d_ff,
            decoder_ffn_dim=model.d_ff,
            activation_function="relu",
            scale_embedding=True,
            max_position_embeddings=POSITIONS,
            decoder_start_token_id=BOS,
            forced_eos_token_id=None,
            **_SPECIAL,
        )
    )
    made.load_state_dict(tensors(_marian(state, model)), strict=False)
    return made


_SPECIAL = {"pad_token_id": 0, "bos_token_id": BOS, "eos_token_id": EOS}
_MARIAN = {
    "self_attn": "self_attn",
    "multihead_attn": "encoder_attn",
    "norm1": "self_attn_layer_norm",
    "linear1": "fc1",
    "linear2": "fc2",
}


def _marian(state: State, model: Model) -> State:
    theirs = {"model.shared.weight": state["embedding"], "final_logits_bias": state["bias"][None]}
    for stack, norms in (("encoder", ("norm2",)), ("decoder", ("norm2", "norm3"))):
        theirs[f"model.{stack}.embed_positions.weight"] = state["positions"]
        theirs[f"model.{stack}.embed_tokens.weight"] = state["embedding"]
        names = _MARIAN | dict(zip(norms[::-1], ("final_layer_norm", "encoder_attn_layer_norm"), strict=False))
        for name, values in state.items():
            if not name.startswith(f"{stack}.layers."):
                continue
            _, _, layer, part, *rest = name.split(".")
            start = f"model.{stack}.layers.{layer}.{names[part]}"
            if rest[0].startswith("in_proj"):
                for letter, own in zip("qkv", np.split(values, 3), strict=True):
                    theirs[f"{start}.{letter}_proj.{rest[0].removeprefix('in_proj_')}"] = own
            else:
                theirs[".".join([start, *rest])] = values
    return theirs


_GPT2 = {
    "self_attn.in_proj_": "attn.c_attn.",
    "self_attn.out_proj.": "attn.c_proj.",
    "linear1.": "mlp.c_fc.",
    "linear2.": "mlp.c_proj.",
    "norm1.": "ln_1.",
    "norm2.": "ln_2.",
}


def _gpt2(state: State, model: Model) -> State:
    theirs = {
        "transformer.wte.weight": state["embedding"],
        "lm_head.weight": state["embedding"],
        "transformer.wpe.weight": state["positions"],
        **{f"transformer.ln_f.{kind}": state[f"decoder.norm.{kind}"] for kind in ("weight", "bias")},
    }
    for i in range(model.layers):
        for name, their_name in _GPT2.items():
            weight, bias = (state[f"decoder.layers.{i}.{name}{kind}"] for kind in ("weight", "bias"))
            theirs[f"transformer.h.{i}.{their_name}weight"] = weight.T  # a matrix of GPT-2 lies (inputs, outputs)
            theirs[f"transformer.h.{i}.{their_name}bias"] = bias
    return theirs
