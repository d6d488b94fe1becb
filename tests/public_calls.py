"""The table of public callables: for each argument, kinds of bad values and a good value."""

import dataclasses
import importlib
import inspect
import tempfile
from functools import partial
from pathlib import Path

import dragoman as dg
import numpy as np
from bad_values import (
    ABOVE_0,
    ARRAY,
    AT_LEAST_0,
    AXIS,
    BATCH,
    CHOICE,
    DEVICE,
    DTYPE,
    FLAG,
    IDS,
    INDICES,
    INT,
    INTS,
    NONE,
    NUMBER,
    NUMBERS,
    OBJECTS,
    OPERAND,
    PATH,
    RATE,
    SEQUENCES,
    SHAPED,
    SIZE,
    TENSOR,
    VECTOR,
    WEIGHT,
    floats,
    optional,
    tensor,
    without,
)
from dragoman.distributed.ranks import ALONE
from dragoman.generate import generate, top_k

F, nn = dg.functional, dg.nn
CONFIG = {"vocab_size": 9, "d_model": 4, "num_heads": 2, "d_ff": 8, "num_encoder_layers": 1, "num_decoder_layers": 1}


def fields_of(config):
    return {field.name for field in dataclasses.fields(config)}


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
    "score_cap": (optional(ABOVE_0), None),
    "dropout": (RATE, 0.1),
    "query_offset": (optional(INT) | {"too large": 2**31}, 1),
    "relative_bias": (optional(WEIGHT), tensor(8, 2)),
    "bidirectional": (FLAG, False),
    "max_distance": (INT | {"zero": 0, "less than half of the buckets": 4}, 9),
    "alibi_slopes": (optional(VECTOR), None),
    "relative_keys": (optional(WEIGHT), tensor(5, 4)),
    "relative_values": (optional(WEIGHT), tensor(5, 4)),
    "num_heads": (optional(INT) | {"zero": 0}, 2),
    "return_weights": (FLAG, False),
}
LETTERS = without(OBJECTS, "empty string") | NONE | NUMBERS | {"unknown": "qx", "capitals": "QKVO"}
HEAD = {
    "d_memory": (optional(SIZE), None),
    "kv_heads": (optional(SIZE) | {"no divisor": 3}, 1),
    "head_dim": (optional(SIZE), None),
    "scale": (optional(NUMBER), 0.5),
    "score_cap": (optional(ABOVE_0), 0.5),
    "window": (optional(INT), 1),
    "bias": (LETTERS, "qv"),
    "qk_norm": (optional(CHOICE), "rms"),
    "norm_eps": (AT_LEAST_0, 1e-6),
    "positions": (optional(TENSOR), nn.Alibi(2)),
}
LOSS = {
    "ids": (IDS, [1, -1, 2]),
    "label_smoothing": (RATE, 0.1),
    "num_targets": (optional(INT) | {"zero": 0}, 2),
    **ROWS,
}
RATES = {name: (RATE, 0.1) for name in ("dropout", "attention_dropout", "activation_dropout")}
SCALING = (
    OBJECTS
    | NUMBERS
    | {
        "no factor": {"type": "linear"},
        "unknown": {"type": "dynamic", "factor": 2.0},
        "low": {"type": "ntk", "factor": 0.5},
    }
)
SPECIAL_IDS = {"too large": 9, "of text": ["a"], "fraction": [1.5]}
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
    "position_sharing": (FLAG, True),
    "max_length": (without(SIZE, "too many", "huge"), 1024),
    "max_source_length": (optional(without(SIZE, "too many", "huge")) | {"beyond learned": 1025}, 1024),
    "final_norm": (optional(FLAG), True),
    "sandwich_norm": (FLAG, True),
    "norm": (CHOICE, "rms"),
    "residual": (CHOICE, "concat"),
    "activation": (CHOICE, "relu"),
    "positions": (CHOICE, "learned"),
    "position_layout": (CHOICE, "fairseq"),
    "rotary_scaling": (SCALING, {"type": "linear", "factor": 2.0}),
    "layers": (
        without(optional(OBJECTS), "tuple of dicts") | NUMBERS | {"unknown": [{"windw": 1}], "size": [{"d_ff": 0}]},
        [{"window": 1}, {}],
    ),
    "output_scale": (without(ABOVE_0, "huge"), 0.5),
    "position_offset": (without(INT, "huge"), 2),
    "position_buckets": (without(SIZE, "too many", "huge"), 8),
    "position_rows": (optional(without(SIZE, "too many", "huge")) | {"below max_length": 5}, 1024),
    **{
        name: (optional(without(SIZE, "too many", "huge")), 2)
        for name in ("position_distance", "rotary_features", "kv_heads", "head_dim")
    },
    "rotary_base": (without(ABOVE_0, "huge"), 100.0),
    **{name: (optional(without(ABOVE_0, "huge")), 0.5) for name in ("attention_scale", "score_cap")},
    "attention_bias": (LETTERS, "qv"),
    "qk_norm": (CHOICE, "rms"),
    "window": (optional(without(INT, "huge")), 3),
    "tie_embeddings": (CHOICE, "two"),
    "norm_eps": (without(ABOVE_0, "huge"), 1e-5),
    **{name: (RATE, 0.1) for name in (*RATES, "embedding_dropout")},
    **{name: (optional(INT) | {"too large": 9}, i) for name, i in (("pad_id", 0), ("bos_id", None), ("unk_id", 2))},
    "eos_id": (INT | SPECIAL_IDS | {"twice": [2, 2]}, [2, 3]),
    "start_id": (optional(INT) | SPECIAL_IDS, [0, 1]),
    **{
        name: (without(OBJECTS, "dict") | NUMBERS | {"unknown": {"d_modl": 4}, "size": {"d_ff": 0}}, {"d_ff": 4})
        for name in ("encoder", "decoder")
    },
}

MODEL = dg.Transformer(dg.TransformerConfig(**CONFIG))


class Digits(dg.Tokenizer):
    """A tokenizer that needs no library."""

    vocab_size = 9

    def __init__(self):
        pass

    def encode_batch(self, texts):
        return [[int(letter) if letter in "012345678" else 3 for letter in text] for text in texts]

    def spans(self, text):
        return [(i, i + 1) for i in range(len(text))]

    def decode(self, ids):
        return "".join(map(str, ids))


TOKENIZER = Digits()
TRANSLATOR = dg.Translator(MODEL, TOKENIZER)
LIMITS = dict.fromkeys(("queue_limit", "batch_tokens"), (optional(without(SIZE, "too many")), None))
LINEAR, NORM = nn.Linear(4, 5), nn.LayerNorm(4)
ROWS_OF_FIVE = dg.data.Table({"ids": [[1], [2, 3], [], [4], [5]]})
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
RULES = {
    "beam": (INT | {"zero": 0}, 2),
    "count": (optional(INT) | {"zero": 0}, 1),
    "max_length": (optional(INT), 3),
    "min_length": (optional(INT), 2),
    "length_penalty": (optional(AT_LEAST_0), 0.5),
    "like": (CHOICE, "hf"),
    "coverage_penalty": (AT_LEAST_0, 0.0),
    "temperature": (AT_LEAST_0, 0.0),
    "top_k": (optional(INT) | {"zero": 0}, None),
    "top_p": (ABOVE_0, 1.0),
    "min_p": (RATE, 0.0),
    "seed": (INT, 1),
    "prefix": (without(INTS, "many"), [4]),
    "forced_last": (optional(INT), 2),
    "early_stopping": (without(FLAG, "string") | {"unknown": "always"}, True),
    "begin_suppress": (without(INTS, "many"), [4]),
    "bad_words": (without(OBJECTS, "empty list", "empty string") | NONE | NUMBERS, [[4, 5]]),
    "renormalize": (FLAG, True),
    "suppress": (without(INTS, "many"), [4]),
    "allowed": (optional(without(INTS, "many")), [4]),
    "no_repeat_ngram": (INT, 2),
    "repetition_penalty": (ABOVE_0, 1.5),
    "constraints": (without(OBJECTS, "empty list", "empty string") | NONE | NUMBERS, []),
}
COUNTS = (
    "batch_tokens", "max_length", "min_length", "accumulate", "warmup", "max_bad_steps", "beam",
    "log_interval",
)  # fmt: skip
TRAINER = {
    "freeze": (without(OBJECTS, "empty list") | NONE | NUMBERS, ["encoder.*"]),
    "layer_decay": (optional(ABOVE_0) | {"above": 1.5}, 0.9),
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
    "checkpoint_layers": (optional(FLAG), True),
    "schedule": (CHOICE, "cosine"),
    "best_by": (CHOICE, "bleu"),
    "final": (CHOICE, "last"),
    "bleu_tokenize": (CHOICE, "13a"),
    "task": (optional(TENSOR), None),
    "lr": (optional(ABOVE_0), 0.1),
    "max_minutes": (optional(ABOVE_0), 1.5),
    "max_ratio": (optional(ABOVE_0) | {"below 1": 0.5}, 1.5),
    "label_smoothing": (RATE, 0.1),
    "bpe_dropout": (RATE, 0.0),
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
CHOSEN = (without(INTS, "None") | {"empty list": [], "too large": [2]}, [0])
MAPS = {
    "model": (TENSOR, MODEL),
    "src_batch": (BATCH, [[4, 5]]),
    "outputs": (BATCH, [[6]]),
    "layers": CHOSEN,
    "heads": CHOSEN,
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
    F.rotary: X | {
        "table": (WEIGHT, tensor(2, 2)),
        "sequences": (SEQUENCES, TWO),
        "head_dim": (SIZE, 2),
        "starts": (optional(IDS), [0, 1]),
    },
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
        "dtype": (CHOICE, "bfloat16"),
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
    F.pool: {"x": (WEIGHT, tensor(3, 4)), "sequences": (SEQUENCES, TWO), "kind": (CHOICE, "mean")},
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
        "ranks": (OBJECTS | NONE | NUMBERS, ALONE),
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
        "token_types": (optional(SIZE), 2),
    },
    nn.Dropout: {"p": (RATE, 0.1)},
    nn.SinusoidalPositionalEncoding: {
        "features": (SIZE, 4),
        "layout": (CHOICE, "halves"),
        "offset": (INT | {"too large": 2**40}, 2),
    },
    nn.LearnedPositionalEncoding: {"max_length": (SIZE, 5), "features": (SIZE, 4), "offset": (INT, 2)},
    nn.RelativeBias: {
        "num_heads": (SIZE, 2),
        "num_buckets": (SIZE | {"one a direction": 2}, 8),
        "max_distance": (SIZE | {"less than a quarter of the buckets": 2}, 9),
        "bidirectional": (FLAG, True),
    },
    nn.Alibi: {"num_heads": (SIZE, 2)},
    nn.RelativeKeysValues: {"head_dim": (SIZE, 4), "max_distance": (SIZE, 3)},
    nn.RotaryPositions: {
        "features": (SIZE | {"odd": 3}, 4),
        "base": (ABOVE_0, 100.0),
        "scaling": (SCALING, {"type": "llama3", "factor": 2.0}),
    },
    nn.MultiHeadAttention: {name: LAYER[name] for name in ("d_model", "num_heads", "dropout")} | HEAD,
    nn.FeedForward: {name: LAYER[name] for name in ("d_model", "d_ff", "activation", "gated", "dropout")}
    | {"bias": (FLAG, False)},
    nn.TransformerLayer: LAYER | HEAD | {"causal": (FLAG, True), "cross_attention": (FLAG, True)},
    nn.TransformerEncoderLayer: LAYER | HEAD,
    nn.TransformerDecoderLayer: LAYER | HEAD | {"d_memory": (optional(SIZE), 6)},
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
    nn.KVCache: {"num_sequences": (INT, 2), "dtype": (CHOICE, "bfloat16")},
    nn.KVCache(2).extend: {"new": (without(SEQUENCES, "more rows"), TWO)},
    partial(CACHE.append, 0): {"new": (SEQUENCES, TWO)}
    | {name: (SHAPED, tensor(3, 4)) for name in ("k", "v")},
    CACHE.sources: {"sequences": (without(SEQUENCES, "more rows", "slotted"), TWO)},
    CACHE.join: {"other": (TENSOR, nn.KVCache(0))},
    CACHE.reorder: {"indices": (INTS | {"too large": [2]}, [1, 0])},
    dg.Transformer: {"config": (TENSOR, dg.TransformerConfig(**CONFIG)), "compute_dtype": (CHOICE, "bfloat16")},
    MODEL: BATCHES,
    MODEL.logits: BATCHES,
    MODEL.loss: {
        **BATCHES,
        "label_smoothing": (RATE, 0.1),
        "num_targets": (optional(INT) | {"zero": 0}, 3),
    },
    generate: {
        **{"model": (TENSOR, MODEL), "src_batch": (BATCH, [[4, 5]]), **SEARCH},
        "length_penalty": RULES["length_penalty"],
    },
    dg.generate.score: {
        **{"model": (TENSOR, MODEL), **BATCHES, "ended": (FLAG, True)},
        **{name: RULES[name] for name in ("like", "length_penalty")},
    },
    dg.generate.attention_maps: MAPS,
    dg.generate.alignments: MAPS,
    dg.generate.SearchOptions: RULES,
    dg.generate.Generation: {"model": (TENSOR, MODEL)},
    dg.Translator: {"model": (TENSOR, MODEL), "tokenizer": (TENSOR, TOKENIZER), **LIMITS},
    TRANSLATOR: {
        "text": (without(OBJECTS, "empty list", "string", "empty string") | NONE | NUMBERS, "45"),
        **SEARCH,
        "beam": (optional(SEARCH["beam"][0]), 2),
        "length_penalty": (optional(AT_LEAST_0), 0.5),
    },
    TRANSLATOR.align: {
        "pairs": (without(PAIRS, "nothing") | {"of ids": [([4], [5])]}, [("45", "6")]),
        **{name: MAPS[name] for name in ("layers", "heads")},
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


MAPPING = without(OBJECTS, "dict") | NONE | NUMBERS
NAME = without(OBJECTS, "string", "empty string") | NONE | NUMBERS
FOLDER = tempfile.TemporaryDirectory()  # as long as the process
LINES = Path(FOLDER.name, "lines.txt")
LINES.write_text("a b\nc\n")
MODEL.save(FOLDER.name)
FILES = {name: value for name, value in PATH.items() if name not in ("tuple", "strings", "empty list")}
SETTINGS = without(TRAINER, "model", "tokenizer", "task") | {"best_by": (NAME, "bleu")}  # the task knows its scores
TORCH = dg.Transformer(dg.TransformerConfig(**CONFIG, final_norm=True))
VALUES = without(TENSOR, "core's own") | {"one axis": np.ones(3), "ints": np.ones((2, 3), int)}
STATE = dg.random.get_state()

LABELS = without(OBJECTS, "empty list") | NONE | NUMBERS
COUNT = without(SIZE, "too many", "huge")
HEAD = {"num_layers": (COUNT, 1), "labels": (LABELS, ["a", "b"])}
TEXT_KINDS = {
    **{name: kinds for name, kinds in CONFIG_KINDS.items() if name in fields_of(dg.models.TextConfig)},
    "eos_id": (optional(INT) | SPECIAL_IDS | {"twice": [2, 2]}, [2, 3]),
}
ENCODER_KINDS = {
    **TEXT_KINDS,
    **HEAD,
    "position_rows": (optional(COUNT), 2000),
    "head": (CHOICE, "classify"),
    "label_kind": (CHOICE, "several"),
    "pooling": (CHOICE, "max"),
    "pooler": (FLAG, True),
    "projections": (LABELS, [{"features": 3, "activation": "tanh"}]),
    "normalise": (FLAG, True),
    "prompts": (optional(LABELS | {"of numbers": {"a": 1}, "of no names": {1: "a"}}), {"query": "query: "}),
    "default_prompt": (optional(CHOICE), "query"),
    "tie_embeddings": (FLAG, False),
    "mask_id": (optional(INT) | {"too large": 9}, 8),
    "head_activation": (optional(CHOICE), "silu"),
    "token_types": (optional(COUNT), 2),
}
VISION_KINDS = {
    **{name: kinds for name, kinds in CONFIG_KINDS.items() if name in fields_of(dg.models.VisionConfig)},
    **HEAD,
    "image_size": (COUNT, 4),
    "patch_size": (COUNT | {"no divisor": 3}, 2),
    "channels": (COUNT, 1),
    "mean": (without(LABELS, "list") | {"two": [0.1, 0.2], "of text": ["a"]}, [0.1]),
    "std": (without(LABELS, "list") | {"two": [0.1, 0.2], "zero in a list": [0.0]}, [0.1]),
    "resize": (optional(COUNT) | {"too small": 3}, 5),
    "resample": (CHOICE, "bicubic"),
    "label_kind": (CHOICE, "several"),
    "pooling": (CHOICE, "class"),
    "distillation": (CHOICE, "token"),
}
TEXTS, WORDS = (
    dg.models.TextEncoder(
        dg.models.EncoderConfig(
            vocab_size=TOKENIZER.vocab_size, d_model=4, num_heads=2, d_ff=8, num_layers=1, head=head, labels=["a"]
        )
    )
    for head in ("classify", "tag")
)
DECODER_KINDS = {
    **TEXT_KINDS,
    "logit_cap": (optional(without(ABOVE_0, "huge")), 0.5),
    "num_layers": (COUNT, 1),
    "tie_embeddings": (FLAG, True),
    "output_bias": (FLAG, True),
}
TEXT_DECODER = dg.models.TextDecoder(
    dg.models.DecoderConfig(vocab_size=TOKENIZER.vocab_size, d_model=4, num_heads=2, d_ff=8, num_layers=1)
)
IMAGES = dg.models.VisionTransformer(
    dg.models.VisionConfig(d_model=4, num_heads=2, d_ff=8, num_layers=1, image_size=4, patch_size=2, labels=["a"])
)

TABLE |= {
    dg.load: {"folder": (PATH, FOLDER.name), "compute_type": (CHOICE, "default")},
    **{op: {"device": (DEVICE, "cpu")} for op in (dg.memory_stats, dg.reset_peak_memory_stats, dg.empty_cache)},
    nn.Parameter: {
        "array": (
            without(ARRAY, "None", "float16", "uint32", "beyond int64")
            | {"letters": "ab", "function": len, "object": object()},
            [1.0],
        )
    },
    nn.RMSNorm: TABLE[nn.LayerNorm],
    nn.make_norm: {"kind": (CHOICE, "rms")} | TABLE[nn.LayerNorm],
    nn.TransformerStack: TABLE[nn.Decoder],
    F.cast: {"x": (TENSOR, tensor(3, 4)), "dtype": (CHOICE, "bfloat16")},
    F.to: {"x": (without(TENSOR, "of int32", "of int64", "of bool"), tensor(3, 4)), "device": (DEVICE, "cpu")},
    dg.models.BlockConfig: {
        name: kinds for name, kinds in CONFIG_KINDS.items() if name in fields_of(dg.models.BlockConfig)
    },
    dg.models.TextConfig: TEXT_KINDS,
    dg.train.TrainingOptions: SETTINGS,
    dg.train.ExponentialAverage: {"model": (TENSOR, nn.Linear(2, 2)), "decay": (RATE, 0.9)},
    top_k: {"values": (without(VALUES, "array", "empty array", "big-endian array"), floats(2, 3)), "k": (INT, 2)},
    dg.data.hold_out: {"dataset": (TENSOR, ROWS_OF_FIVE), "fraction": (RATE | {"zero": 0}, 0.5)},
    dg.data.Subset: {"dataset": (TENSOR, ROWS_OF_FIVE), "rows": (ARRAY, np.array([0, 3]))},
    dg.data.Table: {"columns": (MAPPING, {"ids": [[1, 2]]})},
    dg.data.Batches: {
        "dataset": (TENSOR, dg.data.Table({"ids": [[1, 2]]})),
        "costs": (without(OBJECTS, "class", "function") | NONE | NUMBERS, lambda lengths: lengths["ids"]),
        "batch_tokens": (INT | {"zero": 0}, 4),
        "seed": (INT, 1),
    },
    **{op: {"path": (PATH, LINES)} for op in (dg.data.iter_lines, dg.data.read_lines)},
    **{op: {side: (FILES, LINES) for side in ("source", "target")} for op in (dg.data.read_parallel,)},
    dg.interop.from_torch_state_dict: {
        "state": (MAPPING, dg.interop.to_torch_state_dict(TORCH)),
        "config": (TENSOR, TORCH.config),
    },
    dg.interop.to_torch_state_dict: {"model": (TENSOR, MODEL)},
    dg.models.EncoderConfig: ENCODER_KINDS,
    dg.models.DecoderConfig: DECODER_KINDS,
    dg.generate.sample: {
        "model": (TENSOR, TEXT_DECODER),
        "src_batch": (BATCH, [[4, 5]]),
        "max_length": (optional(INT), 3),
        "temperature": (ABOVE_0, 0.5),
        "top_k": (optional(INT) | {"zero": 0}, 2),
        "top_p": (ABOVE_0 | {"above 1": 1.5}, 0.5),
        "seed": (INT, 1),
        "places": (optional(without(LABELS, "two lists")), [3]),
    },
    dg.LanguageModel: {"model": (TENSOR, TEXT_DECODER), "tokenizer": (TENSOR, TOKENIZER), **LIMITS},
    dg.models.VisionConfig: VISION_KINDS,
    **{
        model: {"config": (TENSOR, config), "compute_dtype": (CHOICE, "bfloat16")}
        for model, config in (
            (dg.models.TextEncoder, TEXTS.config),
            (dg.models.TextDecoder, TEXT_DECODER.config),
            (dg.models.VisionTransformer, IMAGES.config),
        )
    },
    dg.models.load_body: {"model": (TENSOR, MODEL), "folder": (PATH, FOLDER.name)},
    dg.server.Limits: dict.fromkeys(
        ("max_body", "max_texts", "max_characters", "max_beam", "max_length", "body_seconds"),
        (without(SIZE, "too many"), 5),
    ),
    dg.Classifier: {"model": (TENSOR, TEXTS), "tokenizer": (TENSOR, TOKENIZER), **LIMITS},
    dg.Tagger: {"model": (TENSOR, WORDS), "tokenizer": (TENSOR, TOKENIZER), **LIMITS},
    dg.SentenceEncoder: {"model": (TENSOR, TEXTS), "tokenizer": (TENSOR, TOKENIZER), **LIMITS},
    dg.ImageClassifier: {"model": (TENSOR, IMAGES), **LIMITS},
    dg.train.layer_groups: {"model": (TENSOR, MODEL), "decay": (without(ABOVE_0, "one") | {"above": 1.5}, 0.5)},
    dg.train.Classification: {"tokenizer": (optional(TENSOR), None), "labels": (LABELS, ["a"])}
    | {"columns": (LABELS, ["1", "2"]), "token_dropout": (RATE, 0.1)},
    dg.train.Tagging: {"tokenizer": (optional(TENSOR), None), "labels": (LABELS, ["a"]), "token_dropout": (RATE, 0.1)},
    dg.train.LabelScores: {"labels": (LABELS, ["a"])},
    dg.train.LanguageModelling: {"tokenizer": (optional(TENSOR), None)},
    dg.train.Summarisation: {"tokenizer": (optional(TENSOR), None)},
    dg.train.MaskedLM: {"tokenizer": (optional(TENSOR), None), "ratio": (RATE, 0.1)},
    dg.train.Denoising: {
        "tokenizer": (optional(TENSOR), None),
        "noise": (CHOICE, "spans"),
        "density": (optional(RATE), 0.2),
        "mean_span": (AT_LEAST_0 | {"zero": 0, "half": 0.5}, 2.0),
        "sentinels": (INT | {"one": 1}, 9),
    },
    dg.train.ImageClassification: {"labels": (LABELS, ["a"]), "image_size": (SIZE, 8), "channels": (SIZE, 1)}
    | {"shift": (INT | {"as large": 8}, 2)},
    dg.random.set_state: {"state": (MAPPING, STATE)},
    dg.models.register: {"name": (NAME, "a name")},
}


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
INNER[TRANSLATOR], INNER[nn.make_norm] = {"generate"}, {"RMSNorm"}
INNER[TRANSLATOR.align] = {"Translator"}
INNER[dg.train.TrainingOptions], INNER[dg.data.Batches] = {"Trainer", "device"}, {"batches"}
INNER |= {op: {"device"} for op in (dg.memory_stats, dg.reset_peak_memory_stats, dg.empty_cache, F.to)}
INNER[dg.data.iter_lines] = INNER[dg.data.read_lines] = INNER[dg.data.read_parallel] = {"lines"}
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


MODULES = (
    "",
    "nn",
    "functional",
    "optim",
    "models",
    "train",
    "generate",
    "predict",
    "server",
    "data",
    "interop",
    "plot",
    "random",
    "cuda",
)
OPERATORS = {
    "__call__", "__getitem__", "__len__", "__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__",
    "__truediv__", "__rtruediv__", "__matmul__", "__array__", "__dlpack__",
}  # fmt: skip

# What messages of a callable, or of all methods of a class, may name in place of an argument.
ALSO_NAMED = {
    "load_state_dict": {"parameters"},
    "check_state": {"parameters"},
    **{name: {"a", "b"} for name in OPERATORS if "div" in name or "add" in name or "sub" in name or "mul" in name},
    "__getitem__": {"index", "ids"},
    "with_dropout": {"dropout"},
    "attention_weights": {"src_batch", "tgt_batch"},
    "Table": {"column"},
    "LearnedPositionalEncoding": {"tokens"},
    "parse": {"object", "JSON", "tokenizer"},
    "loss": {"line"},
    "project": {"x", "weight"},
    "__call__": {"weight"},
    "cross_entropy": {"vocabulary", "weight"},
    "linear_cross_entropy": {"vocabulary"},
    "tokenize": {"files"},
    "decode_batch": {"ids"},
    "encode": {"ids", "sequences"},
    "decode": {"ids", "x", "k", "k_sequences"},
    "from_dict": {"format", "field"},
}


def public_modules():
    return [importlib.import_module(f"dragoman.{name}" if name else "dragoman") for name in MODULES]


def public_names(module):
    """What `__all__` lists, or without one every public class and function that the module defines."""
    if hasattr(module, "__all__"):
        return [name for name in module.__all__ if not inspect.ismodule(getattr(module, name))]
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


# Public callables that the table leaves out, and why.
NOT_IN_TABLE = {
    "they hold what they are given": {
        *("Batch", "Candidate", "Column", "Hypothesis", "Later", "MaskPosition", "Record", "Score"),
        *("BodyReport", "Labels"),
    },
    "users write them": {
        "Callback",
        "Columns",
        "Dataset",
        "EncoderDecoder",
        "Model",
        "Predictor",
        "Task",
        "Translation",
    },
    "others make them": {"OutOfMemoryError", "QueueFullError", "Tensor", "TextStream", "Tokenizer"},
    "they need files, or the weights of an attention": {
        *("Shards", "average_checkpoints", "iter_parallel", "sample_lines", "tokenize", "write_shards"),
        *("image_files", "iter_conll", "iter_images", "iter_texts", "iter_tsv", "predictor_class", "freeze_folder"),
        *("read_arrays", "read_image"),
        "attention_page",
    },
    "their own tests give them sound": {"SpeechConfig", "SpeechTransformer", "Transcriber", "log_mel", "read_wav"},
    "their tests ask a server": {"make_app", "serve"},
    "their check comes with their `with`": {"masks_from", "record_attention"},
    "what others call, with what they have checked": {"begin_batch", "check_options", "next_dropout"},
    "it needs a tokenizer of byte pairs": {"BpeDropout"},
    "it calls what it is given": {"checkpoint"},
}

# Of a callable in the table: its words for messages, and what its base class takes and it does not use.
ARGUMENTS_LEFT_OUT = {
    ("Batches", "limits"),
    ("Batches", "unit"),
    ("Encoder", "cache"),
    ("Generation", "op"),
    ("SearchOptions", "op"),
    ("Encoder", "memory"),
    ("Encoder", "memory_sequences"),
    ("TransformerEncoderLayer", "causal"),
    ("TransformerEncoderLayer", "cross_attention"),
}
