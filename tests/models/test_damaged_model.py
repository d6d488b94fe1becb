"""Damages of a model's two files, each with the sentence that it must end in."""

import json

import dragoman as dg
import numpy as np
import pytest
from damaged_json import GONE, text_of, with_part
from safetensors.numpy import load_file, save_file

pytestmark = pytest.mark.cpu

CONFIG = dg.TransformerConfig(vocab_size=11, d_model=8, num_heads=2, d_ff=6, num_encoder_layers=1, num_decoder_layers=1)
NAME = "src_embedding.weight"
NO_FILE = "model.safetensors: not a safetensors file"
JSON = "config.json: must be JSON"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    dg.manual_seed(0)
    dg.Transformer(CONFIG).save(folder)
    save_file(load_file(folder / "model.safetensors"), folder / "model.safetensors")  # without a SHA-256 of the config
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def parts(content):
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def file_of(header, data):
    text = header if isinstance(header, bytes) else text_of(header)
    return len(text).to_bytes(8, "little") + text + data


def refused(folder, whole, name, content, message):
    for other, kept in whole.items():
        (folder / other).write_bytes(kept)
    dg.load(folder)
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        dg.load(folder)
    assert str(folder / ("config.json" if "does not fit" in message else name)) in str(caught.value)


BAD_FIELDS = [
    ("dtype", GONE, NO_FILE),
    ("dtype", None, NO_FILE),
    ("dtype", [], NO_FILE),
    ("dtype", "f32", NO_FILE),
    ("dtype", "", NO_FILE),
    ("dtype", "F64", NO_FILE),  # twice the bytes
    ("dtype", "F16", NO_FILE),
    ("dtype", "I32", rf"{NAME} must be float32, float16 or bfloat16, got int32"),
    ("dtype", "U32", rf"{NAME} must be float32, float16 or bfloat16, got uint32"),
    ("shape", GONE, NO_FILE),
    ("shape", None, NO_FILE),
    ("shape", 88, NO_FILE),
    ("shape", [-11, -8], NO_FILE),
    ("shape", [11.0, 8], NO_FILE),
    ("shape", ["11", 8], NO_FILE),
    ("shape", [11, 9], NO_FILE),
    ("shape", [], NO_FILE),
    ("shape", [2**63, 2], NO_FILE),
    ("shape", [2**64, 8], NO_FILE),
    ("shape", [4194305, 4194305, 211106198978564], NO_FILE),  # the product wraps to 4
    ("shape", [8, 11], rf"{NAME} must have shape \(11, 8\), got \(8, 11\)"),
    ("shape", [88], rf"{NAME} must have shape \(11, 8\), got \(88,\)"),
    ("shape", [11, 8, 1], rf"{NAME} must have shape \(11, 8\), got \(11, 8, 1\)"),
    ("shape", [1] * 3000 + [11, 8], rf"{NAME} must have shape"),
    ("data_offsets", GONE, NO_FILE),
    ("data_offsets", [], NO_FILE),
    ("data_offsets", [0], NO_FILE),
    ("data_offsets", [-1, 351], NO_FILE),
    ("data_offsets", [352, 0], NO_FILE),
    ("data_offsets", [1, 353], NO_FILE),
    ("data_offsets", [0, 2**64], NO_FILE),
    ("data_offsets", [0.0, 352.0], NO_FILE),
    ("data_offsets", [2**64 - 352, 2**64], NO_FILE),
]


@pytest.mark.parametrize("number", range(len(BAD_FIELDS)))
def test_a_damaged_field_of_an_array(number, whole, tmp_path):
    field, part, message = BAD_FIELDS[number]
    header, data = parts(whole["model.safetensors"])
    refused(tmp_path, whole, "model.safetensors", file_of(with_part(header, (NAME, field), part), data), message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header, data: b"", NO_FILE),
        (lambda header, data: b"1234567", NO_FILE),
        (lambda header, data: b"\0" * 8, NO_FILE),
        (lambda header, data: b"\xff" * 100, NO_FILE),
        (lambda header, data: (2**63).to_bytes(8, "little") + text_of(header), NO_FILE),
        (lambda header, data: (200_000_000).to_bytes(8, "little") + text_of(header), NO_FILE),
        (lambda header, data: file_of(header, data[:-1]), NO_FILE),
        (lambda header, data: file_of(header, data + b"\0"), NO_FILE),
        (lambda header, data: file_of(header, b""), NO_FILE),
        (lambda header, data: file_of(b"{", data), NO_FILE),
        (lambda header, data: file_of(b"[1]", data), NO_FILE),
        (lambda header, data: file_of(b"null", data), NO_FILE),
        (lambda header, data: file_of(b"[" * 100_000, data), NO_FILE),
        (lambda header, data: file_of(b'{"a":' * 100_000, data), NO_FILE),
        (lambda header, data: file_of(text_of(header) + b"\0", data), NO_FILE),
        (lambda header, data: file_of(text_of(header).replace(b"bias", b"\xff\xff\xff\xff"), data), NO_FILE),
        (lambda header, data: file_of(b" " + text_of(header), data), "the header must begin with a brace"),
        (lambda header, data: file_of(b"\n" + text_of(header), data), "the header must begin with a brace"),
        (lambda header, data: file_of({**header, "__metadata__": 3}, data), NO_FILE),
        (lambda header, data: file_of({**header, "__metadata__": {"step": 3}}, data), NO_FILE),
        (lambda header, data: file_of({**header, "__metadata__": {"a": {}}}, data), NO_FILE),
        (lambda header, data: file_of({**header, "extra": 3}, data), NO_FILE),
        (lambda header, data: file_of({**header, "extra": header[NAME]}, data), NO_FILE),  # shares its bytes
        (lambda header, data: file_of({}, b""), "does not fit model.safetensors: a parameter of shape"),
        (lambda header, data: file_of({}, data), NO_FILE),
    ],
    ids=range(25),
)
def test_a_damaged_file_of_weights(change, message, whole, tmp_path):
    header, data = parts(whole["model.safetensors"])
    refused(tmp_path, whole, "model.safetensors", change(header, data), message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop(NAME), f"missing parameters: {NAME}"),
        (lambda state: state.clear() or state.update({NAME: np.zeros((99, 8), np.float32)}), "does not fit"),
        (lambda state: state.update(extra=np.zeros(1, np.float32)), "unexpected parameters: extra"),
        (lambda state: state.update({"": np.zeros(1, np.float32)}), "unexpected parameters: "),
        (lambda state: state.update({"../x": np.zeros(1, np.float32)}), r"unexpected parameters: \.\./x"),
        (lambda state: state.update({"a\0b": np.zeros(1, np.float32)}), r"the name 'a\\x00b' holds a NUL"),
        (lambda state: state.update({NAME: np.zeros((11, 8))}), "got float64"),
        (lambda state: state.update({NAME: np.zeros((11, 8), bool)}), "got bool"),
        (lambda state: state.update({NAME: np.zeros((11, 8), np.uint64)}), "got uint64"),
        (lambda state: state.update({NAME: np.zeros((0, 8), np.float32)}), r"must have shape \(11, 8\), got \(0, 8\)"),
    ],
    ids=range(10),
)
def test_other_weights(change, message, whole, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(whole["model.safetensors"])
    state = load_file(tmp_path / "model.safetensors")
    change(state)
    save_file(state, tmp_path / "changed")
    refused(tmp_path, whole, "model.safetensors", (tmp_path / "changed").read_bytes(), message)


def test_a_name_that_stands_twice(whole, tmp_path):
    """The library takes the last one."""
    header, data = parts(whole["model.safetensors"])
    text = text_of(header)
    field = text_of({NAME: header[NAME]})[1:-1]
    content = file_of(text[:-1] + b", " + field + b"}", data)
    refused(tmp_path, whole, "model.safetensors", content, f"header: must be JSON .the name '{NAME}' stands twice")


@pytest.mark.parametrize(
    "dtype", ["F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3", "F6_E3M2", "C64", "F8_E4M3FNUZ", "F8_E5M2FNUZ"]
)
def test_a_dtype_that_numpy_has_not(dtype, whole, tmp_path):
    """Refused by us or, where it is older than the dtype, by the library."""
    bits = 64 if dtype == "C64" else int(dtype[1])
    size = 11 * 8 * bits // 8
    field = {"dtype": dtype, "shape": [11, 8], "data_offsets": [0, size]}
    message = f"{NO_FILE}|array '{NAME}' must have a dtype among F64, .*, BOOL, got {dtype}"
    refused(tmp_path, whole, "model.safetensors", file_of({NAME: field}, bytes(size)), message)


SIZE = "must be an int of at least 1, got"

BAD_CONFIGS = [
    ("format", GONE, "format must be 1, got None"),
    ("format", 2, "format must be 1, got 2"),
    ("format", "1", "format must be 1, got '1'"),
    ("format", [1], r"format must be 1, got \[1\]"),
    ("model", "gpt", "model must be one of .*encoder_decoder.*, got 'gpt'"),
    ("model", 3, "model must be one of .*, got 3"),
    ("model", ["encoder_decoder"], "model must be one of"),
    ("model", "x" * 10_000, r"model must be one of .*, got 'xxx.*\.\.\."),
    ("dmodel", 8, r"unknown field 'dmodel'; did you mean d_model\?"),
    ("", 8, "unknown field ''"),
    ("x" * 10_000, 8, r"unknown field 'xxx.*\.\.\."),
    ("vocab_size", GONE, "vocab_size must be given, got none"),
    ("vocab_size", 0, f"vocab_size {SIZE} 0"),
    ("vocab_size", 3, r"unk_id must be None or an int in \[0, 3\), got 3"),
    ("vocab_size", 11.0, f"vocab_size {SIZE} 11.0"),
    ("vocab_size", "11", f"vocab_size {SIZE} '11'"),
    ("vocab_size", True, f"vocab_size {SIZE} True"),
    ("vocab_size", None, f"vocab_size {SIZE} None"),
    ("vocab_size", 2**31, r"does not fit .*: vocab_size must be an int in \[1, 2\^31\)|vocab_size must be"),
    ("vocab_size", 10**400, "vocab_size must be|does not fit"),
    ("vocab_size", 12, "src_embedding.weight must have shape"),
    ("vocab_size", 2**31 - 1, "does not fit .*: a parameter of shape"),
    ("d_model", 10, "src_embedding.weight must have shape"),
    ("d_model", 7, "num_heads must be a divisor of d_model = 7, got 2"),
    ("d_model", 8192, "does not fit .*: a parameter of shape"),
    ("d_model", 2**31 - 2, "does not fit .*: a parameter of shape"),
    ("d_model", -8, f"d_model {SIZE} -8"),
    ("num_heads", 0, f"num_heads {SIZE} 0"),
    ("num_heads", 3, "num_heads must be a divisor of d_model = 8, got 3"),
    ("d_ff", 7, "linear1.weight must have shape"),
    ("d_ff", 10**9, "does not fit .*: a parameter of shape"),
    ("d_ff", {}, f"d_ff {SIZE} {{}}"),
    ("num_encoder_layers", 2, "missing parameters: encoder.layers.1"),
    ("num_encoder_layers", 30_000, "does not fit .*: a parameter of shape"),
    ("num_encoder_layers", 10**18, "does not fit .*: a parameter of shape"),
    ("num_encoder_layers", 10**30, "does not fit .*|num_encoder_layers must be"),
    ("num_decoder_layers", 0, f"num_decoder_layers {SIZE} 0"),
    ("num_decoder_layers", 2, "missing parameters: decoder.layers.1"),
    ("tgt_vocab_size", 12, "tgt_vocab_size must be 11, the source's, to tie the embeddings of both sides, got 12"),
    ("tgt_vocab_size", -1, "tgt_vocab_size must be None or an int above 0, got -1"),
    ("norm_first", 1, "norm_first must be a bool, got 1"),
    ("norm_first", True, "missing parameters: encoder.norm.weight"),
    ("final_norm", "no", "final_norm must be None or a bool, got 'no'"),
    ("final_norm", True, "missing parameters: encoder.norm.weight"),
    ("activation", "swish", "activation must be one of relu, gelu, .* got 'swish'"),
    ("activation", ["relu"], "activation must be one of relu, gelu"),
    ("norm_eps", 0, r"norm_eps must be a number in \(0, 1\), got 0"),
    ("norm_eps", 1e300, r"norm_eps must be a number in \(0, 1\), got 1e\+300"),
    ("norm_eps", 10**400, r"norm_eps must be a number in \(0, 1\), got 1000.*\.\.\."),
    ("norm_eps", -(10**400), r"norm_eps must be a number in \(0, 1\)"),
    ("norm_eps", "1e-5", r"norm_eps must be a number in \(0, 1\), got '1e-5'"),
    ("positions", "absolute", "positions must be one of sinusoidal, learned, .*got 'absolute'"),
    ("positions", "learned", "missing parameters|does not fit"),
    ("max_length", 0, f"max_length {SIZE} 0"),
    ("max_source_length", 0, "max_source_length must be None or an int above 0, got 0"),
    ("tie_embeddings", "two", "missing parameters: tgt_embedding.weight"),
    ("tie_embeddings", None, "tie_embeddings must be one of none, two, inputs, three, got None"),
    ("scale_embeddings", 0, "scale_embeddings must be a bool, got 0"),
    ("output_bias", True, "missing parameters: output.bias"),
    ("dropout", 1, r"dropout must be a number in \[0, 1\), got 1"),
    ("dropout", -0.1, r"dropout must be a number in \[0, 1\), got -0.1"),
    ("dropout", 10**400, r"dropout must be a number in \[0, 1\)"),
    ("attention_dropout", None, r"attention_dropout must be a number in \[0, 1\), got None"),
    ("pad_id", 11, r"pad_id must be None or an int in \[0, 11\), got 11"),
    ("bos_id", -2, r"bos_id must be None or an int in \[0, 11\), got -2"),
    ("eos_id", -1, r"eos_id must be None or an int in \[0, 11\), or a list of them, got -1"),
    ("eos_id", [2, 11], r"eos_id must be an int in \[0, 11\), or a list of them, got \[2, 11\]"),
    ("eos_id", [[2]], r"eos_id must be an int in \[0, 11\), or a list of them"),
    ("start_id", [], r"start_id must be an int in \[0, 11\), or a list of them"),
    ("encoder", 3, "encoder must be None or a dict of the fields that differ, got 3"),
    ("encoder", {"d_ff": "x"}, f"encoder: d_ff {SIZE} 'x'"),
    ("decoder", {"d_model": 10**9, "num_heads": 1}, "tie_embeddings must be"),
    ("decoder", {"d_ff": 10**9}, "does not fit model.safetensors"),
    ("unk_id", False, "unk_id must be None or an int"),
]


@pytest.mark.parametrize(
    "fields",
    [
        {"positions": "relative", "position_buckets": 2**30, "position_distance": 2**30},
        {"positions": "shaw", "position_distance": 2**30},
        {"positions": "alibi", "num_heads": 2**30, "head_dim": 1},
        {"positions": "rotary", "head_dim": 2**30},
        {"positions": "learned", "position_offset": 2**40},
        {"kv_heads": 1, "head_dim": 2**30},
    ],
    ids=str,
)
def test_positions_larger_than_the_weights(fields, whole, tmp_path):
    content = text_of(json.loads(whole["config.json"]) | fields)
    refused(tmp_path, whole, "config.json", content, "does not fit model.safetensors: ")


@pytest.mark.parametrize("number", range(len(BAD_CONFIGS)))
def test_a_damaged_config(number, whole, tmp_path):
    field, part, message = BAD_CONFIGS[number]
    content = text_of(with_part(json.loads(whole["config.json"]), (field,), part))
    for name, kept in whole.items():
        (tmp_path / name).write_bytes(kept)
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        dg.load(tmp_path)
    assert str(tmp_path) in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", JSON),
        (b"\xff\xfe{\0", JSON),
        (b"{", JSON),
        (b"[" * 100_000, JSON),
        (b"null", "must hold an object, got NoneType"),
        (b"[1]", "must hold an object, got list"),
        (b'{"format": 1, "format": 1}', "the name 'format' stands twice in an object"),
        (b'{"norm_eps": NaN}', "numbers must be finite, got NaN"),
        (b'{"norm_eps": 1e999}', "numbers must be finite, got '1e999'"),
        (b'{"norm_eps": 0.' + b"1" * 400 + b"e9999}", "numbers must be finite"),
        (b'{"d_model": ' + b"1" * 5000 + b"}", JSON),
        (b" " * (1 << 20) + b"{}", "must have at most 1,048,576 bytes, got more"),
    ],
    ids=range(12),
)
def test_a_damaged_text_of_a_config(content, message, whole, tmp_path):
    refused(tmp_path, whole, "config.json", content, message)
