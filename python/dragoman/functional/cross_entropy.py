"""The losses over a vocabulary."""

from __future__ import annotations

from collections.abc import Sequence

from dragoman import _core, arguments
from dragoman.functional.operands import Ids, data_of, int32_ids
from dragoman.tensor import Edge, Function, Tensor, add_grad, check_options, check_tensors, edge, is_unit_gradient


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
        _add_made_grads(dy, self.saved)


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
    targets = int32_ids("cross_entropy", "ids", ids)
    options = _loss_options("cross_entropy", label_smoothing, num_targets)
    return CrossEntropy()(logits, targets, *options, sequences)


def _add_made_grads(dy: _core.Tensor, made: Sequence[tuple[Edge | None, _core.Tensor | None]]) -> None:
    """Hands out the gradients that forward made for an upstream gradient of 1."""
    for end, grad in made:
        if grad is not None:
            if not is_unit_gradient(dy):
                _core.scale_by(grad, dy)
            add_grad(end, grad, owned=True)


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
            x.data, weight.data_as(x.dtype), data_of(bias), ids, smoothing, num_targets, *needs, sequences
        )
        self.saved = ((edge(x), dx), (edge(weight), dweight), (edge(bias), dbias))
        return loss

    def backward(self, dy: _core.Tensor) -> None:
        _add_made_grads(dy, self.saved)


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
    targets = int32_ids("linear_cross_entropy", "ids", ids)
    options = _loss_options("linear_cross_entropy", label_smoothing, num_targets)
    return LinearCrossEntropy()(x, weight, bias, targets, *options, sequences)
