"""Writes files as torch.save does, without PyTorch: pickles made opcode by opcode, so that they may be bad, too."""

import struct
import zipfile

import ml_dtypes
import numpy as np

STORAGES = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "bool": "BoolStorage",
}
MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = b"\x80\x02"


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value):
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def named(module, name):
    return f"c{module}\n{name}\n".encode()


def tuple_of(*items):
    return b"(" + b"".join(items) + b"t"


def numbers(values):
    return tuple_of(*map(number, values))


def dict_of(items):
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def call(function, *arguments):
    return function + tuple_of(*arguments) + b"R"


def storage(key, dtype, size, view=b""):
    return tuple_of(text("storage"), named("torch", STORAGES[dtype]), text(key), text("cpu"), number(size), view) + b"Q"


def tensor(stored, shape, strides, offset=0):
    hooks = call(named("collections", "OrderedDict"))
    rebuild = named("torch._utils", "_rebuild_tensor_v2")
    return call(rebuild, stored, number(offset), numbers(shape), numbers(strides), b"\x89", hooks)


def steps(shape):
    """Strides of an array in C order, in values."""
    return [int(np.prod(shape[i + 1 :])) for i in range(len(shape))]


def bits(array):
    return np.ascontiguousarray(array).tobytes()


def state(arrays, view=b""):
    """The pickle of a dict of tensors, each in a storage of its own, whose key is its number."""
    items = {
        name: tensor(storage(str(i), str(array.dtype), array.size, view), array.shape, steps(array.shape))
        for i, (name, array) in enumerate(arrays.items())
    }
    metadata = dict_of({"_metadata": call(named("collections", "OrderedDict"))})
    ordered = call(named("collections", "OrderedDict")) + dict_of(items)[1:]
    return PROTOCOL + ordered + metadata + b"b."


def write_zip(path, arrays, *, pickle=None, members=None, compression=zipfile.ZIP_STORED):
    """The format of today. `members`: other contents of members, None for none."""
    files = {"archive/data.pkl": state(arrays) if pickle is None else pickle, "archive/byteorder": b"little"}
    files |= {f"archive/data/{i}": bits(array) for i, array in enumerate(arrays.values())}
    files |= {"archive/version": b"3\n", **(members or {})}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            if content is not None:
                archive.writestr(name, content)


def write_legacy(path, arrays, *, pickle=None, counts=None, little=b"\x88"):
    """The format before PyTorch 1.6."""
    keys = [str(i) for i in range(len(arrays))]
    system = dict_of({"protocol_version": number(1001), "little_endian": little})
    listed = b"](" + b"".join(map(text, keys)) + b"e"
    parts = [PROTOCOL + part + b"." for part in (number(MAGIC), number(1001), system)]
    parts += [state(arrays, view=b"N") if pickle is None else pickle, PROTOCOL + listed + b"."]
    for i, array in enumerate(arrays.values()):
        parts += [struct.pack("<q", array.size if counts is None else counts[i]), bits(array)]
    path.write_bytes(b"".join(parts))


def sample(rng):
    """Arrays of every kind that a checkpoint holds."""
    return {
        "a": rng.normal(size=(7, 5)).astype(np.float32),
        "half": rng.normal(size=(3, 2)).astype(np.float16),
        "brain": rng.normal(size=(4,)).astype(ml_dtypes.bfloat16),
        "double": rng.normal(size=(2, 3)),
        "ids": np.arange(6)[None],
        "mask": np.array([True, False]),
        "scalar": np.array(2.5, np.float32),
        "empty": np.zeros((0, 3), np.float32),
    }
