"""Files of torch.save, read without PyTorch: every value, and nothing but values."""

import os
import pickle
import zipfile

import numpy as np
import pytest
import torch_writer as tw
from dragoman import _core
from dragoman.interop.huggingface.torch_file import TorchFile

WRITERS = {"zip": tw.write_zip, "legacy": tw.write_legacy}
writers = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)


def array_of(file, name):
    shape = file.headers[name].shape
    return file.values(name, 0, int(np.prod(shape))).reshape(shape)


@writers
def test_every_value_is_read(write, rng, tmp_path):
    arrays, path = tw.sample(rng), tmp_path / "a.bin"
    write(path, arrays)
    file = TorchFile(path)
    assert list(file.headers) == list(arrays)
    for name, array in arrays.items():
        got = array_of(file, name)
        assert got.dtype == array.dtype
        np.testing.assert_array_equal(got, array)
    np.testing.assert_array_equal(file.values("a", 3, 17), arrays["a"].reshape(-1)[3:17])


def test_views_of_one_storage(rng, tmp_path):
    w = rng.normal(size=(7, 5)).astype(np.float32)
    stored = tw.storage("0", "float32", 35)
    items = {
        "whole": tw.tensor(stored, (7, 5), (5, 1)),
        "turned": tw.tensor(stored, (5, 7), (1, 5)),
        "part": tw.tensor(stored, (3, 2), (5, 1), offset=11),
        "row": tw.tensor(stored, (1, 5), (99, 1), offset=5),
        "parameter": tw.call(tw.named("torch._utils", "_rebuild_parameter"), tw.tensor(stored, (35,), (1,)), b"\x88"),
    }
    path = tmp_path / "a.bin"
    tw.write_zip(path, {"w": w}, pickle=tw.PROTOCOL + tw.dict_of(items) + b".")
    file = TorchFile(path)
    expected = {"whole": w, "turned": w.T, "part": w[2:5, 1:3], "row": w[1:2], "parameter": w.reshape(-1)}
    for name, array in expected.items():
        np.testing.assert_array_equal(array_of(file, name), array)
        filled = _core.Tensor.empty([array.size - 3])
        file.fill(name, 3, filled)
        np.testing.assert_array_equal(filled.numpy(), array.reshape(-1)[3:])
    np.testing.assert_array_equal(file.values("turned", 4, 9), w.T.reshape(-1)[4:9])


def test_a_file_that_becomes_shorter(rng, tmp_path):
    path = tmp_path / "a.bin"
    tw.write_zip(path, {"w": rng.normal(size=9).astype(np.float32)})
    file = TorchFile(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.bin: it must have 36 bytes at \d+, got fewer"):
        file.fill("w", 0, _core.Tensor.empty([9]))


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/executed-by-a-checkpoint",)


W = np.ones((2, 3), np.float32)
STORED = tw.storage("0", "float32", 6)


def one(value, before=b""):
    return tw.PROTOCOL + before + tw.dict_of({"w": value}) + b"."


CALLED = {
    "os.system": pickle.dumps({"w": Evil()}, 2),
    "os.system, protocol 4": pickle.dumps({"w": Evil()}, 4),
    "eval": one(tw.call(tw.named("builtins", "eval"), tw.text("1"))),
    "a storage called": one(tw.call(tw.named("torch", "FloatStorage"), tw.number(1))),
    "torch.load": one(tw.call(tw.named("torch", "load"), tw.text("x"))),
    "a module's attribute": one(tw.named("torch._utils", "_rebuild_tensor_v2.__globals__")),
    "an instance": one(b"(i" + b"os\nsystem\n"),
    "an object": one(tw.named("collections", "OrderedDict") + b")\x81"),
    "an extension": one(b"\x82\x01"),
    "a text that is called": one(tw.call(tw.text("os.system"), tw.text("ls"))),
    "a dict with a state": one(tw.call(tw.named("collections", "OrderedDict"), tw.tuple_of(tw.text("a")))),
    "a tensor that is changed": one(tw.tensor(STORED, (2, 3), (3, 1)) + tw.dict_of({"shape": tw.number(1)}) + b"b"),
}
DAMAGED = {
    "beyond its storage": one(tw.tensor(STORED, (2, 3), (3, 1), offset=1)),
    "a stride too large": one(tw.tensor(STORED, (2, 3), (4, 1))),
    "a stride below zero": one(tw.tensor(STORED, (2, 3), (-3, 1))),
    "repeated values": one(tw.tensor(STORED, (10**9, 6), (0, 1))),
    "an offset below zero": one(tw.tensor(STORED, (2, 3), (3, 1), offset=-1)),
    "a size below zero": one(tw.tensor(STORED, (-2, 3), (3, 1))),
    "sizes without strides": one(tw.tensor(STORED, (2, 3), (3,))),
    "a storage of another size": one(tw.tensor(tw.storage("0", "float32", 7), (2, 3), (3, 1))),
    "a storage that is not there": one(tw.tensor(tw.storage("9", "float32", 6), (2, 3), (3, 1))),
    "two sizes of a storage": tw.PROTOCOL
    + tw.dict_of(
        {
            "w": tw.tensor(STORED, (2, 3), (3, 1)),
            "v": tw.tensor(tw.storage("0", "float64", 3), (3,), (1,)),
        }
    )
    + b".",
    "a view of a storage": one(tw.tensor(tw.storage("0", "float32", 6, view=tw.number(1)), (2, 3), (3, 1))),
    "a number": one(tw.number(3)),
    "a list": tw.PROTOCOL + b"].",
    "nothing": tw.PROTOCOL + b"}.",
    "no value": tw.PROTOCOL + b".",
    "below a mark": tw.PROTOCOL + b"}(sX.",
    "no mark": tw.PROTOCOL + b"t.",
    "no memo": tw.PROTOCOL + b"h\x05.",
    "an odd dict": tw.PROTOCOL + b"}(N" + b"u.",
    "a key that is a tuple": tw.PROTOCOL + b"})" + b"Ns.",
    "too short": tw.state({"w": W})[:-20],
    "protocol 0": b"(dp0\n.",
    "a new protocol": b"\x80\x09}.",
}


@writers
@pytest.mark.parametrize("content", [*CALLED.values(), *DAMAGED.values()], ids=[*CALLED, *DAMAGED])
def test_other_pickles_are_refused(write, content, tmp_path, monkeypatch):
    def called(*_):
        raise AssertionError("a pickle called something")

    for module, name in ((os, "system"), (pickle, "loads"), (pickle, "load"), (pickle, "Unpickler")):
        monkeypatch.setattr(module, name, called)
    path = tmp_path / "a.bin"
    write(path, {"w": W}, pickle=content)
    with pytest.raises(ValueError, match=r"a\.bin: not a file of tensors that torch\.save wrote"):
        TorchFile(path)


def test_what_is_asked_for_is_named(tmp_path):
    tw.write_zip(tmp_path / "a.bin", {"w": W}, pickle=CALLED["os.system"])
    with pytest.raises(ValueError, match=r"may hold tensors alone, got '(posix|nt)\.system'"):
        TorchFile(tmp_path / "a.bin")


BAD_ZIPS = {
    "compressed": {"compression": zipfile.ZIP_DEFLATED},
    "big-endian": {"members": {"archive/byteorder": b"big"}},
    "no pickle": {"members": {"archive/data.pkl": None}},
    "two pickles": {"members": {"other/data.pkl": b"."}},
    "no storage": {"members": {"archive/data/0": None}},
    "a short storage": {"members": {"archive/data/0": bytes(23)}},
}


@pytest.mark.parametrize("options", BAD_ZIPS.values(), ids=BAD_ZIPS)
def test_damaged_archives(options, tmp_path):
    tw.write_zip(tmp_path / "a.bin", {"w": W}, **options)
    with pytest.raises(ValueError, match=r"a\.bin: "):
        TorchFile(tmp_path / "a.bin")


@pytest.mark.parametrize("options", [{"counts": [7]}, {"counts": [-1]}, {"little": b"\x89"}], ids=str)
def test_damaged_files_of_the_older_format(options, tmp_path):
    tw.write_legacy(tmp_path / "a.bin", {"w": W}, **options)
    with pytest.raises(ValueError, match=r"a\.bin: "):
        TorchFile(tmp_path / "a.bin")


@writers
def test_a_file_that_was_cut_is_refused(write, tmp_path):
    path = tmp_path / "a.bin"
    write(path, {"w": W})
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"a\.bin: "):
            TorchFile(path)


@writers
def test_a_changed_byte_is_read_or_refused(write, rng, tmp_path):
    """Never another exception, and never more values than the file has."""
    path = tmp_path / "a.bin"
    write(path, {"w": W, "v": W[0]})
    content = path.read_bytes()
    for _ in range(300):
        changed = bytearray(content)
        changed[rng.integers(len(content))] = rng.integers(256)
        path.write_bytes(changed)
        try:
            file = TorchFile(path)
            assert sum(array_of(file, name).nbytes for name in file.headers) <= len(content)
        except ValueError as error:
            assert "a.bin" in str(error)
