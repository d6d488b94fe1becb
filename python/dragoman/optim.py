"""AdamW over flat arenas (Loshchilov & Hutter 2019, "Decoupled weight decay regularization")."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman import _core, random
from dragoman.arguments import number, positive
from dragoman.nn.module import Module
from dragoman.tensor import Tensor

_ALIGNMENT = 16  # floats: every parameter begins on a 64-byte boundary


class AdamW:
    """Adam with decoupled weight decay.

    The trainable parameters of the model move into one flat array (the arena) in backward order; gradients and both
    moments lie in arrays of the same layout, so a step is one pass over memory. Parameters keep their identity: only
    their memory moves.

    Args:
        model: whose parameters to train.
        lr: learning rate; may be set between steps.
        betas: decay of the first and second moment, each in [0, 1).
        eps: added to the root of the second moment.
        weight_decay: parameters of two or more dimensions shrink by lr * weight_decay each step; norms and biases do
            not.
        max_grad_norm: gradients are scaled down to this norm where theirs is larger; None for no clipping.

    Raises:
        ValueError: an argument out of range, or a model without trainable parameters.
    """

    def __init__(
        self,
        model: Module,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-9,
        weight_decay: float = 0.0,
        max_grad_norm: float | None = None,
    ) -> None:
        if not isinstance(model, Module):
            raise TypeError(f"AdamW: model must be a Module, got {type(model).__name__}")
        number("AdamW", "lr", lr, 0.0)
        check_options("AdamW", betas, eps, weight_decay, max_grad_norm)
        self.lr = lr
        self.betas = betas
        self.eps = eps
        self.max_grad_norm = max_grad_norm
        self.step_count = 0

        trainable = [(name, p) for name, p in reversed(list(model.named_parameters())) if p.requires_grad]
        if not trainable:
            raise ValueError("AdamW: model must have trainable parameters, got none")
        self._names = [name for name, _ in trainable]
        self._parameters = [parameter for _, parameter in trainable]
        sizes = [-(-p.size // _ALIGNMENT) * _ALIGNMENT for p in self._parameters]
        bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        total = int(bounds[-1])
        self._values = _core.Tensor.zeros([total])
        self._gradients = _core.Tensor.zeros([total])
        self._mean = _core.Tensor.zeros([total])
        self._variance = _core.Tensor.zeros([total])
        places = []
        for parameter, first in zip(self._parameters, bounds.tolist(), strict=False):
            shape = list(parameter.shape)
            place = self._values.slice(first, shape)
            place.copy_(parameter.numpy())
            gradient = self._gradients.slice(first, shape)
            if parameter.grad is not None:
                gradient.copy_(parameter.grad.numpy())
            parameter.data = place
            places.append((first, shape))
            parameter.grad, parameter.grad_owned = Tensor(gradient), True
        low = getattr(model, "compute_dtype", "float32") == "bfloat16"
        self._shadow = _core.cast(self._values, "bfloat16") if low else None
        self._shadows = [self._shadow and self._shadow.slice(*place) for place in places]
        self._share_shadows()
        _core.empty_cache()  # of the memory that the parameters lay in before
        decay = [weight_decay if len(p.shape) > 1 else 0.0 for p in self._parameters]
        self._bounds = _core.Tensor.from_numpy(bounds, "int64")
        self._lr_scale = _core.Tensor.from_numpy(np.ones(len(decay), np.float32), "float32")
        self._weight_decay = _core.Tensor.from_numpy(np.array(decay, np.float32), "float32")

    def step(self) -> float:
        """One update from the gradients accumulated so far, which are then cleared. Returns their norm before clipping.

        Raises:
            FloatingPointError: the norm is not finite, naming the first bad gradient. Then the step is skipped:
                parameters and moments keep their bits.
        """
        norm = float(_core.gradient_norm(self._gradients).numpy())
        if not math.isfinite(norm):
            name = self.bad_gradient()
            self.skip()
            where = f"; the first bad one is of {name}" if name else ""
            raise FloatingPointError(f"AdamW: the gradient's norm must be finite, got {norm}{where}")
        clip = 1.0 if self.max_grad_norm is None else min(1.0, self.max_grad_norm / max(norm, 1e-12))
        _core.adamw_step(
            self._values,
            self._gradients,
            self._mean,
            self._variance,
            self._shadow,
            self._bounds,
            self._lr_scale,
            self._weight_decay,
            self.lr,
            *self.betas,
            self.eps,
            self.step_count + 1,
            clip,
        )
        self._share_shadows()
        self.step_count += 1
        random.advance_step()
        return norm

    def _share_shadows(self) -> None:
        """After the values have changed: the parameters' bfloat16 copies are those in the arena, or to be made anew."""
        for parameter, shadow in zip(self._parameters, self._shadows, strict=True):
            parameter.shadow = shadow

    def skip(self) -> None:
        """Goes on to the next step without an update: clears the gradients and moves the random state on."""
        self.zero_grad()
        random.advance_step()

    def bad_gradient(self) -> str | None:
        """The parameter whose gradient is not finite, the first as backward reaches them; None if all are finite."""
        gradients = self._gradients.numpy()
        bounds = self._bounds.numpy().tolist()
        for name, first, last in zip(self._names, bounds, bounds[1:], strict=False):
            if not np.isfinite(gradients[first:last]).all():
                return name
        return None

    def zero_grad(self) -> None:
        """Clears the gradients."""
        self._gradients.zero_()

    def state_dict(self, *, copy: bool = True) -> dict[str, npt.NDArray[Any]]:
        """The moments and the step count: with the parameters, all that the next step depends on.

        With copy=False read-only views, which later steps change.
        """
        mean, variance = self._mean.numpy(), self._variance.numpy()
        return {
            "mean": mean.copy() if copy else mean,
            "variance": variance.copy() if copy else variance,
            "step": np.array(self.step_count, np.int64),
        }

    def load_state_dict(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Restores what `state_dict` returned for a model of the same shape. ValueError otherwise."""
        missing = {"mean", "variance", "step"} - state.keys()
        if missing:
            raise ValueError(f"AdamW: state must hold mean, variance and step, got none of {sorted(missing)}")
        for name in ("mean", "variance"):
            if state[name].shape != self._mean.shape:
                raise ValueError(f"AdamW: {name} must have shape {self._mean.shape}, got {state[name].shape}")
        for name, moment in (("mean", self._mean), ("variance", self._variance)):
            moment.copy_(np.ascontiguousarray(state[name], np.float32))
        self.step_count = int(state["step"])


def check_options(op: str, betas: Any, eps: Any, weight_decay: Any, max_grad_norm: Any) -> None:
    """Checks these arguments of AdamW in the name of `op`. TypeError, ValueError otherwise."""
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise TypeError(f"{op}: betas must be two numbers, got {betas!r}")
    for i, beta in enumerate(betas):
        number(op, f"betas[{i}]", beta, 0.0, 1.0)
    number(op, "weight_decay", weight_decay, 0.0)
    positive(op, "eps", eps)
    if max_grad_norm is not None:
        positive(op, "max_grad_norm", max_grad_norm)
