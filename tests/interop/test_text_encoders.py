"""BERT and its kin from folders of the Hugging Face layout."""

import dataclasses
import json

import dragoman as dg
import numpy as np
import pytest
from dragoman import lora
from dragoman.models import EncoderConfig, TextEncoder, load_body
from huggingface_folders import assert_close, change_json, checkpoint, expected, losses
from safetensors.numpy import load_file, save_file

BATCH = [[5, 9, 3, 30, 7], [4, 8], [6, 12, 11]]
SIZES = {"vocab_size": 41, "d_model": 8, "num_layers": 2, "num_heads": 2, "d_ff": 11, "max_length": 17}
BODY = {"positions": "learned", "embedding_norm": True, "scale_embeddings": False, "unk_id": None, "eos_id": 0}
LABELS = {"head": "classify", "labels": ("a", "b", "c"), "pooling": "first", "pooler": True}
TAGS = {"head": "tag", "labels": ("x", "y"), "pooling": "first"}
HEADS = {"none": {}, "mlm": {"head": "mlm"}, "classify": LABELS, "tag": TAGS}
BERT = {"token_types": 2, "norm_eps": 1e-12, "activation": "gelu", "bos_id": None}
KINDS = {
    "bert": BERT,
    "roberta": {"token_types": 1, "norm_eps": 1e-5, "activation": "silu", "position_offset": 3, "pad_id": 2},
    "xlm-roberta": {"token_types": 2, "activation": "gelu_tanh", "position_offset": 2, "pad_id": 1, "eos_id": 2},
    "camembert": {"token_types": 1, "activation": "gelu", "position_offset": 2, "pad_id": 1, "eos_id": 2},
    "mpnet": {"norm_eps": 1e-12, "activation": "gelu", "position_offset": 2, "pad_id": 1, "eos_id": 1}
    | {"layers": ({"positions": "relative"},)},
    "distilbert": {"norm_eps": 1e-12, "activation": "relu", "bos_id": None},
}


def model_of(kind, head, **fields):
    """A model that a checkpoint of the kind can hold, with parameters that are all different."""
    fields = {"pooler": head == "none" and kind != "distilbert"} | SIZES | BODY | KINDS[kind] | HEADS[head] | fields
    fields |= {"dropout": 0.2, "embedding_dropout": 0.2, "attention_dropout": 0.1}
    if head == "mlm":
        same = kind in ("bert", "distilbert")
        fields["head_activation"] = fields["activation"] if same else None
    if head == "classify" and kind == "distilbert":
        fields["head_activation"] = "relu"
    model = TextEncoder(EncoderConfig(**fields)).eval()
    rng = np.random.default_rng(3)
    for parameter in model.parameters():
        parameter.copy_((parameter.numpy() + rng.normal(0, 0.2, parameter.shape)).astype(np.float32))
    return model


def types_of(model):
    return [[i % 2 for i in range(len(ids))] for ids in BATCH] if model.config.token_types == 2 else None


CHECKPOINTS = [
    *("bert", "bert-mlm", "bert-cls", "bert-tok", "roberta-mlm", "xlm-roberta", "distilbert-mlm", "distilbert-cls"),
    *("mpnet", "mpnet-mlm"),
]


@pytest.mark.parametrize("name", [f"tiny/{name}" for name in CHECKPOINTS] + ["formats/bert-bin-legacy"])
def test_outputs_of_transformers(name, tmp_path):
    """Alone and in a batch; saved in our format; saved in theirs."""
    folder = checkpoint(*name.split("/"))
    wanted, model = expected(folder), dg.load(folder)
    lengths = wanted["mask"].sum(1)
    ids, types = (
        [row[:length].tolist() for row, length in zip(wanted[key], lengths, strict=True)] if key in wanted else None
        for key in ("ids", "type")
    )
    out = wanted["out"]
    if out.ndim == 3:
        out = np.concatenate([rows[:length] for rows, length in zip(out, lengths, strict=True)])
    run = model.encode_ids if model.head is None else model.logits
    assert_close(run(ids, types=types), out)
    assert_close(run(ids[1:], types=types and types[1:]), out[-1:] if out.shape[0] == 2 else out[-lengths[1] :])
    model.save(tmp_path / "ours")
    model.save_pretrained(tmp_path / "theirs")
    for again in (dg.load(tmp_path / "ours"), dg.load(tmp_path / "theirs")):
        assert again.config == model.config
        np.testing.assert_array_equal(again.logits(ids, types=types), model.logits(ids, types=types))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("kind", KINDS)
def test_written_and_read_again(kind, head, tmp_path):
    model = model_of(kind, head)
    model.save_pretrained(tmp_path, model_type=kind)
    again = dg.load(tmp_path)
    assert again.config == model.config
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], array, err_msg=name)
    types = types_of(model)
    np.testing.assert_array_equal(again.logits(BATCH, types=types), model.logits(BATCH, types=types))
    assert again.origin["model_type"] == kind


@pytest.mark.parity
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("kind", KINDS)
def test_transformers_reads_what_was_written_and_the_reverse(kind, head, tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    model = model_of(kind, head)
    model.save_pretrained(tmp_path, model_type=kind)
    name = json.loads((tmp_path / "config.json").read_text())["architectures"][0]
    theirs, report = getattr(transformers, name).from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    types = types_of(model)

    def compare(own, other):
        outputs = []
        for i, ids in enumerate(BATCH):
            more = {} if types is None else {"token_type_ids": torch.tensor([types[i]])}
            with torch.no_grad():
                found = other(input_ids=torch.tensor([ids]), **more)
            rows = found.last_hidden_state if head == "none" else found.logits
            outputs.append(rows.numpy().reshape(-1, rows.shape[-1]))
        assert_close(own.logits(BATCH, types=types), np.concatenate(outputs))

    compare(model, theirs.eval())
    theirs.save_pretrained(tmp_path / "back")
    compare(dg.load(tmp_path / "back"), theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_with_and_without_lora(kind, tmp_path):
    model_of(kind, "classify").save_pretrained(tmp_path, model_type=kind)
    change_json(tmp_path, **dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout"), 0.0))
    for adapted in (False, True):
        model = dg.load(tmp_path)
        if adapted:
            lora.add(model, rank=2)
        found = losses(model, 2e-2 if adapted else 5e-3, BATCH, [0, 2, 1])
        assert np.mean(found[-3:]) < np.mean(found[:3])


def test_a_head_with_weights_of_its_own(tmp_path):
    """What is in the file decides, not the config."""
    for kind in ("bert", "roberta", "distilbert", "mpnet"):
        folder = tmp_path / kind
        model = model_of(kind, "mlm", tie_embeddings=False)
        model.save_pretrained(folder, model_type=kind)
        change_json(folder, tie_word_embeddings=True)
        again = dg.load(folder)
        assert not again.config.tie_embeddings
        np.testing.assert_array_equal(again.logits(BATCH), model.logits(BATCH))


BIASES = {
    "bert": ("cls.predictions.bias", "cls.predictions.decoder.bias"),
    "roberta": ("lm_head.bias", "lm_head.decoder.bias"),
    "mpnet": ("lm_head.bias", "lm_head.decoder.bias"),
}


@pytest.mark.parametrize("kind", BIASES)
def test_a_head_with_two_biases(kind, tmp_path):
    """An untied head adds the one that lies beside its weights, and is saved with both names."""
    bias, product = BIASES[kind]
    model = model_of(kind, "mlm", tie_embeddings=False)
    model.save_pretrained(tmp_path, model_type=kind)
    path = tmp_path / "model.safetensors"
    arrays = load_file(path)
    np.testing.assert_array_equal(arrays[bias], arrays[product])
    save_file(arrays | {bias: arrays[bias] + 1}, path)
    np.testing.assert_array_equal(dg.load(tmp_path).logits(BATCH), model.logits(BATCH))
    save_file({name: array for name, array in arrays.items() if name != product}, path)
    np.testing.assert_array_equal(dg.load(tmp_path).logits(BATCH), model.logits(BATCH))


def test_a_pooler_without_a_head(tmp_path):
    """It is kept where it is, and may be missing."""
    for kind in ("bert", "roberta", "mpnet"):
        folder = tmp_path / kind
        model_of(kind, "none", pooler=False).save_pretrained(folder, model_type=kind)
        assert dg.load(folder).pooler is None
        assert model_of(kind, "none").pooler is not None


def test_a_body_becomes_a_classifier(tmp_path):
    body = model_of("bert", "none")
    body.save_pretrained(tmp_path, model_type="bert")
    config = dataclasses.replace(dg.load(tmp_path).config, head="classify", labels=("a", "b"), pooling="first")
    model = TextEncoder(config)
    report = load_body(model, tmp_path)
    assert (report.new, report.other_shape, report.unused) == (("head.output.weight", "head.output.bias"), (), ())
    np.testing.assert_array_equal(model.pooler.weight.numpy(), body.pooler.weight.numpy())


def test_heads_are_found_without_their_name(tmp_path):
    for kind in KINDS:
        for head in HEADS:
            folder = tmp_path / kind / head
            model_of(kind, head).save_pretrained(folder, model_type=kind)
            change_json(folder, architectures=None)
            assert dg.load(folder).config.head == head
    folder = tmp_path / "mpnet" / "none"  # the name of what it was made from
    change_json(folder, architectures=["MPNetForMaskedLM"])
    assert dg.load(folder).config.head == "none"


def test_labels(tmp_path):
    """Their names and kinds; a reranker has one."""
    model_of("bert", "classify", labels=("only",)).save_pretrained(tmp_path, model_type="bert")
    for problem, kind in ((None, "several"), ("regression", "numbers"), ("single_label_classification", "one")):
        change_json(tmp_path, problem_type=problem)
        model = dg.load(tmp_path)
        assert (model.config.label_kind, model.config.labels) == (kind, ("only",))
        assert model.logits(BATCH).shape == (3, 1)
    change_json(tmp_path, id2label=None, num_labels=1)
    assert dg.load(tmp_path).config.labels == ("LABEL_0",)


@pytest.mark.parametrize(
    ("kind", "head", "fields", "message"),
    [
        ("bert", "none", {"position_embedding_type": "relative_key"}, "position_embedding_type must be 'absolute'"),
        ("bert", "none", {"is_decoder": True}, "is_decoder must be False"),
        ("bert", "none", {"hidden_act": "mish"}, "hidden_act must be one of relu, gelu"),
        ("bert", "none", {"architectures": ["BertForQuestionAnswering"]}, "architectures must be a list of one name"),
        ("bert", "none", {"architectures": ["BertLMHeadModel"]}, "architectures must be a list of one name"),
        ("bert", "none", {"architectures": "BertModel"}, "architectures must be a list of one name"),
        ("bert", "none", {"num_attention_heads": 3}, "num_heads must be a divisor of d_model = 8, got 3"),
        ("roberta", "none", {"pad_token_id": 30}, "max_position_embeddings must be above 31"),
        ("mpnet", "none", {"relative_attention_num_buckets": 64}, "relative_attention_num_buckets must be 32"),
        ("bert", "classify", {"id2label": {"0": "a", "2": "b"}}, "id2label must be an object of texts"),
        ("bert", "classify", {"id2label": {"0": "a", "1": "b"}}, "'classifier.(weight|bias)' must have shape"),
        ("bert", "classify", {"problem_type": "ranking"}, "problem_type must be one of"),
        ("bert", "mlm", {"type_vocab_size": 3}, "token_type_embeddings.weight' must have shape"),
        ("distilbert", "classify", {"activation": "swiglu"}, "activation must be one of"),
        ("distilbert", "mlm", {"architectures": ["DistilBertForSequenceClassification"]}, "must hold 'pre_classifier"),
    ],
    ids=str,
)
def test_what_is_not_understood_is_refused(kind, head, fields, message, tmp_path):
    model_of(kind, head).save_pretrained(tmp_path, model_type=kind)
    change_json(tmp_path, **fields)
    with pytest.raises(ValueError, match=message) as found:
        dg.load(tmp_path)
    assert str(tmp_path) in str(found.value)
