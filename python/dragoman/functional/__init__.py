"""The ops, as functions of Tensors. Activations are (tokens, features): the sequences of a batch lie end to end.

The argument `sequences` says how many rows are in use. Ops write zeros to the other rows. Leave it out where every row
is in use. In shapes, `tokens` is the number of rows. Arithmetic, sums, products and indices, which Tensor has as
operators and methods too, take no sequences: every row counts.

A function raises TypeError for an argument of another type or dtype, and ValueError for a shape that does not fit or a
value out of range. The message names the function, the argument, what was expected and what it got.
"""

import dragoman.functional.operators  # noqa: F401  (gives Tensor its operators)
from dragoman.functional.activation import gate, gelu, gelu_tanh, relu, sigmoid, silu, tanh
from dragoman.functional.attention import attention
from dragoman.functional.checkpoint import checkpoint
from dragoman.functional.cross_entropy import cross_entropy, linear_cross_entropy
from dragoman.functional.dropout import dropout
from dragoman.functional.elementwise import add, cast, divide, exp, log, maximum, multiply, scale, sqrt, subtract
from dragoman.functional.embedding import embedding
from dragoman.functional.feed_forward import feed_forward
from dragoman.functional.gather import gather
from dragoman.functional.linear import linear
from dragoman.functional.matmul import matmul
from dragoman.functional.norm import layer_norm, residual_layer_norm, residual_rms_norm, rms_norm
from dragoman.functional.pool import pool
from dragoman.functional.reduce import mean, sum
from dragoman.functional.reshape import reshape
from dragoman.functional.residual import residual
from dragoman.functional.rotary import rotary
from dragoman.functional.slice import concat
from dragoman.functional.softmax import softmax
from dragoman.functional.to import to
from dragoman.functional.transpose import transpose

__all__ = [
    "add",
    "attention",
    "cast",
    "checkpoint",
    "concat",
    "cross_entropy",
    "divide",
    "dropout",
    "embedding",
    "exp",
    "feed_forward",
    "gate",
    "gather",
    "gelu",
    "gelu_tanh",
    "layer_norm",
    "linear",
    "linear_cross_entropy",
    "log",
    "matmul",
    "maximum",
    "mean",
    "multiply",
    "pool",
    "relu",
    "reshape",
    "residual",
    "residual_layer_norm",
    "residual_rms_norm",
    "rms_norm",
    "rotary",
    "scale",
    "sigmoid",
    "silu",
    "softmax",
    "sqrt",
    "subtract",
    "sum",
    "tanh",
    "to",
    "transpose",
]
