"""Checkpoints that are damaged, or ask for what is not there: each a ValueError that names the file and what is wrong.

Each is made from a good one by a small change.
"""

import json
import struct

import dragoman as dg
import numpy as np
import pytest
import torch_writer as tw
from dragoman.models import EncoderConfig, TextEncoder
from huggingface_folders import change_json
from safetensors.numpy import load_file, save_file

BART = {
    **{"vocab_size": 11, "d_model": 8, "num_heads": 2, "d_ff": 6, "num_encoder_layers": 1, "num_decoder_layers": 1},
    **{"positions": "learned", "position_offset": 2, "max_length": 9, "embedding_norm": True, "output_bias": True},
    **{"scale_embeddings": False, "activation": "gelu", "unk_id": None, "start_id": 2},
}
T5 = {
    **{"vocab_size": 11, "d_model": 8, "num_heads": 2, "head_dim": 3, "d_ff": 6, "norm": "rms", "norm_first": True},
    **{"num_encoder_layers": 1, "num_decoder_layers": 1, "attention_bias": "", "feed_forward_bias": False},
    **{"attention_scale": 1.0, "positions": "relative", "scale_embeddings": False, "start_id": 0, "bos_id": None},
    **{"unk_id": None, "output_scale": 8**-0.5, "norm_eps": 1e-6},
}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Good folders by their model_type."""
    made = {}
    for model_type, fields in {"bart": BART, "t5": T5}.items():
        made[model_type] = tmp_path_factory.mktemp(model_type)
        dg.Transformer(dg.TransformerConfig(**fields)).save_pretrained(made[model_type], model_type)
    return made


@pytest.fixture
def folder(good, tmp_path):
    """A copy of the good BART."""
    return copied(good["bart"], tmp_path)


def copied(origin, target):
    for path in origin.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def assert_refused(folder, *words):
    with pytest.raises(ValueError) as caught:
        dg.load(folder)
    message = str(caught.value)
    assert message.startswith(str(folder))
    for word in words:
        assert word in message


FIELDS = {
    "no such family": ({"model_type": "elmo"}, "model_type must be one of", "bart", "'elmo'"),
    "a family that is a number": ({"model_type": 7}, "model_type"),
    "an activation": ({"activation_function": "gelu_10"}, "activation_function must be one of", "swish", "'gelu_10'"),
    "an activation that is a list": ({"activation_function": ["gelu"]}, "activation_function"),
    "a size that is a text": ({"d_model": "8"}, "d_model must be an int of at least 1, got '8'"),
    "a size that is a bool": ({"d_model": True}, "d_model"),
    "a size of zero": ({"encoder_layers": 0}, "encoder_layers"),
    "a size below zero": ({"decoder_ffn_dim": -6}, "decoder_ffn_dim"),
    "a size beyond numbers": ({"vocab_size": 10**30}, "vocab_size"),
    "heads that do not divide": ({"decoder_attention_heads": 3}, "num_heads must be a divisor of d_model = 8"),
    "heads of the other side": ({"encoder_attention_heads": 5}, "num_heads"),
    "another width": ({"d_model": 7, "decoder_attention_heads": 1, "encoder_attention_heads": 1}, "(11, 8)"),
    "more layers": ({"encoder_layers": 2}, "must hold 'model.encoder.layers.1."),
    "far more layers": ({"encoder_layers": 10**6}, "does not fit"),
    "a large vocabulary": ({"vocab_size": 10**9}, "does not fit"),
    "more positions": ({"max_position_embeddings": 10}, "embed_positions", "(12, 8)", "(11, 8)"),
    "a rate": ({"dropout": 1.5}, "dropout must be a number in [0, 1), got 1.5"),
    "a flag": ({"scale_embedding": "yes"}, "scale_embedding must be true or false, got 'yes'"),
    "an id beyond the vocabulary": ({"eos_token_id": 11}, "eos_id"),
    "an id below zero": ({"pad_token_id": -1}, "pad_token_id"),
    "no ids": ({"eos_token_id": []}, "eos_token_id"),
    "an id that is a text": ({"decoder_start_token_id": "</s>"}, "decoder_start_token_id"),
    "a decoder alone": ({"is_encoder_decoder": False}, "is_encoder_decoder must be True"),
    "a decoder that looks ahead": ({"is_causal": False}, "is_causal must be True"),
    "quantized": ({"quantization_config": {"bits": 4}}, "quantization_config"),
}


@pytest.mark.parametrize(("fields", "words"), [(f, w) for f, *w in FIELDS.values()], ids=FIELDS)
def test_fields(fields, words, folder):
    change_json(folder, **fields)
    assert_refused(folder, *words)


T5_FIELDS = {
    "a decoder that looks ahead": ({"is_causal": False}, "is_causal must be True"),
    "two gates": ({"feed_forward_proj": "gated-gated-gelu"}, "feed_forward_proj must be one of"),
    "a gate": ({"feed_forward_proj": "gated-relu"}, "is_gated_act must be True"),
    "no gate in the file": ({"feed_forward_proj": "gated-relu", "is_gated_act": True}, "must hold", "wi_"),
    "another activation": ({"dense_act_fn": "gelu_10"}, "dense_act_fn must be one of"),
    "few buckets": ({"relative_attention_num_buckets": 3}, "position_buckets"),
    "a short distance": ({"relative_attention_max_distance": 16}, "position_distance"),
    "another number of buckets": ({"relative_attention_num_buckets": 16}, "relative_attention_bias", "(16, 2)"),
    "no eps": ({"layer_norm_epsilon": 0}, "layer_norm_epsilon must be a number above 0"),
    "another head": ({"d_kv": 4}, "SelfAttention", "shape"),
    "a bias in every layer": ({"model_type": "umt5", "num_layers": 2}, "must hold 'encoder.block.1."),
}


@pytest.mark.parametrize(("fields", "words"), [(f, w) for f, *w in T5_FIELDS.values()], ids=T5_FIELDS)
def test_fields_of_t5(fields, words, good, tmp_path):
    change_json(copied(good["t5"], tmp_path), **fields)
    assert_refused(tmp_path, *words)


SHARED, HEAD = "model.shared.weight", "lm_head.weight"
QUERY = "model.encoder.layers.0.self_attn.q_proj.weight"


def without(name):
    return lambda arrays: {key: array for key, array in arrays.items() if key != name}


def having(name, array):
    return lambda arrays: arrays | {name: array}


TENSORS = {
    "one is missing": (without(QUERY), f"must hold '{QUERY}'"),
    "no embedding": (without(SHARED), f"must hold '{SHARED}'"),
    "one too many": (having("classifier.weight", np.ones(3, np.float32)), "'classifier.weight' must have a place"),
    "another layer": (having(QUERY.replace("0", "1"), np.ones((8, 8), np.float32)), "layers.1.", "a place"),
    "a shape": (having(QUERY, np.ones((8, 7), np.float32)), QUERY, "shape (8, 8), got (8, 7)"),
    "a vector": (having(QUERY, np.ones(64, np.float32)), QUERY, "shape (8, 8), got (64,)"),
    "integers": (having(QUERY, np.ones((8, 8), np.int64)), QUERY, "int64"),
    "a head of another size": (having(HEAD, np.ones((12, 8), np.float32)), HEAD, "(11, 8)"),
    "a bias of another size": (having("final_logits_bias", np.ones((1, 12), np.float32)), "final_logits_bias"),
    "a bias that is a vector": (having("final_logits_bias", np.ones(11, np.float32)), "final_logits_bias", "(1, 11)"),
    "two spellings": (having("shared.weight", np.ones((11, 8), np.float32)), "shared.weight", "must be equal"),
}


@pytest.mark.parametrize(("edit", "words"), [(e, w) for e, *w in TENSORS.values()], ids=TENSORS)
@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_tensors(kind, edit, words, folder):
    path = folder / "model.safetensors"
    arrays = edit(load_file(path))
    if kind == "safetensors":
        save_file(arrays, path)
    else:
        path.unlink()
        tw.write_zip(folder / "pytorch_model.bin", arrays)
    assert_refused(folder, *words)


def damage(start, end=None, content=b""):
    """Puts other bytes in the place of those in [start, end) of the weights."""

    def edit(folder):
        path = folder / "model.safetensors"
        old = path.read_bytes()
        path.write_bytes(old[:start] + content + (b"" if end is None else old[end:]))

    return edit


def index_of(**files):
    """An index that names a file for each tensor: that of the first layer's query, and the others."""

    def edit(folder):
        names = load_file(folder / "model.safetensors")
        listed = dict.fromkeys(names, "model.safetensors") | files
        (folder / "model.safetensors").rename(folder / "all.safetensors")
        listed = {name: "all.safetensors" if file == "model.safetensors" else file for name, file in listed.items()}
        index = {"metadata": {}, "weight_map": listed}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return edit


def index(content):
    def edit(folder):
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(content)

    return edit


FILES = {
    "empty": (damage(0), "model.safetensors"),
    "half a number": (damage(5), "model.safetensors"),
    "a cut header": (damage(50), "model.safetensors"),
    "cut values": (damage(-1), "model.safetensors"),
    "more bytes": (damage(10**9, 10**9, b"more"), "model.safetensors"),
    "a header beyond the file": (damage(0, 8, struct.pack("<Q", 1 << 40)), "model.safetensors"),
    "a header that is no JSON": (damage(8, 9, b"["), "model.safetensors"),
    "a file outside": (index_of(**{QUERY: "../secret.safetensors"}), "index.json", "'../secret.safetensors'"),
    "a path": (index_of(**{QUERY: "/etc/passwd"}), "index.json", "'/etc/passwd'"),
    "a file of another kind": (index_of(**{QUERY: "a.bin"}), "index.json", "'a.bin'"),
    "a file that is a number": (index_of(**{QUERY: 5}), "index.json", "got 5"),
    "a tensor that is not there": (index_of(other="all.safetensors"), "all.safetensors", "must hold 'other'"),
    "an index without a map": (index("{}"), "index.json", "weight_map"),
    "an index with a list": (index('{"weight_map": []}'), "index.json", "weight_map"),
    "an empty index": (index('{"weight_map": {}}'), "index.json", "weight_map"),
    "an index that is no JSON": (index("weights"), "index.json", "JSON"),
}


@pytest.mark.parametrize(("edit", "words"), [(e, w) for e, *w in FILES.values()], ids=FILES)
def test_files(edit, words, folder):
    edit(folder)
    assert_refused(folder, *words)


def test_a_file_that_an_index_does_not_list_in_full(folder):
    index_of()(folder)
    path = folder / "model.safetensors.index.json"
    listed = json.loads(path.read_text())
    del listed["weight_map"][QUERY]
    path.write_text(json.dumps(listed))
    assert_refused(folder, "all.safetensors", QUERY, "listed")


def test_a_missing_shard_is_named(folder):
    index_of(**{QUERY: "model-00002-of-00002.safetensors"})(folder)
    assert_refused(folder, "index.json: weight_map must name files that exist", "'model-00002-of-00002.safetensors'")


def test_a_folder_without_weights(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        dg.load(folder)


def test_settings_that_are_no_json(folder):
    (folder / "generation_config.json").write_text("{")
    assert_refused(folder, "generation_config.json", "JSON")


def test_a_config_of_both_kinds(folder):
    change_json(folder, format=1)
    assert_refused(folder, "config.json")


def test_an_encoder_with_a_head_or_a_mask_is_refused(tmp_path):
    fields = {name: value for name, value in T5.items() if "layers" not in name}
    fields = {name: value for name, value in fields.items() if name not in ("start_id", "output_scale")}
    TextEncoder(EncoderConfig(**fields, num_layers=1)).save_pretrained(tmp_path, "t5")
    arrays = load_file(tmp_path / "model.safetensors")
    save_file(
        arrays | {"classification_head.dense.weight": np.ones((8, 8), np.float32)}, tmp_path / "model.safetensors"
    )
    assert_refused(tmp_path, "classification_head.dense.weight", "a place")
    save_file(arrays, tmp_path / "model.safetensors")
    change_json(tmp_path, is_decoder=True)
    assert_refused(tmp_path, "is_decoder must be False")
