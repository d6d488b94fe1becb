"""Whisper (Radford et al. 2022, arXiv:2212.04356): BART's stacks over sound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dragoman.interop.huggingface.families.bart import STACK_NAMES, written_stacks
from dragoman.interop.huggingface.family import ACTIVATIONS, Array, Family, Form, Layout
from dragoman.interop.huggingface.fields import Fields
from dragoman.interop.huggingface.special_tokens import eos_id, start_id
from dragoman.interop.huggingface.weights import Tensors
from dragoman.models import SpeechConfig, SpeechTransformer
from dragoman.models.special_ids import start_ids


@dataclass(frozen=True)
class _Kernel(Form):
    """The kernel of a convolution over three frames, (outputs, inputs, 3); ours is (outputs, 3 * inputs)."""

    def read(self, array: Array) -> Array:
        return array.transpose(0, 2, 1).reshape(len(array), -1)

    def write(self, array: Array) -> Array:
        return array.reshape(len(array), 3, -1).transpose(0, 2, 1)


_EMBEDDING, _HEAD = "model.decoder.embed_tokens.weight", "proj_out.weight"

_NAMES = (
    (r"^conv([12])\.", r"model.encoder.conv\1."),
    (r"^src_positions\.", "model.encoder.embed_positions."),
    (r"^tgt_positions\.", "model.decoder.embed_positions."),
    (r"^tgt_embedding\.weight$", _EMBEDDING),
    (r"^output\.weight$", _HEAD),
    *STACK_NAMES,
)


def _layout(fields: Fields, tensors: Tensors) -> Layout:
    fields.only("is_encoder_decoder", True)
    fields.only("is_causal", True)
    dropout = fields.rate("dropout", 0.0)
    tied = tensors.tied(_EMBEDDING, _HEAD)
    config = SpeechConfig(
        vocab_size=fields.size("vocab_size", 51865),
        mel_bins=fields.size("num_mel_bins", 80),
        d_model=fields.size("d_model", 384),
        num_heads=fields.size("decoder_attention_heads", 6),
        d_ff=fields.size("decoder_ffn_dim", 1536),
        encoder={
            "num_heads": fields.size("encoder_attention_heads", 6),
            "d_ff": fields.size("encoder_ffn_dim", 1536),
            "max_length": fields.size("max_source_positions", 1500),
        },
        num_encoder_layers=fields.size("encoder_layers", 4),
        num_decoder_layers=fields.size("decoder_layers", 4),
        max_length=fields.size("max_target_positions", 448),
        positions="learned",
        norm_first=True,
        activation=fields.choice("activation_function", ACTIVATIONS, "gelu"),
        attention_bias="qvo",
        scale_embeddings=False,
        dropout=dropout,
        embedding_dropout=dropout,
        attention_dropout=fields.rate("attention_dropout", 0.0),
        activation_dropout=fields.rate("activation_dropout", 0.0),
        tie_embeddings="two" if tied else "none",
        pad_id=fields.count("pad_token_id", None),
        bos_id=fields.count("bos_token_id", None),
        eos_id=eos_id(fields, 50256),
        unk_id=None,
        start_id=start_id(fields, 50257),
    )
    ignored = (r"proj_out\.weight",) if tied else ()
    return Layout(config, _NAMES, forms=((r"conv[12]\.weight", _Kernel()),), ignored=ignored)


def _fields(model: SpeechTransformer) -> dict[str, Any]:
    config = model.config
    return {
        "model_type": "whisper",
        "architectures": ["WhisperForConditionalGeneration"],
        **written_stacks(config),
        "num_mel_bins": config.mel_bins,
        "max_source_positions": config.encoder_side.max_length,
        "max_target_positions": config.max_length,
        "tie_word_embeddings": config.ties_output,
        "decoder_start_token_id": start_ids(config)[0],
    }


FAMILY = Family(
    model_types=("whisper",),
    layout=_layout,
    fields=_fields,
    aliases=((r"^(encoder|decoder)\.", r"model.\1."),),
)
