"""layer_norm and rms_norm, alone or after a residual connection."""

from __future__ import annotations

from dragoman import _core, arguments
from dragoman.functional.operands import data_of, dropout_mask
from dragoman.tensor import Function, Tensor, add_grad, check_options, check_tensors, edge, grad_buffer


class LayerNorm(Function):
    def forward(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, sequences: _core.Sequences | None
    ) -> _core.Tensor:
        y, mean, rstd = _core.layer_norm_forward(x.data, weight.data, data_of(bias), eps, sequences)
        self.saved = (x, weight, bias, mean, rstd, sequences)
        return y

    def backward(self, dy: _core.Tensor) -> None:
        x, weight, bias, mean, rstd, sequences = self.saved
        add_grad(
            x,
            _core.layer_norm_backward(
                dy, x.data, weight.data, mean, rstd, *grad_buffer(weight), *grad_buffer(bias), sequences
            ),
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
        weight: (features,) float32.
        bias: (features,) float32 or None.
        eps: added to the variance, which is computed in two passes.
        sequences: says how many rows are in use; None for all.

    Returns:
        (tokens, features), of x's dtype.
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
        add_grad(x, _core.rms_norm_backward(dy, x.data, weight.data, rstd, *grad_buffer(weight), sequences))


def rms_norm(x: Tensor, weight: Tensor, *, eps: float = 1e-5, sequences: _core.Sequences | None = None) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis (Zhang & Sennrich 2019, arXiv:1910.07467).

    Args:
        x: (tokens, features) float32 or bfloat16.
        weight: (features,) float32.
        eps: added to the mean of the squares.
        sequences: says how many rows are in use; None for all.

    Returns:
        (tokens, features), of x's dtype.
    """
    check_tensors("rms_norm", x=x, weight=weight)
    check_options("rms_norm", sequences=sequences)
    return RMSNorm()(x, weight, arguments.number("rms_norm", "eps", eps, 0.0), sequences)


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
            x.data, residual.data, weight.data, data_of(bias), dropout, eps, centred, sequences
        )
        self.saved = (edge(x), edge(residual), total, weight, bias, mean, rstd, dropout, sequences)
        return y

    def backward(self, dy: _core.Tensor) -> None:
        x, residual, total, weight, bias, mean, rstd, dropout, sequences = self.saved
        dx, dresidual = _core.residual_norm_backward(
            dy, total, weight.data, mean, rstd, dropout, *grad_buffer(weight), *grad_buffer(bias), sequences
        )
        apart = dropout.threshold > 0  # otherwise both are one tensor
        add_grad(residual, dresidual, owned=apart)
        add_grad(x, dx, owned=apart)


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
        residual: shape and dtype of x.
        weight: (features,) float32.
        bias: (features,) float32 or None.
        dropout: rate for x, in [0, 1).
        eps: added to the variance, which is computed in two passes.
        sequences: says how many rows are in use; None for all.

    Returns:
        (tokens, features), of x's dtype.
    """
    op = "residual_layer_norm"
    check_tensors(op, x=x, residual=residual, weight=weight)
    check_options(op, bias=bias, sequences=sequences)
    eps = arguments.number(op, "eps", eps, 0.0)
    return ResidualNorm()(x, residual, weight, bias, dropout_mask(op, dropout, x.device), eps, True, sequences)


def residual_rms_norm(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    *,
    dropout: float = 0.0,
    eps: float = 1e-5,
    sequences: _core.Sequences | None = None,
) -> Tensor:
    """rms_norm(residual + dropout(x)), in one pass over memory. Arguments and result as in `residual_layer_norm`."""
    op = "residual_rms_norm"
    check_tensors(op, x=x, residual=residual, weight=weight)
    check_options(op, sequences=sequences)
    eps = arguments.number(op, "eps", eps, 0.0)
    return ResidualNorm()(x, residual, weight, None, dropout_mask(op, dropout, x.device), eps, False, sequences)
