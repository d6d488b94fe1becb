"""Error messages: every argument of every public callable gets every kind of bad value. The call must raise a
ValueError or TypeError that names the argument. Unusual layouts, where they are allowed, give the same bits."""

import re
from functools import partial

import dragoman as dg
import numpy as np
import pytest
from dragoman.generate import generate

F, nn = dg.functional, dg.nn
CONFIG = {"vocab_size": 9, "d_model": 4, "num_heads": 2, "d_ff": 8, "num_encoder_layers": 1, "num_decoder_layers": 1}


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


TWO, HEADS = dg.Sequences([2, 1]), tensor(3, 2, 4)
ROWS = {"sequences": (optional(SEQUENCES), TWO)}
X = {"x": (SHAPED, tensor(3, 4))}
ROW_OF_4 = {"x": (without(SHAPED, "sizes"), tensor(3, 4))}  # where the weight, which is right, may be named
ATTENTION = {
    "q": (SHAPED, HEADS),
    "k": (SHAPED, HEADS),
    "v": (SHAPED, HEADS),
    "q_sequences": (SEQUENCES, TWO),
    "k_sequences": (SEQUENCES, TWO),
    "causal": (FLAG, True),
    "window": (optional(INT), 1),
    "scale": (optional(NUMBER), 0.5),
    "dropout": (RATE, 0.1),
    "bias": (optional(CHOICE), None),
    "num_heads": (optional(INT) | {"zero": 0}, 2),
    "return_weights": (FLAG, False),
}
LOSS = {
    "ids": (IDS, [1, -1, 2]),
    "label_smoothing": (RATE, 0.1),
    "num_targets": (optional(INT) | {"zero": 0}, 2),
    **ROWS,
}
RATES = {name: (RATE, 0.1) for name in ("dropout", "attention_dropout", "activation_dropout")}
LAYER = {
    "d_model": (SIZE, 4),
    "num_heads": (SIZE | {"no divisor": 3}, 2),
    "d_ff": (SIZE, 8),
    "norm_first": (FLAG, True),
    "sandwich_norm": (FLAG, True),
    "norm": (CHOICE, "rms"),
    "residual": (CHOICE, "concat"),
    "activation": (CHOICE, "gelu"),
    "gated": (FLAG, True),
    "feed_forward_bias": (FLAG, False),
    "norm_eps": (AT_LEAST_0, 1e-5),
    **RATES,
}
GROUPS = (
    without(OBJECTS, "empty list")
    | NONE
    | NUMBERS
    | {
        "one group": dg.optim.ParameterGroup("*"),
        "of none": [dg.optim.ParameterGroup("encoder.*")],
    }
)
PATTERN = without(OBJECTS, "string", "empty string") | NONE | NUMBERS
BETAS = OBJECTS | NONE | NUMBERS | {"three": (0.1,) * 3, "one": (0.9, 1), "negative": (-1, 0)}
CONFIG_KINDS = {
    **{name: (without(SIZE, "too many", "huge"), CONFIG[name]) for name in CONFIG},
    "tgt_vocab_size": (optional(without(SIZE, "too many", "huge")), 9),
    **{
        name: (FLAG, True)
        for name in ("norm_first", "gated", "feed_forward_bias", "embedding_norm", "scale_embeddings", "output_bias")
    },
    "max_source_length": (optional(without(SIZE, "too many", "huge")) | {"beyond learned": 1025}, 1024),
    "final_norm": (optional(FLAG), True),
    "sandwich_norm": (FLAG, True),
    "norm": (CHOICE, "rms"),
    "residual": (CHOICE, "concat"),
    "activation": (CHOICE, "relu"),
    "positions": (CHOICE, "learned"),
    "tie_embeddings": (CHOICE, "two"),
    "norm_eps": (without(ABOVE_0, "huge"), 1e-5),
    **{name: (RATE, 0.1) for name in (*RATES, "embedding_dropout")},
    **{name: (INT | {"too large": 9}, i) for i, name in enumerate(("pad_id", "bos_id", "eos_id", "unk_id"))},
}

MODEL = dg.Transformer(dg.TransformerConfig(**CONFIG))


class Digits(dg.Tokenizer):
    """A tokenizer that needs no library."""

    vocab_size = 9

    def __init__(self):
        pass

    def encode_batch(self, texts):
        return [[int(letter) for letter in text] for text in texts]

    def decode(self, ids):
        return "".join(map(str, ids))


TOKENIZER = Digits()
TRANSLATOR = dg.Translator(MODEL, TOKENIZER)
LINEAR, NORM = nn.Linear(4, 5), nn.LayerNorm(4)
CACHE = nn.KVCache(2)
CACHE.extend(TWO)
LAYERS = without(OBJECTS, "list", "empty list") | NONE | NUMBERS | {
    "no layers": [],
    "numbers": [0.5],
    "one layer": nn.Linear(2, 2),
    "weights": [nn.Linear(2, 2).weight],
}  # fmt: skip
BATCHES = {name: (BATCH | {"too many": [[4], [5]], "too few": []}, [[4, 5]]) for name in ("src_batch", "tgt_batch")}
SEARCH = {
    "beam": (INT | {"zero": 0}, 2),
    "length_penalty": (AT_LEAST_0, 0.5),
    "max_length": (optional(INT), 3),
}
COUNTS = (
    "batch_tokens", "max_length", "min_length", "accumulate", "warmup", "max_bad_steps", "beam",
    "log_interval",
)  # fmt: skip
TRAINER = {
    "model": (TENSOR, MODEL),
    "tokenizer": (optional(TENSOR), TOKENIZER),
    "output": (optional(PATH), None),
    **{name: (INT | {"zero": 0}, 5000 if name == "batch_tokens" else 9) for name in COUNTS},
    **{
        name: (optional(INT) | {"zero": 0}, 1)
        for name in ("epochs", "max_steps", "checkpoint_every", "patience", "average")
    },
    "seed": (INT, 1),
    "compute_dtype": (optional(CHOICE), "bfloat16"),
    "device": (optional(CHOICE) | {"cuda": "cuda"}, "cpu"),
    "schedule": (CHOICE, "cosine"),
    "best_by": (CHOICE, "bleu"),
    "final": (CHOICE, "last"),
    "lr": (optional(ABOVE_0), 0.1),
    "max_minutes": (optional(ABOVE_0), 1.5),
    "max_ratio": (optional(ABOVE_0) | {"below 1": 0.5}, 1.5),
    "label_smoothing": (RATE, 0.1),
    "betas": (BETAS, (0.9, 0.98)),
    "eps": (ABOVE_0, 1e-9),
    "weight_decay": (AT_LEAST_0, 0.1),
    "max_grad_norm": (optional(ABOVE_0), 1.0),
    "ema": (optional(RATE), 0.9),
    "callbacks": (without(OBJECTS, "empty list") | NONE | NUMBERS, ()),
    "tensorboard": (FLAG, False),
}
PAIRS = {
    "None": None,
    "number": 1,
    "string": "ab",
    "bytes": b"ab",
    "dict": {0: 1},
    "set": {1},
    "class": int,
    "function": len,
    "array": np.ones((2, 2)),
    "iterator": iter([([4], [5])]),
    "nothing": [],
    "numbers": [4, 5],
    "texts": ["ab", "cd"],
    "a text alone": [("ab",)],
    "three texts": [("ab", "cd", "ef")],
    "text and ids": [("ab", [4])],
    "numbers in pairs": [(4, 5)],
    "Nones": [(None, None)],
}

RESIDUAL_NORM = {
    "residual": (WEIGHT, tensor(3, 4)),
    "weight": (VECTOR, tensor(4)),
    "dropout": (RATE, 0.1),
    "eps": (AT_LEAST_0, 1e-5),
}

# For each argument of each callable: kinds of bad values, and a good value.
TABLE = {
    F.linear: X | {"weight": (WEIGHT, tensor(5, 4)), "bias": (optional(VECTOR), tensor(5))}
    | {"activation": (CHOICE, "gelu"), "dropout": (RATE, 0.1)} | ROWS,
    F.layer_norm: X | {"weight": (VECTOR, tensor(4)), "bias": (optional(VECTOR), tensor(4)), "eps": (AT_LEAST_0, 1e-5)}
    | ROWS,
    F.rms_norm: X | {"weight": (VECTOR, tensor(4)), "eps": (AT_LEAST_0, 1e-5)} | ROWS,
    F.attention: ATTENTION,
    F.residual: X | {"residual": (WEIGHT, tensor(3, 4)), "dropout": (RATE, 0.1)} | ROWS,
    F.residual_layer_norm: X | RESIDUAL_NORM | {"bias": (optional(VECTOR), tensor(4))} | ROWS,
    F.residual_rms_norm: X | RESIDUAL_NORM | ROWS,
    F.dropout: X | {"p": (RATE, 0.1)} | ROWS,
    F.relu: X | ROWS,
    F.gelu: X | ROWS,
    F.gelu_tanh: X | ROWS,
    F.silu: X | ROWS,
    F.tanh: X | ROWS,
    F.sigmoid: X | ROWS,
    F.gate: {"a": (WEIGHT, tensor(3, 4)), "b": (WEIGHT, tensor(3, 4))}
    | {"activation": (CHOICE, "gelu"), "dropout": (RATE, 0.1)}
    | ROWS,
    F.embedding: {
        "ids": (IDS, [1, 0, 2]),
        "weight": (without(WEIGHT, "sizes"), tensor(5, 4)),
        "sequences": (SEQUENCES, TWO),
        "positions": (optional(WEIGHT), tensor(6, 4)),
        "starts": (optional(IDS), [1, 0]),
        "scale": (NUMBER, 2.0),
        "dropout": (RATE, 0.1),
    },
    F.feed_forward: X
    | {"weight1": (WEIGHT, tensor(8, 4)), "bias1": (optional(VECTOR), tensor(8))}
    | {"weight2": (WEIGHT, tensor(4, 8)), "bias2": (optional(VECTOR), tensor(4))}
    | {"activation": (CHOICE, "relu"), "dropout": (RATE, 0.1)}
    | ROWS,
    F.cross_entropy: {"logits": (without(SHAPED, "of bfloat16"), tensor(3, 5))} | LOSS,
    F.linear_cross_entropy: X | {"weight": (WEIGHT, tensor(5, 4)), "bias": (optional(VECTOR), tensor(5))} | LOSS,
    F.reshape: {
        "x": ({n: v for n, v in TENSOR.items() if not isinstance(v, dg.Tensor)}, tensor(3, 4)),
        "shape": (INTS | {"empty": [], "two unknown": [-1, -1], "other size": [5, -1]}, [2, 6]),
    },
    **{
        op: {"a": (OPERAND, tensor(3, 4)), "b": (OPERAND, tensor(3, 4))}
        for op in (F.add, F.subtract, F.multiply, F.divide, F.maximum)
    },
    **{op: {"x": (TENSOR, tensor(3, 4))} for op in (F.exp, F.log, F.sqrt)},
    **{op: {"x": (TENSOR, tensor(3, 4)), "axis": (AXIS, 0), "keepdims": (FLAG, True)} for op in (F.sum, F.mean)},
    F.gather: {"x": (TENSOR | {"scalar": tensor()}, tensor(3, 4)), "ids": (INDICES, [1, 0, 2])},
    F.concat: {
        "tensors": (OBJECTS | NONE | NUMBERS | {"sizes": [tensor(3, 4), tensor(2, 5)]}, [tensor(3, 4)] * 2),
        "axis": (INT | {"third": 2}, 1),
    },
    F.softmax: {"x": (TENSOR | {"scalar": tensor()}, tensor(3, 4))},
    F.matmul: {"a": (SHAPED, tensor(3, 4)), "b": (WEIGHT, tensor(4, 3))},
    F.transpose: {"x": (TENSOR | {"scalar": tensor(), "one axis": tensor(4)}, tensor(3, 4))},
    F.scale: {"x": (TENSOR, tensor(3, 4)), "factor": (NUMBER, 2.0)},
    dg.tensor: {
        "array": (ARRAY, [1.0, 2.0]),
        "device": (DEVICE, "cpu"),
        "dtype": (DTYPE, None),
        "requires_grad": (FLAG, True),
    },
    dg.Sequences: {
        "lengths": (INTS, [2, 1]),
        "capacity": (optional(INT) | {"too few": 2, "many": 2**40}, 4),
        "max_length": (optional(INT) | {"zero": 0, "many": 2**40}, 4),
    },
    dg.from_dlpack: {"x": ({name: v for name, v in OBJECTS.items() if not isinstance(v, dg.Tensor)} | NONE, floats(3))},
    dg.manual_seed: {"n": (INT, 1)},
    dg.optim.AdamW: {
        "model": (TENSOR, nn.Linear(2, 2)),
        "lr": (AT_LEAST_0, 0.1),
        "betas": (BETAS, (0.9, 0.98)),
        "eps": (ABOVE_0, 1e-9),
        "weight_decay": (AT_LEAST_0, 0.1),
        "max_grad_norm": (optional(ABOVE_0), 1.0),
        "groups": (GROUPS, [dg.optim.ParameterGroup("weight", 0.5)]),
    },
    dg.optim.ParameterGroup: {
        "pattern": (PATTERN, "*.bias"),
        "lr_scale": (AT_LEAST_0, 0.1),
        "weight_decay": (optional(AT_LEAST_0), 0.1),
    },
    nn.Linear: {
        "in_features": (SIZE, 4),
        "out_features": (SIZE, 3),
        "bias": (FLAG, True),
        "weight": (optional(WEIGHT), nn.Linear(4, 3).weight),
    },
    LINEAR: ROW_OF_4 | {"activation": (CHOICE, "relu"), "dropout": (RATE, 0.1)} | ROWS,
    LINEAR.cross_entropy: ROW_OF_4 | LOSS,
    NORM: X | {"residual": (optional(WEIGHT), tensor(3, 4)), "dropout": (RATE, 0.1)} | ROWS,
    nn.LayerNorm: {"features": (SIZE, 4), "eps": (AT_LEAST_0, 1e-5)},
    nn.Embedding: {
        "vocab_size": (SIZE, 5),
        "features": (SIZE, 4),
        "scale": (NUMBER, 2.0),
        "dropout": (RATE, 0.1),
        "weight": (optional(WEIGHT), nn.Embedding(5, 4).weight),
        "norm": (optional(TENSOR), nn.LayerNorm(4)),
    },
    nn.Dropout: {"p": (RATE, 0.1)},
    nn.SinusoidalPositionalEncoding: {"features": (SIZE, 4)},
    nn.LearnedPositionalEncoding: {"max_length": (SIZE, 5), "features": (SIZE, 4)},
    nn.MultiHeadAttention: {name: LAYER[name] for name in ("d_model", "num_heads", "dropout")},
    nn.FeedForward: {name: LAYER[name] for name in ("d_model", "d_ff", "activation", "gated", "dropout")}
    | {"bias": (FLAG, False)},
    nn.TransformerLayer: LAYER | {"causal": (FLAG, True), "cross_attention": (FLAG, True)},
    nn.TransformerEncoderLayer: LAYER,
    nn.TransformerDecoderLayer: LAYER,
    dg.TransformerConfig: CONFIG_KINDS,
    nn.Encoder: {"layers": (LAYERS, MODEL.encoder.layers), "norm": (optional(TENSOR), nn.LayerNorm(4))},
    nn.Decoder: {"layers": (LAYERS, MODEL.decoder.layers), "norm": (optional(TENSOR), nn.LayerNorm(4))},
    MODEL.encoder: {
        "x": (without(SHAPED, "sizes"), tensor(3, 4)),
        "sequences": (SEQUENCES, TWO),
    },
    MODEL.decoder: {
        "x": (without(SHAPED, "sizes"), tensor(3, 4)),
        "memory": (without(SHAPED, "sizes", "of int32", "of int64", "of bool"), tensor(3, 4)),
        "sequences": (SEQUENCES, TWO),
        "memory_sequences": (without(SEQUENCES, "slotted"), TWO),
        "cache": (optional(TENSOR), None),
    },
    nn.KVCache: {"num_sequences": (INT, 2)},
    nn.KVCache(2).extend: {"new": (without(SEQUENCES, "more rows"), TWO)},
    partial(CACHE.append, 0): {"new": (SEQUENCES, TWO)}
    | {name: (SHAPED, tensor(3, 4)) for name in ("k", "v")},
    CACHE.reorder: {"indices": (INTS | {"too large": [2]}, [1, 0])},
    dg.Transformer: {"config": (TENSOR, dg.TransformerConfig(**CONFIG)), "compute_dtype": (CHOICE, "bfloat16")},
    MODEL: BATCHES,
    MODEL.logits: BATCHES,
    MODEL.loss: {
        **BATCHES,
        "label_smoothing": (RATE, 0.1),
        "num_targets": (optional(INT) | {"zero": 0}, 3),
    },
    generate: {"model": (TENSOR, MODEL), "src_batch": (BATCH, [[4, 5]]), **SEARCH},
    dg.Translator: {"model": (TENSOR, MODEL), "tokenizer": (TENSOR, TOKENIZER)},
    TRANSLATOR: {
        "text": (without(OBJECTS, "empty list", "string", "empty string") | NONE | NUMBERS, "45"),
        **SEARCH,
    },
    dg.Trainer: TRAINER,
    dg.Trainer(MODEL, max_steps=1).fit: {
        "train": (PAIRS, [([4, 2], [5])]),
        "validation": (optional(PAIRS), [([4, 2], [5])]),
        "resume": (FLAG, False),
        "overwrite": (FLAG, False),
    },
    dg.set_num_threads: {"n": (INT | {"zero": 0, "too many": 2**40}, 1)},
}  # fmt: skip

# A message may also name an op inside the callable, or the argument that a wrong size is compared with.
INNER = {
    F.feed_forward: {"linear"},
    dg.tensor: {"device"},
    dg.Trainer: {"device"},
    nn.TransformerEncoderLayer: {"MultiHeadAttention", "FeedForward"},
}
INNER[nn.TransformerLayer] = INNER[nn.TransformerDecoderLayer] = INNER[nn.TransformerEncoderLayer]
INNER[MODEL.encoder] = INNER[MODEL.decoder] = {"linear", "layer_norm", "attention", "residual", "reshape"}
INNER[MODEL.loss] = INNER[LINEAR.cross_entropy] = {"linear_cross_entropy"}
INNER[LINEAR], INNER[NORM] = {"linear"}, {"residual_layer_norm", "layer_norm"}
INNER[TRANSLATOR] = {"generate"}
SIZES = {
    "sizes",
    "empty",
    "more axes",
    "fewer axes",
    "scalar",
    "more rows",
    "fewer rows",
    "too many",
    "too few",
    "no ids",
}


def name_of(function):
    """The name in messages; for a method of a cache or a trainer, the name of its class."""
    owner = getattr(getattr(function, "func", function), "__self__", None)
    if isinstance(owner, nn.KVCache | dg.Trainer):
        return type(owner).__name__
    return getattr(function, "__name__", type(function).__name__)


@pytest.mark.parametrize("function", TABLE, ids=name_of)
def test_good_arguments_are_good(function):
    function(**{name: good for name, (_, good) in TABLE[function].items()})


@pytest.mark.parametrize(
    ("function", "argument"),
    [(f, a) for f in TABLE for a in TABLE[f]],
    ids=lambda x: x if isinstance(x, str) else name_of(x),
)
def test_bad_arguments_are_named(function, argument):
    good = {name: good for name, (_, good) in TABLE[function].items()}
    kinds = TABLE[function][argument][0]
    assert len(kinds) >= 15
    ops = {name_of(function)} | INNER.get(function, set())
    for kind, bad in kinds.items():
        names = TABLE[function] if kind in SIZES else [argument]
        pattern = rf"^({'|'.join(ops)}): .*\b({'|'.join(names)})\b"
        try:
            function(**good | {argument: bad})
        except (ValueError, TypeError) as error:
            assert re.match(pattern, str(error)), f"{kind}: {error!r}"
        except Exception as error:
            pytest.fail(f"{kind}: {error!r}")
        else:
            pytest.fail(f"{kind}: accepted")


NUMPY = {bool: np.bool_, int: np.int64, float: np.float32}


def is_plain(value):
    """Whether a value holds no NumPy number, so that JSON can hold what it is made of."""
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return not isinstance(value, np.generic)


@pytest.mark.parametrize("function", [f for f in TABLE if not isinstance(f, partial)], ids=name_of)
def test_numbers_of_numpy_become_those_of_python(function):
    good = {name: good for name, (_, good) in TABLE[function].items()}
    numbers = {name: NUMPY[type(value)](value) for name, value in good.items() if type(value) in NUMPY}
    if "betas" in good:
        numbers["betas"] = tuple(map(np.float64, good["betas"]))
    result = function(**good | numbers)
    if hasattr(result, "__dict__"):
        for name, value in vars(result).items():
            assert is_plain(value), name
            if name in numbers and isinstance(value, bool | int | float):
                assert value == numbers[name]


def strided(array):
    wide = np.zeros((*array.shape, 2), array.dtype)
    wide[..., 0] = array
    return wide[..., 0]


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


LAYOUTS = {
    "strided": strided,
    "column order": np.asfortranarray,
    "big-endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "float64": lambda array: array.astype(np.float64),
    "unaligned": lambda array: np.frombuffer(b"x" + array.tobytes(), array.dtype, offset=1).reshape(array.shape),
    "read-only": read_only,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("function", [f for f in TABLE if f.__module__.startswith("dragoman.functional.")], ids=name_of)
def test_layouts_give_the_same_bits(function, layout):
    def call(change):
        dg.manual_seed(0)
        good = {name: good for name, (_, good) in TABLE[function].items()}
        tensors = {n: dg.tensor(change(v.numpy())) for n, v in good.items() if isinstance(v, dg.Tensor)}
        ids = {
            n: change(np.array(v, np.int64)) for n, v in good.items() if n in ("ids", "starts") and layout != "float64"
        }
        return function(**good | tensors | ids).numpy().tobytes()

    assert call(LAYOUTS[layout]) == call(np.array)


@pytest.mark.parametrize(
    "function",
    [F.linear, F.layer_norm, F.relu, F.gelu, F.dropout, F.residual, F.residual_layer_norm],
)
def test_no_rows_are_none(function):
    good = {name: good for name, (_, good) in TABLE[function].items()} | {"sequences": dg.Sequences([])}
    good |= {name: tensor(0, 4) for name in ("x", "residual") if name in good}
    assert function(**good).shape[0] == 0


def test_no_rows_in_other_ops():
    none = dg.Sequences([])
    assert F.embedding([], tensor(5, 4), none).shape == (0, 4)
    assert F.attention(*[tensor(0, 2, 4)] * 3, none, none).shape == (0, 2, 4)
    assert F.cross_entropy(tensor(0, 5), []).item() == 0
    assert F.linear_cross_entropy(tensor(0, 4), tensor(5, 4), []).item() == 0


@pytest.mark.parametrize(
    ("gradient", "error", "message"),
    [
        (dg.tensor(read_only(floats(5, 4))), ValueError, "dweight must be writeable, got a view of a read-only array"),
        (tensor(5, 3), ValueError, r"dweight must have shape \(5, 4\), got \(5, 3\)"),
        (dg.tensor(np.ones((5, 4), np.int32)), TypeError, "dweight must be float32, got int32"),
    ],
    ids=["read-only", "shape", "dtype"],
)
def test_an_output_that_cannot_be_written_is_named(gradient, error, message):
    dy, x, weight = tensor(3, 5), tensor(3, 4), tensor(5, 4)
    options = (None, "none", dg._core.Dropout(), False, gradient.data, True, None, False, None)
    with pytest.raises(error, match=f"linear_backward: {message}"):
        dg._core.linear_backward(dy.data, x.data, weight.data, *options)


@pytest.mark.parametrize("kind", PATH)
def test_a_folder_that_is_no_path_is_named(kind):
    with pytest.raises(TypeError, match="load: folder must be a path, got "):
        dg.load(PATH[kind])


@pytest.mark.parametrize("kind", ["None", "string", "object array", "complex", "rows of different lengths", "dict"])
def test_values_to_copy_are_named(kind):
    with pytest.raises((TypeError, ValueError), match="copy_: array must"):
        tensor(2).copy_(ARRAY[kind])
