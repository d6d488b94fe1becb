"""transformers opens what this package writes, and this package what transformers writes: with the same logits."""

import dragoman as dg
import numpy as np
import pytest
from huggingface_folders import assert_close

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore::FutureWarning")]

SIZES = {
    **{"vocab_size": 61, "d_model": 24, "encoder_layers": 2, "decoder_layers": 3, "max_position_embeddings": 37},
    **{"encoder_attention_heads": 3, "decoder_attention_heads": 4, "encoder_ffn_dim": 40, "decoder_ffn_dim": 52},
}
SCALED = {**SIZES, "scale_embedding": True}
MARIAN = {"pad_token_id": 60, "eos_token_id": 0, "decoder_start_token_id": 60, "activation_function": "swish"}
SEPARATE = {"decoder_vocab_size": 53, "share_encoder_decoder_embeddings": False}
T5 = {
    **{"vocab_size": 61, "d_model": 24, "d_kv": 7, "d_ff": 37, "num_layers": 2, "num_decoder_layers": 3},
    **{"num_heads": 5, "relative_attention_num_buckets": 12, "relative_attention_max_distance": 20},
    **{"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1},
}
GATED = {**T5, "feed_forward_proj": "gated-gelu"}
MODELS = {
    "marian": ("MarianMTModel", "MarianConfig", {**SCALED, **MARIAN}),
    "marian, two vocabularies": (
        *("MarianMTModel", "MarianConfig"),
        {**SIZES, **MARIAN, **SEPARATE, "pad_token_id": 50, "decoder_start_token_id": 50},
    ),
    "bart": ("BartForConditionalGeneration", "BartConfig", {**SIZES, "forced_bos_token_id": 0}),
    "bart, untied": ("BartForConditionalGeneration", "BartConfig", {**SIZES, "tie_word_embeddings": False}),
    "mbart": ("MBartForConditionalGeneration", "MBartConfig", SCALED),
    "m2m100": ("M2M100ForConditionalGeneration", "M2M100Config", SIZES),
    "m2m100, another pad": (
        *("M2M100ForConditionalGeneration", "M2M100Config"),
        {**SIZES, "pad_token_id": 2, "eos_token_id": 1},
    ),
    "m2m100, odd": (
        *("M2M100ForConditionalGeneration", "M2M100Config"),
        {**SIZES, "d_model": 27, "encoder_attention_heads": 3, "decoder_attention_heads": 9},
    ),
    "pegasus": (
        *("PegasusForConditionalGeneration", "PegasusConfig"),
        {**SCALED, "activation_function": "relu"},
    ),
    "t5": ("T5ForConditionalGeneration", "T5Config", T5),
    "t5, untied": ("T5ForConditionalGeneration", "T5Config", {**GATED, "tie_word_embeddings": False}),
    "t5, silu": ("T5ForConditionalGeneration", "T5Config", {**T5, "feed_forward_proj": "gated-silu"}),
    "mt5": ("MT5ForConditionalGeneration", "MT5Config", GATED),
    "umt5": ("UMT5ForConditionalGeneration", "UMT5Config", GATED),
}


def theirs(names, values, rng):
    """A model of transformers whose weights show every option: far from where training would begin."""
    torch.manual_seed(0)
    model_class, config_class = (getattr(transformers, name) for name in names)
    model = model_class(config_class(**values)).eval()
    with torch.no_grad():
        for name, parameter in [*model.named_parameters(), *model.named_buffers()]:
            if ("embed_positions" in name and not parameter.requires_grad) or not parameter.is_floating_point():
                continue
            if name == "final_logits_bias":
                parameter.copy_(torch.tensor(rng.normal(0, 0.3, parameter.shape)))
            elif parameter.requires_grad:
                inputs = parameter.shape[-1] if parameter.ndim > 1 else 20
                scale = 1.2 / inputs**0.5
                scale /= 7**0.5 if name.endswith("Attention.q.weight") else 1  # T5 divides no scores
                kept = parameter if scale < 0.3 else 0
                parameter.copy_(torch.tensor(rng.normal(0, scale, parameter.shape)) + kept)
    return model


def logits_of(model, source, target):
    with torch.no_grad():
        return model(input_ids=torch.tensor(source), decoder_input_ids=torch.tensor(target)).logits.numpy()


@pytest.mark.parametrize(("model_class", "config_class", "values"), MODELS.values(), ids=MODELS)
def test_encoder_decoders(model_class, config_class, values, rng, tmp_path):
    other = theirs((model_class, config_class), values, rng)
    if values.get("tie_word_embeddings") is False:
        with torch.no_grad():
            other.lm_head.weight = torch.nn.Parameter(torch.tensor(rng.normal(0, 0.3, (61, 24)).astype(np.float32)))
    other.save_pretrained(tmp_path / "theirs")
    source, target = rng.integers(3, 50, (2, 11)), rng.integers(3, 50, (2, 13))
    expected = logits_of(other, source, target)
    model = dg.load(tmp_path / "theirs")
    assert_close(model.logits(source.tolist(), target.tolist()), expected)
    model.save_pretrained(tmp_path / "back")
    again = getattr(transformers, model_class).from_pretrained(tmp_path / "back")
    assert_close(logits_of(again, source, target), expected)


def test_files_of_torch_save(rng, tmp_path):
    other = theirs(("BartForConditionalGeneration", "BartConfig"), SIZES, rng)
    source, target = rng.integers(3, 50, (2, 11)), rng.integers(3, 50, (2, 13))
    expected = logits_of(other, source, target)
    for zipped in (True, False):
        folder = tmp_path / str(zipped)
        other.config.save_pretrained(folder)
        torch.save(other.state_dict(), folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
        assert_close(dg.load(folder).logits(source.tolist(), target.tolist()), expected)


def test_an_adapter_opens_in_peft(rng, tmp_path):
    peft = pytest.importorskip("peft")
    other = theirs(("BartForConditionalGeneration", "BartConfig"), SIZES, rng)
    other.save_pretrained(tmp_path)
    model = dg.load(tmp_path)
    dg.lora.add(model, rank=2, modules=["q_proj", "linear1"])
    for name, parameter in model.named_parameters():
        if ".adapters." in name:
            parameter.copy_(rng.normal(0, 0.3, parameter.shape))
    dg.lora.save(model, tmp_path / "adapter")
    adapted = peft.PeftModel.from_pretrained(other, tmp_path / "adapter")
    source, target = rng.integers(3, 50, (2, 11)), rng.integers(3, 50, (2, 13))
    assert_close(model.logits(source.tolist(), target.tolist()), logits_of(adapted, source, target))
