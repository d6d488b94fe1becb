"""Damages of a checkpoint with a right SHA-256, as of a careless writer, each with the sentence that it must end in."""

import json
import shutil

import dragoman as dg
import numpy as np
import pytest
from damaged_json import GONE, text_of, with_part
from damaged_kinds import redigested

CONFIG = dg.TransformerConfig(vocab_size=11, d_model=8, num_heads=2, d_ff=6, num_encoder_layers=1, num_decoder_layers=1)
PAIRS = [([5, 6, 2], [6, 5]), ([7, 2], [7]), ([8, 9, 2], [9])]
INCOMPLETE = "metadata field state is incomplete"
MODEL = "model.src_embedding.weight"
MEAN = "optimizer.mean.src_embedding.weight"


def train(folder, steps, **options):
    dg.manual_seed(0)
    trainer = dg.Trainer(
        dg.Transformer(CONFIG), output=folder, max_steps=steps, lr=0.01, warmup=1, batch_tokens=6, final="last"
    )
    trainer.fit(PAIRS, **options)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    train(folder, 2)
    return folder


@pytest.fixture
def refused(run, tmp_path):
    """Resumes a copy of the run whose checkpoint was changed."""
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    (path,) = (folder / "checkpoints").iterdir()
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")

    def check(change, message):
        header, data = change(json.loads(content[8 : 8 + size]), content[8 + size :])
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        path.write_bytes(redigested(len(text).to_bytes(8, "little") + text + data))
        with pytest.raises(ValueError, match=message) as caught:
            train(folder, 3, resume=True)
        assert str(path) in str(caught.value) and len(str(caught.value)) < 500

    return check


BAD_STATES = [
    ("position", GONE, "state must hold an object position, got NoneType"),
    ("position", None, "state must hold an object position, got NoneType"),
    ("position", [], "state must hold an object position, got list"),
    ("position", "step", "state must hold an object position, got str"),
    ("position.lines", 3, f"{INCOMPLETE} .*unexpected keyword argument 'lines'"),
    ("position.step", None, f"{INCOMPLETE} .step must be int, got None"),
    ("position.step", "2", f"{INCOMPLETE} .step must be int, got '2'"),
    ("position.step", 2.0, f"{INCOMPLETE} .step must be int, got 2.0"),
    ("position.step", True, f"{INCOMPLETE} .step must be int, got True"),
    ("position.step", -1, f"{INCOMPLETE} .step must be int, got -1"),
    ("position.step", 10**30, f"{INCOMPLETE} .step must be int, got 1000"),
    ("position.step", [2], rf"{INCOMPLETE} .step must be int, got \[2\]"),
    ("position.epoch", -1, f"{INCOMPLETE} .epoch must be int, got -1"),
    ("position.epoch", {}, f"{INCOMPLETE} .epoch must be int, got {{}}"),
    ("position.batch", -1, f"{INCOMPLETE} .batch must be int, got -1"),
    ("position.batch", 2, f"{INCOMPLETE} .batch must be one of the epoch, got 2"),
    ("position.batch", 10**9, f"{INCOMPLETE} .batch must be one of the epoch"),
    ("position.batch", 10**400, f"{INCOMPLETE} .batch must be int"),
    ("position.seconds", "1", f"{INCOMPLETE} .seconds must be float, got '1'"),
    ("position.seconds", -1.0, f"{INCOMPLETE} .seconds must be float, got -1.0"),
    ("position.seconds", 10**400, f"{INCOMPLETE} .seconds must be float"),
    ("position.skipped", None, f"{INCOMPLETE} .skipped must be int, got None"),
    ("position.skipped_in_row", 0.5, f"{INCOMPLETE} .skipped_in_row must be int, got 0.5"),
    ("position.best_step", "1", f"{INCOMPLETE} .best_step must be int . None, got '1'"),
    ("position.best_step", -1, f"{INCOMPLETE} .best_step must be int . None, got -1"),
    ("position.best_score", [], rf"{INCOMPLETE} .best_score must be float . None, got \[\]"),
    ("position.since_best", -1, f"{INCOMPLETE} .since_best must be int, got -1"),
    ("position.due", 1, f"{INCOMPLETE} .due must be bool, got 1"),
    ("position.due", None, f"{INCOMPLETE} .due must be bool, got None"),
    ("sums", GONE, "state must hold an object sums, got NoneType"),
    ("sums", 3, "state must hold an object sums, got int"),
    ("sums", {"loss": "x"}, f"{INCOMPLETE} .loss must be float, got 'x'"),
    ("sums", {"targets": 3, "loss": 1.0}, f"{INCOMPLETE} .seconds must be above 0 where there are targets, got 0.0"),
    ("sums", {"targets": -3}, f"{INCOMPLETE} .targets must be int, got -3"),
    ("sums", {"tokens": 1.5}, f"{INCOMPLETE} .tokens must be int, got 1.5"),
    ("sums", {"words": 1}, f"{INCOMPLETE} .*unexpected keyword argument 'words'"),
    ("random", GONE, f"{INCOMPLETE} .'random'"),
    ("random", None, f"{INCOMPLETE} .set_state: state must be a Mapping"),
    ("random", [], f"{INCOMPLETE} .set_state: state must be a Mapping"),
    ("random", "x", f"{INCOMPLETE} .set_state: state must be a Mapping"),
    ("random.seed", GONE, f"{INCOMPLETE} .set_state: .*'seed'"),
    ("random.seed", -1, f"{INCOMPLETE} .set_state: .*must be an int of 64 bits, got -1"),
    ("random.seed", "0", f"{INCOMPLETE} .set_state: .*must be an int of 64 bits, got '0'"),
    ("random.step", 2**63, f"{INCOMPLETE} .set_state: .*must be an int of 63 bits"),
    ("random.next_id", 2**32, f"{INCOMPLETE} .set_state: .*must be an int of 32 bits, got 4294967296"),
    ("random.generator", None, f"{INCOMPLETE} .set_state"),
    ("random.generator.counter", [0, 0, 0], rf"{INCOMPLETE} .set_state: .*must be a list of 4 ints, got \[0, 0, 0\]"),
    ("random.generator.counter", [0, 0, 0, -1], f"{INCOMPLETE} .set_state: .*must be an int of 64 bits, got -1"),
    ("random.generator.key", [0, 0.5], f"{INCOMPLETE} .set_state: .*must be an int of 64 bits, got 0.5"),
    ("random.generator.buffer", [[0], 0, 0, 0], f"{INCOMPLETE} .set_state: .*must be an int of 64 bits"),
    ("random.generator.buffer_pos", -5, f"{INCOMPLETE} .set_state: .*must be an int of 3 bits, got -5"),
    ("random.generator.buffer_pos", 10**6, f"{INCOMPLETE} .set_state: .*must be an int of 3 bits"),
    ("random.generator.has_uint32", 2, f"{INCOMPLETE} .set_state: .*must be an int of 1 bits, got 2"),
    ("data", None, "state must hold an object data, got NoneType"),
    ("data", [], "state must hold an object data, got list"),
    ("data", {}, "must be the same to resume, was None"),
    ("data.columns", 3.5, "the data must be the same to resume, got other ids in source"),
    ("data.columns", None, "the data must be the same to resume, got other ids in source"),
    ("data.columns.target", "x", "the data must be the same to resume, got other ids in target"),
    ("data.lengths", [], "the data must be the same to resume, got examples of other lengths"),
    ("data.seed", "0", "seed must be the same to resume, was 0, got 0"),
    ("data.batch_tokens", 10**400, "batch_tokens must be the same to resume, was 1000"),
    ("options", [], "state must hold an object options, got list"),
]


@pytest.mark.parametrize("number", range(len(BAD_STATES)))
def test_a_damaged_state(number, refused):
    path, part, message = BAD_STATES[number]

    def change(header, data):
        metadata = header["__metadata__"]
        metadata["state"] = text_of(with_part(json.loads(metadata["state"]), path, part)).decode()
        return header, data

    refused(change, message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "metadata field state: must be JSON"),
        ("{", "metadata field state: must be JSON"),
        ("[1]", "metadata field state: must hold an object, got list"),
        ("null", "metadata field state: must hold an object, got NoneType"),
        ("3", "metadata field state: must hold an object, got int"),
        ("[" * 100_000, "metadata field state: must be JSON, got too many brackets inside each other"),
        ('{"a":' * 100_000, "metadata field state: must be JSON, got too many brackets inside each other"),
        ('{"data": {}, "data": {}}', "metadata field state: must be JSON .the name 'data' stands twice"),
        ('{"position": NaN}', "metadata field state: must be JSON .numbers must be finite, got NaN"),
        ('{"position": 1e999}', "metadata field state: must be JSON .numbers must be finite"),
        ('{"position": ' + "1" * 5000 + "}", "metadata field state: must be JSON"),
    ],
    ids=range(11),
)
def test_a_damaged_text_of_the_state(text, message, refused):
    refused(lambda header, data: (with_part(header, "__metadata__.state", text), data), message)


def other_name(name):
    def change(header, data):
        return {key.replace(name, "x") if key == name else key: value for key, value in header.items()}, data

    return change


def other_field(name, field, value):
    return lambda header, data: (with_part(header, (name, field), value), data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_name(MODEL), "load_state_dict: missing parameters: src_embedding.weight"),
        (other_name(MEAN), "AdamW: the state must hold mean.src_embedding.weight, which this optimizer trains"),
        (other_name("optimizer.step"), "AdamW: the state must hold step, got none"),
        (other_field(MODEL, "shape", [8, 11]), r"src_embedding.weight must have shape \(11, 8\), got \(8, 11\)"),
        (other_field(MODEL, "dtype", "I32"), "src_embedding.weight must be float32, float16 or bfloat16, got int32"),
        (other_field(MEAN, "shape", [88]), r"AdamW: mean.src_embedding.weight must have shape \(11, 8\), got \(88,\)"),
        (other_field(MEAN, "dtype", "U32"), "AdamW: mean.src_embedding.weight must be float32, got uint32"),
        (other_field("optimizer.step", "dtype", "F64"), "AdamW: step must be one int of at least 0, got float64"),
        (other_field("optimizer.step", "shape", [1, 1, 1, 0]), "not a safetensors file"),
        (other_field("__metadata__", "format", "dragoman"), "field format must be one of .*, got 'dragoman'"),
        (other_field("__metadata__", "format", "dragoman.checkpoint.9"), "field format must be one of"),
    ],
    ids=range(11),
)
def test_damaged_arrays(change, message, refused):
    refused(change, message)


def test_a_step_below_zero(refused):
    def change(header, data):
        first, last = header["optimizer.step"]["data_offsets"]
        return header, data[:first] + np.array(-1).tobytes() + data[last:]

    refused(change, "AdamW: step must be one int of at least 0")
