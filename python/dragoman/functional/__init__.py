"""The ops, as functions of Tensors. Activations are (tokens, features): the sequences of a batch lie end to end.

The argument `sequences` says how many rows are in use. Ops write zeros to the other rows. Leave it out where every row
is in use. In shapes, `tokens` is the number of rows.

A function raises TypeError for an argument of another type or dtype, and ValueError for a shape that does not fit or a
value out of range. The message names the function, the argument, what was expected and what it got.
"""

from dragoman.functional.activation import gelu, relu
from dragoman.functional.attention import attention
from dragoman.functional.cross_entropy import cross_entropy, linear_cross_entropy
from dragoman.functional.dropout import dropout
from dragoman.functional.elementwise import cast
from dragoman.functional.embedding import embedding
from dragoman.functional.linear import linear
from dragoman.functional.norm import layer_norm, residual_layer_norm, residual_rms_norm, rms_norm
from dragoman.functional.residual import residual
from dragoman.tensor import add, reshape, scale

__all__ = [
    "add",
    "attention",
    "cast",
    "cross_entropy",
    "dropout",
    "embedding",
    "gelu",
    "layer_norm",
    "linear",
    "linear_cross_entropy",
    "relu",
    "reshape",
    "residual",
    "residual_layer_norm",
    "residual_rms_norm",
    "rms_norm",
    "scale",
]
