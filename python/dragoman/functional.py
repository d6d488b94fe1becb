"""The ops, as functions of Tensors. Activations are (tokens, features): the sequences of a batch lie end to end.

`sequences` tells row-wise ops how many of the rows are in use; rows beyond come out as zeros. It may be left out where
every row is in use. Shapes below write `tokens` for the number of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

import numpy as np
import numpy.typing as npt

from dragoman import _core, arguments, random
from dragoman.arguments import check_options, check_sequences, check_tensors
from dragoman.autograd import Edge, Function, edge, give, sink
from dragoman.tensor import Tensor, as_array

Ids = npt.ArrayLike | Tensor

DTYPES = ("float32", "bfloat16")  # of activations
ACTIVATIONS = ("none", "relu", "gelu")


def _data(tensor: Tensor | None) -> _core.Tensor | None:
    return None if tensor is None else tensor.data


def _int32(op: str, name: str, ids: Ids) -> _core.Tensor:
    """Token ids as an int32 core tensor."""
    if isinstance(ids, Tensor) and ids.dtype == "int32":
        return ids.data
    values = as_array(op, name, ids)
    if values.size == 0:
        values = values.astype(np.int32)
    if values.dtype.kind not in "iu":
        raise TypeError(f"{op}: {name} must be integers, got dtype {values.dtype}")
    if values.size and (values.max() > np.iinfo(np.int32).max or values.min() < np.iinfo(np.int32).min):
        raise ValueError(f"{op}: {name} must fit in int32, got [{values.min()}, {values.max()}]")
    shape = values.shape
    return _core.Tensor.from_numpy(np.require(values, np.int32, ["C", "A"]).reshape(shape), "int32")


def _dropout(op: str, rate: float, name: str = "dropout") -> _core.Dropout:
    return random.next_dropout(arguments.number(op, name, rate, 0.0, 1.0))


class Linear(Function):
    def forward(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        activation: str,
        dropout: _core.Dropout,
        sequences: _core.Sequences | None,
    ) -> _core.Tensor:
        values = weight.data_as(x.dtype)
        packed = weight.packed(x.dtype)
        y, pre = _core.linear_forward(x.data, values, _data(bias), activation, dropout, sequences, packed)
        kept = {"relu": y, "gelu": pre}.get(activation)
        self.saved = (x, weight, values, bias, kept, activation, dropout, sequences)
        return y

    def backward(self, dy: _core.Tensor) -> None:
        x, weight, values, bias, kept, activation, dropout, sequences = self.saved
        dx = _core.linear_backward(
            dy,
            x.data,
            values,
            kept,
            activation,
            dropout,
            x.requires_grad,
            *sink(weight),
            *sink(bias),
            sequences,
        )
        if dx is not None:
            give(x, dx)


def linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    activation: str = "none",
    dropout: float = 0.0,
    sequences: _core.Sequences | None = None,
) -> Tensor:
    """dropout(activation(x W^T + bias)).

    Args:
        x: (tokens, in_features) float32 or bfloat16, of which the result is, too.
        weight: (out_features, in_features).
        bias: (out_features,) or None.
        activation: "none", "relu" or "gelu" (exact), applied in the product's epilogue.
        dropout: rate in [0, 1).

    Returns:
        (tokens, out_features).
    """
    check_tensors("linear", x=x, weight=weight)
    check_options("linear", bias=bias, sequences=sequences)
    arguments.choice("linear", "activation", activation, ACTIVATIONS)
    return Linear()(x, weight, bias, activation, _dropout("linear", dropout), sequences)


class LayerNorm(Function):
    def forward(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, sequences: _core.Sequences | None
    ) -> _core.Tensor:
        y, mean, rstd = _core.layer_norm_forward(x.data, weight.data, _data(bias), eps, sequences)
        self.saved = (x, weight, bias, mean, rstd, sequences)
        return y

    def backward(self, dy: _core.Tensor) -> None:
        x, weight, bias, mean, rstd, sequences = self.saved
        give(
            x,
            _core.layer_norm_backward(dy, x.data, weight.data, mean, rstd, *sink(weight), *sink(bias), sequences),
        )


def layer_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    eps: float = 1e-5,
    sequences: _core.Sequences | None = None,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axis (Ba et al. 2016, arXiv:1607.06450).

    Args:
        x: (tokens, features) float32 or bfloat16.
        weight: (features,).
        bias: (features,) or None.
        eps: added to the variance, which is computed in two passes.
    """
    check_tensors("layer_norm", x=x, weight=weight)
    check_options("layer_norm", bias=bias, sequences=sequences)
    return LayerNorm()(x, weight, bias, arguments.number("layer_norm", "eps", eps, 0.0), sequences)


class RMSNorm(Function):
    def forward(self, x: Tensor, weight: Tensor, eps: float, sequences: _core.Sequences | None) -> _core.Tensor:
        y, rstd = _core.rms_norm_forward(x.data, weight.data, eps, sequences)
        self.saved = (x, weight, rstd, sequences)
        return y

    def backward(self, dy: _core.Tensor) -> None:
        x, weight, rstd, sequences = self.saved
        give(x, _core.rms_norm_backward(dy, x.data, weight.data, rstd, *sink(weight), sequences))


def rms_norm(x: Tensor, weight: Tensor, *, eps: float = 1e-5, sequences: _core.Sequences | None = None) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis (Zhang & Sennrich 2019, arXiv:1910.07467).

    Args:
        x: (tokens, features) float32 or bfloat16.
        weight: (features,) float32.
        eps: added to the mean of the squares.
    """
    check_tensors("rms_norm", x=x, weight=weight)
    check_options("rms_norm", sequences=sequences)
    return RMSNorm()(x, weight, arguments.number("rms_norm", "eps", eps, 0.0), sequences)


class Attention(Function):
    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        q_sequences: _core.Sequences,
        k_sequences: _core.Sequences,
        causal: bool,
        window: int | None,
        scale: float | None,
        dropout: _core.Dropout,
        return_weights: bool,
    ) -> _core.Tensor:
        options = (q_sequences, k_sequences, causal, window, scale, dropout)
        out, logsumexp, self.weights = _core.attention_forward(q.data, k.data, v.data, *options, return_weights)
        self.saved = (q, k, v, out, logsumexp, options)
        return out

    def backward(self, dy: _core.Tensor) -> None:
        q, k, v, out, logsumexp, options = self.saved
        grads = _core.attention_backward(dy, q.data, k.data, v.data, out, logsumexp, *options)
        for tensor, grad in zip((q, k, v), grads, strict=True):
            give(tensor, grad)


@overload
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_sequences: _core.Sequences,
    k_sequences: _core.Sequences,
    *,
    causal: bool = False,
    window: int | None = None,
    bias: None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    return_weights: Literal[False] = False,
) -> Tensor: ...
@overload
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_sequences: _core.Sequences,
    k_sequences: _core.Sequences,
    *,
    causal: bool = False,
    window: int | None = None,
    bias: None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    return_weights: Literal[True],
) -> tuple[Tensor, list[Tensor]]: ...
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_sequences: _core.Sequences,
    k_sequences: _core.Sequences,
    *,
    causal: bool = False,
    window: int | None = None,
    bias: None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    return_weights: bool = False,
) -> Tensor | tuple[Tensor, list[Tensor]]:
    """softmax(q k^T scale + mask) v, sequence by sequence, without keeping the scores
    (Vaswani et al. 2017, arXiv:1706.03762; Dao et al. 2022, arXiv:2205.14135).

    Query t of n queries over m keys stands at position t + m - n. A query that may attend to nothing gives 0, with zero
    gradient.

    Args:
        q: (tokens, num_heads, head_dim) float32 or bfloat16, as k and v.
        k, v: (tokens of the keys, kv_heads, head_dim); query head h reads key head h * kv_heads / num_heads.
        q_sequences, k_sequences: sequence i of the queries attends to sequence i of the keys.
        causal: a query sees only keys up to its position.
        window: a query sees only keys at most this far from its position.
        bias: reserved for relative positions; None.
        scale: 1 / sqrt(head_dim) by default.
        dropout: rate in [0, 1) at which softmax weights are dropped.
        return_weights: also return the softmax weights before dropout.

    Returns:
        (tokens, num_heads, head_dim), and with return_weights a list of (num_heads, queries, keys), one a sequence.
    """
    check_tensors("attention", q=q, k=k, v=v)
    check_sequences("attention", q_sequences=q_sequences, k_sequences=k_sequences)
    if bias is not None:
        raise ValueError(f"attention: bias must be None (relative biases are not supported yet), got {bias!r}")
    causal = arguments.flag("attention", "causal", causal)
    return_weights = arguments.flag("attention", "return_weights", return_weights)
    if window is not None:
        window = arguments.integer("attention", "window", window)
    if scale is not None:
        scale = arguments.number("attention", "scale", scale)
    function = Attention()
    mask = _dropout("attention", dropout)
    out = function(q, k, v, q_sequences, k_sequences, causal, window, scale, mask, return_weights)
    if function.weights is None:
        return out
    return out, _split_weights(function.weights, q.shape[1], q_sequences, k_sequences)


def _split_weights(
    weights: _core.Tensor, num_heads: int, q_sequences: _core.Sequences, k_sequences: _core.Sequences
) -> list[Tensor]:
    parts, first = [], 0
    for queries, keys in zip(q_sequences.lengths, k_sequences.lengths, strict=True):
        parts.append(Tensor(weights.slice(first, [num_heads, queries, keys])))
        first += num_heads * queries * keys
    return parts


class Residual(Function):
    def forward(
        self, x: Tensor, residual: Tensor, dropout: _core.Dropout, sequences: _core.Sequences | None
    ) -> _core.Tensor:
        self.saved = (edge(x), edge(residual), dropout, sequences)
        return _core.residual_forward(x.data, residual.data, dropout, sequences)

    def backward(self, dy: _core.Tensor) -> None:
        x, residual, dropout, sequences = self.saved
        # The identity, except that rows which are not in use get zeros whatever dy holds there.
        tail = sequences is not None and sequences.tokens < sequences.capacity
        give(residual, _core.dropout_backward(dy, _core.Dropout(), sequences) if tail else dy)
        give(x, _core.dropout_backward(dy, dropout, sequences))


def residual(x: Tensor, residual: Tensor, *, dropout: float = 0.0, sequences: _core.Sequences | None = None) -> Tensor:
    """residual + dropout(x), both (tokens, features) float32 or bfloat16; dropout is a rate in [0, 1)."""
    check_tensors("residual", x=x, residual=residual)
    check_options("residual", sequences=sequences)
    return Residual()(x, residual, _dropout("residual", dropout), sequences)


class ResidualNorm(Function):
    def forward(
        self,
        x: Tensor,
        residual: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        dropout: _core.Dropout,
        eps: float,
        centred: bool,
        sequences: _core.Sequences | None,
    ) -> _core.Tensor:
        y, total, mean, rstd = _core.residual_norm_forward(
            x.data, residual.data, weight.data, _data(bias), dropout, eps, centred, sequences
        )
        self.saved = (edge(x), edge(residual), total, weight, bias, mean, rstd, dropout, sequences)
        return y

    def backward(self, dy: _core.Tensor) -> None:
        x, residual, total, weight, bias, mean, rstd, dropout, sequences = self.saved
        dx, dresidual = _core.residual_norm_backward(
            dy, total, weight.data, mean, rstd, dropout, *sink(weight), *sink(bias), sequences
        )
        apart = dropout.threshold > 0  # else both are one tensor
        give(residual, dresidual, owned=apart)
        give(x, dx, owned=apart)


def residual_layer_norm(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    dropout: float = 0.0,
    eps: float = 1e-5,
    sequences: _core.Sequences | None = None,
) -> Tensor:
    """layer_norm(residual + dropout(x)), the end of a post-norm sublayer, in one pass over memory.

    Args:
        x: (tokens, features) float32 or bfloat16.
        residual: as x.
        weight: (features,) float32.
        bias: (features,) float32 or None.
        dropout: rate of x in [0, 1).
        eps: added to the variance, which is computed in two passes.
    """
    op = "residual_layer_norm"
    check_tensors(op, x=x, residual=residual, weight=weight)
    check_options(op, bias=bias, sequences=sequences)
    eps = arguments.number(op, "eps", eps, 0.0)
    return ResidualNorm()(x, residual, weight, bias, _dropout(op, dropout), eps, True, sequences)


def residual_rms_norm(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    *,
    dropout: float = 0.0,
    eps: float = 1e-5,
    sequences: _core.Sequences | None = None,
) -> Tensor:
    """rms_norm(residual + dropout(x)), in one pass over memory. Arguments as of residual_layer_norm."""
    op = "residual_rms_norm"
    check_tensors(op, x=x, residual=residual, weight=weight)
    check_options(op, sequences=sequences)
    eps = arguments.number(op, "eps", eps, 0.0)
    return ResidualNorm()(x, residual, weight, None, _dropout(op, dropout), eps, False, sequences)


class Dropout(Function):
    def forward(self, x: Tensor, dropout: _core.Dropout, sequences: _core.Sequences | None) -> _core.Tensor:
        self.saved = (edge(x), dropout, sequences)
        return _core.dropout_forward(x.data, dropout, sequences)

    def backward(self, dy: _core.Tensor) -> None:
        x, dropout, sequences = self.saved
        give(x, _core.dropout_backward(dy, dropout, sequences))


def dropout(x: Tensor, p: float, *, sequences: _core.Sequences | None = None) -> Tensor:
    """Zeroes elements of x (tokens, features) at rate p in [0, 1) and scales the rest by 1 / (1 - p)
    (Srivastava et al. 2014). The mask is a function of the seed, the step and the call: see dragoman.random.
    """
    check_tensors("dropout", x=x)
    check_options("dropout", sequences=sequences)
    return Dropout()(x, _dropout("dropout", p, "p"), sequences)


class Activation(Function):
    def forward(self, x: Tensor, activation: str, sequences: _core.Sequences | None) -> _core.Tensor:
        self.saved = (x, activation, sequences)
        return _core.activation_forward(x.data, activation, sequences)

    def backward(self, dy: _core.Tensor) -> None:
        x, activation, sequences = self.saved
        give(x, _core.activation_backward(dy, x.data, activation, sequences))


def relu(x: Tensor, *, sequences: _core.Sequences | None = None) -> Tensor:
    """max(x, 0), x (tokens, features) float32 or bfloat16."""
    check_tensors("relu", x=x)
    check_options("relu", sequences=sequences)
    return Activation()(x, "relu", sequences)


def gelu(x: Tensor, *, sequences: _core.Sequences | None = None) -> Tensor:
    """x Phi(x), the exact form (Hendrycks & Gimpel 2016, arXiv:1606.08415); x (tokens, features) float32."""
    check_tensors("gelu", x=x)
    check_options("gelu", sequences=sequences)
    return Activation()(x, "gelu", sequences)


class Embedding(Function):
    def forward(
        self,
        ids: _core.Tensor,
        weight: Tensor,
        positions: Tensor | None,
        starts: _core.Tensor | None,
        scale: float,
        dropout: _core.Dropout,
        sequences: _core.Sequences,
        dtype: str,
    ) -> _core.Tensor:
        self.saved = (ids, weight, positions, starts, scale, dropout, sequences)
        return _core.embedding_forward(ids, weight.data, _data(positions), starts, scale, dropout, sequences, dtype)

    def backward(self, dy: _core.Tensor) -> None:
        ids, weight, positions, starts, scale, dropout, sequences = self.saved
        _core.embedding_backward(dy, ids, starts, scale, dropout, sequences, *sink(weight), *sink(positions))


def embedding(
    ids: Ids,
    weight: Tensor,
    sequences: _core.Sequences,
    *,
    positions: Tensor | None = None,
    starts: Ids | None = None,
    scale: float = 1.0,
    dropout: float = 0.0,
    dtype: str = "float32",
) -> Tensor:
    """dropout(weight[ids] * scale + positions[place in the sequence]).

    Args:
        ids: (tokens,) integers in [0, vocabulary).
        weight: (vocabulary, features) float32.
        sequences: says where each sequence begins.
        positions: (max_positions, features), sinusoidal or learned, or None.
        starts: (number of sequences,) position of each sequence's first token; 0 by default.
        scale: factor of the embedding, sqrt(d_model) in the Transformer.
        dropout: rate in [0, 1).
        dtype: of the result, "float32" or "bfloat16".

    Returns:
        (tokens, features).
    """
    check_tensors("embedding", weight=weight)
    check_options("embedding", positions=positions)
    check_sequences("embedding", sequences=sequences)
    rows = _int32("embedding", "ids", ids)
    first = None if starts is None else _int32("embedding", "starts", starts)
    scale = arguments.number("embedding", "scale", scale)
    arguments.choice("embedding", "dtype", dtype, DTYPES)
    return Embedding()(rows, weight, positions, first, scale, _dropout("embedding", dropout), sequences, dtype)


def feed_forward(
    x: Tensor,
    weight1: Tensor,
    bias1: Tensor | None,
    weight2: Tensor,
    bias2: Tensor | None,
    *,
    activation: str = "relu",
    dropout: float = 0.0,
    sequences: _core.Sequences | None = None,
) -> Tensor:
    """linear(dropout(activation(linear(x)))): x (tokens, d_model), weight1 (d_ff, d_model), weight2 (d_model, d_ff)."""
    op = "feed_forward"
    check_tensors(op, x=x, weight1=weight1, weight2=weight2)
    check_options(op, bias1=bias1, bias2=bias2, sequences=sequences)
    _check_feed_forward(x, weight1, bias1, weight2, bias2)
    arguments.choice(op, "activation", activation, ACTIVATIONS)
    hidden = Linear()(x, weight1, bias1, activation, _dropout(op, dropout), sequences)
    return Linear()(hidden, weight2, bias2, "none", _core.Dropout(), sequences)


def _check_feed_forward(
    x: Tensor, weight1: Tensor, bias1: Tensor | None, weight2: Tensor, bias2: Tensor | None
) -> None:
    """In the names of this op's arguments; the products inside know them by others."""
    given = {"x": x, "weight1": weight1, "bias1": bias1, "weight2": weight2, "bias2": bias2}
    for name, value in given.items():
        rank = 1 if name.startswith("bias") else 2
        allowed = DTYPES if name == "x" else DTYPES[:1]
        if value is not None and value.dtype not in allowed:
            raise TypeError(f"feed_forward: {name} must be {' or '.join(allowed)}, got {value.dtype}")
        if value is not None and len(value.shape) != rank:
            raise ValueError(f"feed_forward: {name} must have {rank} dimensions, got shape {value.shape}")
    d_ff, d_model = weight1.shape[0], x.shape[1]
    shapes = {"weight1": (d_ff, d_model), "bias1": (d_ff,), "weight2": (weight2.shape[0], d_ff)}
    for name, shape in (shapes | {"bias2": weight2.shape[:1]}).items():
        value = given[name]
        if value is not None and value.shape != shape:
            raise ValueError(f"feed_forward: {name} must have shape {shape}, got {value.shape}")


class CrossEntropy(Function):
    def forward(
        self,
        logits: Tensor,
        ids: _core.Tensor,
        smoothing: float,
        num_targets: int | None,
        sequences: _core.Sequences | None,
    ) -> _core.Tensor:
        needs = self.needs_grad(logits)
        loss, _, dlogits = _core.cross_entropy_forward(logits.data, ids, smoothing, num_targets, needs, sequences)
        self.saved = ((edge(logits), dlogits),)
        return loss

    def backward(self, dy: _core.Tensor) -> None:
        _give_made(dy, self.saved)


def cross_entropy(
    logits: Tensor,
    ids: Ids,
    *,
    label_smoothing: float = 0.0,
    num_targets: int | None = None,
    sequences: _core.Sequences | None = None,
) -> Tensor:
    """Mean over the targets of -log softmax(logits)[id], smoothed (Szegedy et al. 2016, arXiv:1512.00567).

    Args:
        logits: (tokens, vocabulary) float32 or bfloat16; sums and loss are float32.
        ids: (tokens,) integers in [0, vocabulary), or -1 for no target.
        label_smoothing: in [0, 1): the share of the target spread evenly over the vocabulary.
        num_targets: what the sum is divided by; the number of targets where left out.

    Returns:
        A scalar.
    """
    check_tensors("cross_entropy", logits=logits)
    check_options("cross_entropy", sequences=sequences)
    targets = _int32("cross_entropy", "ids", ids)
    options = _loss_options("cross_entropy", label_smoothing, num_targets)
    return CrossEntropy()(logits, targets, *options, sequences)


def _give_made(dy: _core.Tensor, made: Sequence[tuple[Edge | None, _core.Tensor | None]]) -> None:
    """Hands out the gradients that forward made for an upstream gradient of 1."""
    factor = float(dy.numpy().item())
    for end, grad in made:
        if grad is not None:
            if factor != 1.0:
                _core.accumulate(grad, grad, factor, False)
            give(end, grad, owned=True)


def _loss_options(op: str, label_smoothing: float, num_targets: int | None) -> tuple[float, int | None]:
    smoothing = arguments.number(op, "label_smoothing", label_smoothing, 0.0, 1.0)
    return smoothing, None if num_targets is None else arguments.integer(op, "num_targets", num_targets)


class LinearCrossEntropy(Function):
    def forward(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        ids: _core.Tensor,
        smoothing: float,
        num_targets: int | None,
        sequences: _core.Sequences | None,
    ) -> _core.Tensor:
        needs = (self.needs_grad(x), self.needs_grad(weight), self.needs_grad(bias))
        loss, dx, dweight, dbias = _core.linear_cross_entropy_forward(
            x.data, weight.data_as(x.dtype), _data(bias), ids, smoothing, num_targets, *needs, sequences
        )
        self.saved = ((edge(x), dx), (edge(weight), dweight), (edge(bias), dbias))
        return loss

    def backward(self, dy: _core.Tensor) -> None:
        _give_made(dy, self.saved)


def linear_cross_entropy(
    x: Tensor,
    weight: Tensor,
    ids: Ids,
    *,
    bias: Tensor | None = None,
    label_smoothing: float = 0.0,
    num_targets: int | None = None,
    sequences: _core.Sequences | None = None,
) -> Tensor:
    """cross_entropy(linear(x, weight, bias), ids) in chunks of rows: the whole logits matrix never exists.

    The gradients are made in the forward pass, while a chunk's logits are at hand (Hsu et al. 2024, arXiv:2410.10989).

    Args:
        x: (tokens, features) float32 or bfloat16, as the logits; sums and loss are float32.
        weight: (vocabulary, features).
        ids, label_smoothing, num_targets: as in cross_entropy.
        bias: (vocabulary,) or None.

    Returns:
        A scalar.
    """
    check_tensors("linear_cross_entropy", x=x, weight=weight)
    check_options("linear_cross_entropy", bias=bias, sequences=sequences)
    targets = _int32("linear_cross_entropy", "ids", ids)
    options = _loss_options("linear_cross_entropy", label_smoothing, num_targets)
    return LinearCrossEntropy()(x, weight, bias, targets, *options, sequences)


class Reshape(Function):
    def forward(self, x: Tensor, shape: Sequence[int]) -> _core.Tensor:
        self.saved = (edge(x), x.shape)
        return _core.reshape(x.data, list(shape))

    def backward(self, dy: _core.Tensor) -> None:
        x, shape = self.saved
        give(x, _core.reshape(dy, list(shape)))


def reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    """The same values in another shape; one size may be -1. ValueError where the number of elements differs."""
    check_tensors("reshape", x=x)
    return Reshape()(x, arguments.integers("reshape", "shape", shape, least=-1))


class Add(Function):
    def forward(self, a: Tensor, b: Tensor) -> _core.Tensor:
        self.saved = (edge(a), edge(b))
        return _core.add(a.data, b.data)

    def backward(self, dy: _core.Tensor) -> None:
        for end in self.saved:
            give(end, dy)


def add(a: Tensor, b: Tensor) -> Tensor:
    """a + b, float32 or bfloat16 of the same shape."""
    check_tensors("add", a=a, b=b)
    return Add()(a, b)


class Scale(Function):
    def forward(self, x: Tensor, factor: float) -> _core.Tensor:
        self.saved = (edge(x), factor)
        return _core.scale(x.data, factor)

    def backward(self, dy: _core.Tensor) -> None:
        x, factor = self.saved
        give(x, _core.scale(dy, factor))


def scale(x: Tensor, factor: float) -> Tensor:
    """x * factor, float32 or bfloat16."""
    check_tensors("scale", x=x)
    return Scale()(x, arguments.number("scale", "factor", factor))


class Cast(Function):
    def forward(self, x: Tensor, dtype: str) -> _core.Tensor:
        self.saved = (edge(x), x.dtype)
        return _core.cast(x.data, dtype)

    def backward(self, dy: _core.Tensor) -> None:
        x, dtype = self.saved
        give(x, _core.cast(dy, dtype))


def cast(x: Tensor, dtype: str) -> Tensor:
    """x, float32 or bfloat16, in `dtype`, "float32" or "bfloat16", rounded to the nearest value (ties to even)."""
    check_tensors("cast", x=x)
    return Cast()(x, arguments.choice("cast", "dtype", dtype, DTYPES))
