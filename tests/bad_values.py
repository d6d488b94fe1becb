"""Values for the arguments of public callables: kinds of bad ones, by the kind of the argument."""

import dragoman as dg
import numpy as np


def floats(*shape):
    return np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def tensor(*shape, dtype=None):
    return dg.tensor(floats(*shape), dtype=dtype)


def ragged(values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


OBJECTS = {
    "list": [0.5],
    "empty list": [],
    "tuple": (0.5, 1),
    "dict": {"a": 1},
    "set": {1, 2},
    "string": "0.5",
    "empty string": "",
    "bytes": b"0.5",
    "complex": 1j,
    "array": np.ones(2),
    "empty array": np.ones((0, 3)),
    "big-endian array": np.ones(2, ">f4"),
    "object array": ragged([None, object()]),
    "strings": np.array(["a", "b"]),
    "tensor": dg.tensor([0.5, 0.5]),
    "class": int,
    "function": len,
}
NONE = {"None": None}
NUMBERS = {"true": True, "nan": float("nan"), "inf": float("inf"), "-inf": -float("inf"), "huge": 10**400}
NUMBER = OBJECTS | NONE | NUMBERS
AT_LEAST_0 = NUMBER | {"negative": -1}
ABOVE_0 = AT_LEAST_0 | {"zero": 0}
RATE = AT_LEAST_0 | {"one": 1.0, "above": 2}
INT = OBJECTS | NONE | NUMBERS | {"fraction": 1.5, "negative": -1}
SIZE = INT | {"zero": 0, "too many": 2**40}
FLAG = OBJECTS | NONE | {"zero": 0, "one": 1, "nan": float("nan")}
CHOICE = OBJECTS | NONE | {"unknown": "swish", "capitals": "RELU", "number": 1, "nan": float("nan"), "true": True}
SEQUENCES = (
    OBJECTS
    | NONE
    | {"number": 1, "nan": float("nan"), "true": True}
    | {"more rows": dg.Sequences([2, 9]), "fewer rows": dg.Sequences([1]), "slotted": dg.Sequences.slotted([2, 1], 3)}
)
TENSOR = (
    {name: value for name, value in OBJECTS.items() if name != "tensor"}
    | NONE
    | {"number": 1.0, "nan": float("nan"), "true": True, "core's own": tensor(3, 4).data}
    | {f"of {dtype}": dg.tensor(np.ones((3, 4)), dtype=dtype) for dtype in ("int32", "int64", "bool")}
)
SHAPED = TENSOR | {"scalar": tensor(), "empty": tensor(0), "more axes": tensor(1, 3, 1, 4), "sizes": tensor(7, 5)}
WEIGHT = SHAPED | {"fewer axes": tensor(4)}
VECTOR = SHAPED | {"more axes": tensor(3, 4)}
OPERAND = {name: value for name, value in SHAPED.items() if name not in ("number", "scalar")} | NUMBERS
IDS = {name: value for name, value in OBJECTS.items() if name != "empty list"} | {
    "no ids": [],
    "None": None,
    "nan": [float("nan")] * 3,
    "bools": [True, False, True],
    "too many": [1, 2, 3, 4],
    "too few": [1],
    "scalar": 1,
    "more axes": [[1, 2, 3]],
    "rows of different lengths": [[1, 2], [3]],
    "too large": [1, 99, 2],
    "negative": [1, 2, -7],
    "beyond int32": [1, 2**40, 2],
    "beyond int64": [1, 2**70, 2],
    "tensor of floats": tensor(3),
}
INDICES = {name: value for name, value in IDS.items() if name not in ("no ids", "too many", "too few")}
AXIS = {name: value for name, value in INT.items() if name not in ("None", "negative")} | {"third": 2, "fourth": -3}
ARRAY = {
    "None": None,
    "string": "1",
    "strings": ["1", "2"],
    "bytes": b"1",
    "dict": {"a": 1},
    "set": {1},
    "complex": 1j,
    "object array": ragged([1, 2]),
    "with None": [1, None],
    "rows of different lengths": [[1, 2], [3]],
    "float16": np.ones(2, np.float16),
    "uint32": np.ones(2, np.uint32),
    "dates": np.array(["2020-01-01"], "datetime64[D]"),
    "records": np.zeros(2, [("a", "f4")]),
    "class": int,
    "beyond int64": [2**70],
}
INTS = {
    **{name: OBJECTS[name] for name in ("string", "strings", "array", "object array", "class", "function", "tensor")},
    "None": None,
    "number": 3,
    "fractions": [1.0, 2.0],
    "nan": [float("nan")],
    "nested": [[1, 2]],
    "with None": [1, None],
    "complex": [1j],
    "bools": [True],
    "negative": [3, -5],
    "beyond int64": [2**70],
    "many": [2**40, 2**40],
}
DTYPE = {name: value for name, value in OBJECTS.items() if not isinstance(value, np.ndarray)} | {
    "not held": "float16",
    "NumPy's": np.float32,
    "spaces": " float32",
    "number": 1,
    "nan": float("nan"),
}
DEVICE = DTYPE | {"None": None, "cuda": "cuda"}


BATCH = {
    "None": None,
    "number": 1,
    "nan": float("nan"),
    "string": "ab",
    "bytes": b"ab",
    "dict": {0: [1]},
    "set": {1},
    "class": int,
    "function": len,
    "array without axes": np.array(1),
    "array of floats": np.ones((1, 2)),
    "one sentence": [4, 5],
    "strings": ["ab"],
    "a sentence of None": [None],
    "a sentence of bytes": [b"ab"],
    "a dict for a sentence": [{1: 2}],
    "floats": [[0.5]],
    "bools": [[True]],
    "None inside": [[4, None]],
    "complex": [[1j]],
    "nested": [[[4, 5]]],
    "partly nested": [[4, [5]]],
    "too large": [[4, 9]],
    "negative": [[-1]],
    "beyond int64": [[2**70]],
}
PATH = {name: value for name, value in (OBJECTS | NUMBERS).items() if "string" not in name or name[-1] == "s"} | NONE


def optional(kinds):
    return {name: value for name, value in kinds.items() if name != "None"}


def without(kinds, *names):
    return {name: value for name, value in kinds.items() if name not in names}
