"""Encoder-decoders of others, BART with its kin and T5 with its kin: what their own library computes."""

import json

import dragoman as dg
import ml_dtypes
import numpy as np
import pytest
import torch_writer as tw
from dragoman import _core
from dragoman.cli import main
from dragoman.models import EncoderConfig, TextEncoder
from dragoman.nn import KVCache
from dragoman.nn.positional import sinusoidal_table
from dragoman.predict.folder import predictor_class
from huggingface_folders import assert_close, checkpoint, expected, losses, unpadded
from safetensors.numpy import load_file, save_file

FOLDERS = [
    *[("tiny", name) for name in ("marian", "bart", "mbart", "m2m100", "pegasus", "t5", "t5-v1_1", "t5-v1_1-untied")],
    *[("formats", name) for name in ("marian-bin", "t5-float16", "t5-no-shared")],
]


@pytest.mark.parametrize("parts", FOLDERS, ids="/".join)
def test_logits(parts):
    folder = checkpoint(*parts)
    wanted = expected(folder)
    model = dg.load(folder)
    logits = model.logits(unpadded(wanted["src"], wanted["mask"]), wanted["tgt"].tolist())
    assert logits.dtype == np.float32
    assert_close(logits, wanted["logits"])


def test_an_encoder_alone():
    folder = checkpoint("tiny", "t5-encoder")
    wanted = expected(folder)
    rows = dg.load(folder).encode_ids(unpadded(wanted["ids"], wanted["mask"]))
    assert_close(rows, wanted["out"][wanted["mask"] > 0])


# A model of each family, at odd sizes.
SIDES = {
    **{"vocab_size": 29, "d_model": 12, "num_encoder_layers": 1, "num_decoder_layers": 2, "max_length": 17},
    **{"num_heads": 4, "d_ff": 11, "encoder": {"num_heads": 3, "d_ff": 13}, "unk_id": None, "dropout": 0.0},
    **{"embedding_dropout": 0.0, "output_bias": True, "scale_embeddings": False, "activation": "gelu"},
}
BART = {**SIDES, "positions": "learned", "position_offset": 2, "embedding_norm": True}
T5 = {
    **{"vocab_size": 29, "d_model": 12, "head_dim": 5, "num_heads": 3, "d_ff": 11, "norm": "rms", "norm_first": True},
    **{"num_encoder_layers": 2, "num_decoder_layers": 3, "scale_embeddings": False, "attention_bias": ""},
    **{"feed_forward_bias": False, "attention_scale": 1.0, "positions": "relative", "position_buckets": 8},
    **{"position_distance": 9, "start_id": 0, "eos_id": 1, "bos_id": None, "unk_id": None, "dropout": 0.0},
    **{"embedding_dropout": 0.0, "norm_eps": 1e-6},
}
FAMILIES = {
    "bart": {**BART, "start_id": 2},
    "mbart": {**BART, "norm_first": True, "scale_embeddings": True, "eos_id": (2, 7)},
    "marian": {**SIDES, "position_layout": "halves", "scale_embeddings": True, "activation": "silu"}
    | {"pad_id": 28, "start_id": 28, "eos_id": 0, "bos_id": None},
    "marian, separate": {**SIDES, "position_layout": "halves", "activation": "relu", "tie_embeddings": "two"}
    | {"tgt_vocab_size": 23, "start_id": 0, "bos_id": None},
    "m2m_100": {**SIDES, "norm_first": True, "scale_embeddings": True, "position_layout": "fairseq"}
    | {"position_offset": 1, "output_bias": False, "activation": "relu", "start_id": 2},
    "pegasus": {**SIDES, "norm_first": True, "scale_embeddings": True, "position_layout": "halves"}
    | {"activation": "relu", "bos_id": None, "start_id": 0, "eos_id": 1},
    "t5": {**T5, "output_scale": 12**-0.5},
    "t5, gated by erf": {**T5, "gated": True, "activation": "gelu", "output_scale": 12**-0.5},
    "t5, untied": {**T5, "gated": True, "activation": "gelu_tanh", "tie_embeddings": "inputs"},
    "mt5": {**T5, "gated": True, "activation": "gelu_tanh", "tie_embeddings": "inputs"},
    "umt5": {**T5, "gated": True, "activation": "gelu_tanh", "position_sharing": False, "output_scale": 12**-0.5},
}


def made(name, rng):
    """A model of a family, whose weights are far from where training would begin."""
    model = dg.Transformer(dg.TransformerConfig(**FAMILIES[name]))
    for parameter in model.parameters():
        parameter.copy_(parameter.numpy() + rng.normal(0, 0.3, parameter.shape))
    return model.eval()


def model_type(name):
    return name.split(",")[0]


SOURCE, TARGET = [[5, 6, 7, 8, 9, 10, 11], [4], [12, 13]], [[2, 5, 6, 7], [2], [2, 3, 4, 5, 6]]


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_written_is_read_again(name, rng, tmp_path):
    model = made(name, rng)
    model.save_pretrained(tmp_path, model_type(name))
    again = dg.load(tmp_path)
    assert again.origin["model_type"] == model_type(name)
    assert not again.training
    np.testing.assert_array_equal(again.logits(SOURCE, TARGET), model.logits(SOURCE, TARGET))
    again.save(tmp_path / "ours")  # in the layout of this package, from which it can go back
    ours = dg.load(tmp_path / "ours")
    assert ours.config == again.config
    ours.save_pretrained(tmp_path / "back")
    theirs = json.loads((tmp_path / "config.json").read_text())
    assert json.loads((tmp_path / "back" / "config.json").read_text()) == theirs
    np.testing.assert_array_equal(dg.load(tmp_path / "back").logits(SOURCE, TARGET), model.logits(SOURCE, TARGET))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_cache_changes_nothing(name, rng, tmp_path):
    made(name, rng).save_pretrained(tmp_path, model_type(name))
    model = dg.load(tmp_path)
    source, target = [[5, 6, 7, 8, 9]], [2, 5, 6, 7, 8, 9]
    whole = model.logits(source, [target])
    with model.inference():
        src_ids, src_sequences = model.pack_source("test", source)
        memory, cache, rows = model.encode(src_ids, src_sequences), KVCache(1), []
        for part in ([2, 5], [6], [7, 8, 9]):
            sequences = _core.Sequences([len(part)])
            hidden = model.decode(np.array(part, np.int32), sequences, memory, src_sequences, cache)
            rows.append(model.project(hidden, sequences).numpy())
    assert_close(np.concatenate(rows), whole)


@pytest.mark.parametrize("name", ["bart", "marian, separate", "umt5"])
def test_every_tensor_counts(name, rng, tmp_path):
    """Noise on any tensor of the file changes the scores."""
    made(name, rng).save_pretrained(tmp_path, model_type(name))
    path = tmp_path / "model.safetensors"
    before, arrays = dg.load(tmp_path).logits(SOURCE, TARGET), load_file(path)
    for tensor, array in arrays.items():
        noise = rng.normal(0, 1, array.shape).astype(np.float32)
        save_file(arrays | {tensor: array + noise}, path)
        model = dg.load(tmp_path)
        if tensor.endswith("k_proj.bias"):  # it moves all scores of a query alike, so no output shows it
            values = [parameter.numpy() for parameter in model.parameters()]
            assert any(value.shape == array.shape and (value == array + noise).all() for value in values)
        else:
            assert np.abs(model.logits(SOURCE, TARGET) - before).max() > 1e-4, tensor


def test_what_a_folder_is(rng, tmp_path, capsys):
    made("marian", rng).save_pretrained(tmp_path, "marian")
    (tmp_path / "README.md").write_text("---\nlanguage: de\nlicense: cc-by-4.0\n---\n# A model\n")
    (tmp_path / "source.spm").write_bytes(b"")
    assert predictor_class(tmp_path) is dg.Translator
    main(["info", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    for line in (
        "family: marian (MarianMTModel)",
        f"weights: {len(load_file(tmp_path / 'model.safetensors'))} tensors, float32, in model.safetensors",
        "tokenizer: source.spm",
        "licence: cc-by-4.0",
        "tied to src_embedding.weight: tgt_embedding.weight, output.weight",
    ):
        assert line in lines


def test_ties_are_those_of_the_file(rng, tmp_path):
    made("bart", rng).save_pretrained(tmp_path, "bart")
    path = tmp_path / "model.safetensors"
    arrays = load_file(path)
    shared, head, encoder = "model.shared.weight", "lm_head.weight", "model.encoder.embed_tokens.weight"
    other = arrays[shared] + 1
    for more, tie in (
        ({head: arrays[shared], encoder: arrays[shared]}, "three"),
        ({head: other}, "inputs"),
        ({encoder: other}, "two"),
        ({encoder: other, head: other + 1}, "none"),
    ):
        save_file(arrays | more, path)
        model = dg.load(tmp_path)
        assert model.config.tie_embeddings == tie
        found = {name: parameter.numpy() for name, parameter in model.named_parameters()}
        np.testing.assert_array_equal(found["src_embedding.weight"], more.get(encoder, arrays[shared]))
        if tie in ("inputs", "none"):
            np.testing.assert_array_equal(found["output.weight"], more[head])
    del arrays[shared]
    save_file(arrays | {encoder: other}, path)  # the shared one is missing
    assert dg.load(tmp_path).config.tie_embeddings == "three"


def test_a_stored_table_of_sines(rng, tmp_path):
    """It is computed here; one with other values is a learned table."""
    made("marian", rng).save_pretrained(tmp_path, "marian")
    path = tmp_path / "model.safetensors"
    arrays, before = load_file(path), dg.load(tmp_path).logits(SOURCE, TARGET)
    table = sinusoidal_table(17, 12, "halves")
    tables = dict.fromkeys(("model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight"), table)
    save_file(arrays | tables, path)
    model = dg.load(tmp_path)
    assert model.config.positions == "sinusoidal"
    np.testing.assert_array_equal(model.logits(SOURCE, TARGET), before)
    save_file(arrays | {name: table + np.float32(0.1) for name in tables}, path)
    model = dg.load(tmp_path)
    assert model.config.positions == "learned"
    assert np.abs(model.logits(SOURCE, TARGET) - before).max() > 1e-3
    model.save_pretrained(tmp_path / "back")
    np.testing.assert_array_equal(dg.load(tmp_path / "back").logits(SOURCE, TARGET), model.logits(SOURCE, TARGET))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_dtypes_and_shards(dtype, rng, tmp_path):
    """Weights in another dtype, in several files of either kind, are those values widened."""
    made("t5", rng).save_pretrained(tmp_path, "t5")
    path = tmp_path / "model.safetensors"
    narrow = {
        name: array.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
        for name, array in load_file(path).items()
    }
    save_file({name: array.astype(np.float32) for name, array in narrow.items()}, path)
    wanted = dg.load(tmp_path).logits(SOURCE, TARGET)
    path.unlink()
    halves = [dict(list(narrow.items())[i::2]) for i in range(2)]
    for suffix, write in {"safetensors": save_file, "bin": lambda part, file: tw.write_zip(file, part)}.items():
        stem = "model" if suffix == "safetensors" else "pytorch_model"
        files = [f"{stem}-0000{i}-of-00002.{suffix}" for i in (1, 2)]
        for part, file in zip(halves, files, strict=True):
            write(part, tmp_path / file)
        listed = {name: file for part, file in zip(halves, files, strict=True) for name in part}
        index = tmp_path / f"{stem}.{suffix}.index.json"
        index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": listed}))
        np.testing.assert_array_equal(dg.load(tmp_path).logits(SOURCE, TARGET), wanted)
        index.unlink()


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_fine_tuning_lowers_the_loss(name, adapted, rng, tmp_path):
    made(name, rng).save_pretrained(tmp_path, model_type(name))
    model = dg.load(tmp_path)
    if adapted:
        dg.lora.add(model, rank=2)
    found = losses(model, 0.01, [[5, 6, 7, 8], [4, 9]], [[5, 6, 7], [4]])
    assert found[-1] < found[0]


def test_adapters_are_in_what_is_written(rng, tmp_path):
    made("bart", rng).save_pretrained(tmp_path, "bart")
    model = dg.load(tmp_path)
    before = model.logits(SOURCE, TARGET)
    dg.lora.add(model, rank=2)
    for name, parameter in model.named_parameters():
        if ".adapters." in name:
            parameter.copy_(rng.normal(0, 0.3, parameter.shape))
    changed = model.logits(SOURCE, TARGET)
    assert np.abs(changed - before).max() > 0.1
    model.save_pretrained(tmp_path / "merged")
    assert_close(dg.load(tmp_path / "merged").logits(SOURCE, TARGET), changed)


def test_an_encoder_alone_is_written_and_read(rng, tmp_path):
    fields = {name: value for name, value in T5.items() if "layers" not in name and name != "start_id"}
    model = TextEncoder(EncoderConfig(**fields, num_layers=2)).eval()
    model.save_pretrained(tmp_path, "t5")
    np.testing.assert_array_equal(dg.load(tmp_path).encode_ids(SOURCE), model.encode_ids(SOURCE))


def test_what_a_family_cannot_express_is_not_written(tmp_path):
    model = dg.Transformer(dg.TransformerConfig.tiny(vocab_size=20, d_model=8, num_heads=2))
    with pytest.raises(ValueError, match=r"save_pretrained: model_type must be given"):
        model.save_pretrained(tmp_path / "a")
    with pytest.raises(ValueError, match=r"model_type must be one of .*bart.*, got 'elmo'"):
        model.save_pretrained(tmp_path / "a", "elmo")
    with pytest.raises(ValueError, match=r"a model of model_type bart must have norm_first False, got True"):
        model.save_pretrained(tmp_path / "a", "bart")
    assert not (tmp_path / "a").exists()


def test_a_checkpoint_freezes_with_its_tokenizer(tmp_path):
    model = dg.Transformer(dg.TransformerConfig(**T5 | {"vocab_size": 384, "output_scale": 12**-0.5}))
    model.save_pretrained(tmp_path / "theirs", "t5")
    settings = {"tokenizer_class": "ByT5Tokenizer", "extra_ids": 125}
    (tmp_path / "theirs" / "tokenizer_config.json").write_text(json.dumps(settings))
    arguments = ["--compute-type", "float32", "--output", str(tmp_path / "frozen")]
    assert main(["freeze", str(tmp_path / "theirs"), *arguments]) == 0
    texts = ["a man", "two dogs"]
    wanted = dg.Translator.load(tmp_path / "theirs", compute_type="float32")(texts, max_length=5)
    assert dg.Translator.load(tmp_path / "frozen")(texts, max_length=5) == wanted


@pytest.mark.parametrize("family", ["bart", "t5"])
def test_a_checkpoint_opens_frozen(rng, tmp_path, family):
    """Each tensor is frozen as it is read: the model that is frozen afterwards."""
    made(family, rng).save_pretrained(tmp_path, family)
    for dtype in ("int8", "bfloat16"):
        model = dg.load(tmp_path, compute_type=dtype)
        assert model.frozen == dtype and model.origin["model_type"] == family
        np.testing.assert_array_equal(
            model.logits(SOURCE, [[1, 4, 5]] * len(SOURCE)),
            dg.load(tmp_path).freeze(dtype).logits(SOURCE, [[1, 4, 5]] * len(SOURCE)),
        )


def test_a_tokenizer_goes_there_and_back(tmp_path):
    theirs, ours, back = (tmp_path / name for name in ("theirs", "ours", "back"))
    model = dg.Transformer(dg.TransformerConfig(**T5 | {"vocab_size": 384, "output_scale": 12**-0.5}))
    model.save_pretrained(theirs, "t5")
    settings = {"tokenizer_class": "ByT5Tokenizer", "extra_ids": 125}
    (theirs / "tokenizer_config.json").write_text(json.dumps(settings))
    (theirs / "generation_config.json").write_text('{"max_length": 7}')
    translator = dg.Translator.load(theirs)
    translator.model.save(ours)
    translator.tokenizer.save(ours / "tokenizer.json")
    dg.load(ours).save_pretrained(back)
    assert json.loads((back / "tokenizer_config.json").read_text()) == settings
    assert dg.Translator.load(back)(["a man"], max_length=5) == translator(["a man"], max_length=5)
    dg.load(theirs).save_pretrained(tmp_path / "copy")
    names = {path.name for path in theirs.iterdir()}
    assert {path.name for path in (tmp_path / "copy").iterdir()} == names


def test_a_model_takes_over_what_a_checkpoint_has(rng, tmp_path):
    made("bart", rng).save_pretrained(tmp_path, "bart")
    model = dg.Transformer(dg.TransformerConfig(**FAMILIES["bart"] | {"num_decoder_layers": 3}))
    report = dg.models.load_body(model, tmp_path)
    parameters = dict(model.named_parameters())
    for name, parameter in dg.load(tmp_path).named_parameters():
        np.testing.assert_array_equal(parameters[name].numpy(), parameter.numpy())
    assert all(name.startswith("decoder.layers.2.") for name in report.new)
    assert not report.other_shape and not report.unused
