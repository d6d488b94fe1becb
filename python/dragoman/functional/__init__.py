"""The ops, as functions of Tensors. Activations are (tokens, features): the sequences of a batch lie end to end.

`sequences` tells row-wise ops how many of the rows are in use; rows beyond come out as zeros. It may be left out where
every row is in use. Shapes below write `tokens` for the number of rows.
"""

from dragoman.functional.activation import gelu, relu
from dragoman.functional.attention import attention
from dragoman.functional.cross_entropy import cross_entropy, linear_cross_entropy
from dragoman.functional.dropout import dropout
from dragoman.functional.elementwise import cast
from dragoman.functional.embedding import embedding
from dragoman.functional.linear import feed_forward, linear
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
    "feed_forward",
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
