"""AdamW over flat arenas (Loshchilov & Hutter 2019, "Decoupled weight decay regularization")."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from dragoman import _core, random
from dragoman.arguments import check_arrays, check_types, flag, integer, number, positive, shown
from dragoman.distributed.owned import MOMENTS, Owned
from dragoman.distributed.ranks import ALONE, Ranks
from dragoman.nn.module import Module
from dragoman.nn.weight import Parameter
from dragoman.parameter_groups import ParameterGroup, assign_groups, weight_decay_of
from dragoman.tensor import Tensor, checked_grad

__all__ = ["AdamW", "ParameterGroup", "check_options"]

_ALIGNMENT = 16  # floats: every parameter begins on a 64-byte boundary

State = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class _Segment:
    """Where one parameter lies in the arenas."""

    name: str
    parameter: Parameter
    first: int  # element
    value: _core.Tensor  # views of the arenas, of the parameter's shape
    gradient: Tensor
    shadow: _core.Tensor | None


class AdamW:
    """Adam with decoupled weight decay.

    The trainable parameters of the model move into one flat array (the arena) in backward order; gradients and both
    moments lie in arrays of the same layout, so a step is one pass over memory. Parameters keep their identity: only
    their memory moves.

    What is trained is decided here: a parameter whose `requires_grad` is False now is left out. A later AdamW over the
    same parameters moves them into its own arena, and this one can then take no step.

    Args:
        model: whose parameters to train.
        lr: learning rate; may be set between steps.
        betas: decay of the first and second moment, each in [0, 1).
        eps: added to the root of the second moment.
        weight_decay: parameters of two or more dimensions shrink by lr * weight_decay each step; norms and biases do
            not.
        max_grad_norm: gradients are scaled down to this norm where theirs is larger; None for no clipping.
        groups: learning-rate scale and weight decay of some parameters. A parameter belongs to the first group whose
            pattern matches its name.
        ranks: the processes that train together. Each keeps the moments of its pieces of the arena alone, and updates
            these (Rajbhandari et al. 2020, arXiv:1910.02054, stage 1).

    Attributes:
        size: elements of the arena, a little more than there are values to train.

    Raises:
        TypeError: an argument of another type.
        ValueError: an argument out of range, a model without trainable parameters, or a group that gets none of them.
    """

    def __init__(
        self,
        model: Module,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-9,
        weight_decay: float = 0.0,
        max_grad_norm: float | None = None,
        groups: Sequence[ParameterGroup] = (),
        ranks: Ranks = ALONE,
    ) -> None:
        if not isinstance(model, Module):
            raise TypeError(f"AdamW: model must be a Module, got {type(model).__name__}")
        self.betas, self.eps, weight_decay, self.max_grad_norm = check_options(
            "AdamW", betas, eps, weight_decay, max_grad_norm
        )

        backward_order = list(reversed(list(model.named_parameters())))
        trains = {name: flag("AdamW", f"{name}.requires_grad", p.requires_grad) for name, p in backward_order}
        trainable = {name: p for name, p in backward_order if trains[name]}
        if not trainable:
            raise ValueError("AdamW: model must have trainable parameters, got none")
        group_of = assign_groups("AdamW", groups, trainable)
        self._places = list(_places(model))
        self._frozen = {name: p for name, p in backward_order if not trains[name]}
        bounds = _bounds(trainable.values())
        total, device = int(bounds[-1]), next(iter(trainable.values())).device
        check_types("AdamW", Ranks, ranks=ranks)
        self._values = _core.Tensor.zeros([total], "float32", device)
        self._gradients = _core.Tensor.zeros([total], "float32", device)
        self._lr = _core.Tensor.zeros([], "float32", device)
        self.lr = lr

        firsts = bounds[:-1].tolist()
        for parameter, first in zip(trainable.values(), firsts, strict=True):
            value = self._values.slice(first, list(parameter.shape))
            value.copy_(parameter.numpy())
            parameter.data = value
        low = getattr(model, "compute_dtype", "float32") == "bfloat16"
        self._shadow = _core.cast(self._values, "bfloat16") if low else None
        self._segments = [
            _Segment(
                name,
                parameter,
                first,
                parameter.data,
                Tensor(self._gradients.slice(first, list(parameter.shape))),
                self._shadow and self._shadow.slice(first, list(parameter.shape)),
            )
            for (name, parameter), first in zip(trainable.items(), firsts, strict=True)
        ]
        self._collect_gradients()
        self._share_shadows()
        _core.empty_cache(device)  # of the memory that the parameters lay in before
        decays = [weight_decay_of(group_of[name], p, weight_decay) for name, p in trainable.items()]
        scales = [group.lr_scale if (group := group_of[name]) else 1.0 for name in trainable]
        self.size = total
        places = {id(segment.parameter): segment.first for segment in self._segments}
        rates = np.array(scales, np.float32), np.array(decays, np.float32)
        self._owned = Owned(ranks, self._values, self._gradients, self._shadow, bounds, *rates, places)

    @property
    def lr(self) -> float:
        """The learning rate of the next step. TypeError, ValueError where it is set to what is none."""
        return self._lr_value

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr_value = number("AdamW", "lr", value, 0.0)
        self._lr.copy_(np.array(self._lr_value, np.float32))

    @property
    def step_count(self) -> int:
        """Updates so far; skipped steps are none."""
        return self._owned.step_count

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "AdamW: an optimizer cannot be copied or pickled, as it holds its model's memory; make one for the copied "
            "model and load state_dict()"
        )

    def step(self, loss: Tensor | None = None) -> float:
        """One update from the gradients accumulated so far, which are then cleared. Returns their norm before clipping.

        A `grad` that was replaced or set to None since the last step counts as it is now.

        Args:
            loss: a scalar whose gradients these are. If it is not finite, the step is skipped, too.

        Raises:
            FloatingPointError: the norm is not finite, naming the first bad gradient, or the loss is not. Then the step
                is skipped: parameters and moments keep their bits.
            RuntimeError: a parameter is no longer this optimizer's, a parameter or a module of the model was replaced,
                or `requires_grad` has changed.
            TypeError, ValueError: a `grad` that was set is no Tensor, or has another dtype, shape or device; the
                loss is no scalar.
        """
        if loss is not None:
            check_types("AdamW", Tensor, loss=loss)
            if loss.shape != () or loss.dtype != "float32":
                raise ValueError(f"AdamW: loss must be a float32 scalar, got {loss.dtype} of shape {loss.shape}")
        self._check_parameters()
        if not self._owned.summed:
            self._collect_gradients()
        gradient_norm = self._owned.gradient_norm()
        if loss is not None:
            _core.accumulate(gradient_norm, loss.data, 0.0, True)  # NaN if the loss is not finite, without reading it
        self._owned.update(self._lr, gradient_norm, self.betas, self.eps, self.max_grad_norm)
        norm = float(gradient_norm.numpy())
        if not math.isfinite(norm):
            name = self.bad_gradient()
            self.skip()
            if name is None and loss is not None and not math.isfinite(loss.item()):
                raise FloatingPointError("AdamW: the loss must be finite; its gradient is finite")
            where = f"; the first bad one is of {name}" if name else ""
            raise FloatingPointError(f"AdamW: the gradient's norm must be finite, got {norm}{where}")
        self._owned.share()
        self._share_shadows()
        random.advance_step()
        return norm

    def backward(self, loss: Tensor | None, batches: int, done: int = 0) -> None:
        """`loss.backward()` of one of several batches of a step, whose gradients are then added in their order.

        Each batch's gradients are computed alone and added afterwards. So the sum does not depend on who computes
        which: one process calls this for one batch after the other; of several ranks, each for its batch of a round.

        Args:
            loss: of the batch; None where this rank has none left in the last round.
            batches: of the step, on all ranks.
            done: how many of them the rounds before had.

        Raises:
            TypeError, ValueError: naming the argument.
            RuntimeError: as of `Tensor.backward`.
        """
        batches = integer("AdamW", "batches", batches, 1)
        done = integer("AdamW", "done", done)
        if done >= batches:
            raise ValueError(f"AdamW: done must be below {batches}, as batches, got {done}")
        if loss is not None:
            check_types("AdamW", Tensor, loss=loss)
        if batches == 1 and self._owned.ranks.size == 1:
            if loss is not None:
                loss.backward()
            return
        self._collect_gradients()
        self._owned.backward(loss, batches, done)

    def _check_parameters(self) -> None:
        """Raises RuntimeError unless the parameters in the arena are those of the model that can be trained."""
        for segment in self._segments:
            if segment.parameter.data is not segment.value:
                raise RuntimeError(
                    f"AdamW: {segment.name} has moved out of this optimizer's memory, to that of a later AdamW or to "
                    "another device; step the later one, or make a new one"
                )
            trained = segment.parameter.requires_grad
            if trained is not True and not flag("AdamW", f"{segment.name}.requires_grad", trained):
                raise RuntimeError(f"AdamW: {segment.name} was frozen after AdamW was made; make a new one")
        for name, parameter in self._frozen.items():
            if parameter.requires_grad:
                raise RuntimeError(f"AdamW: {name} was frozen when AdamW was made and is trainable now; make a new one")
        for name, held, key, value in self._places:
            if not _holds(held, key, value):
                raise RuntimeError(f"AdamW: {name} was replaced in the model after AdamW was made; make a new one")

    def _collect_gradients(self) -> None:
        """Where a parameter's `grad` is not its part of the arena, copies it there; None counts as zeros."""
        for segment in self._segments:
            parameter, own = segment.parameter, segment.gradient
            if parameter.grad is own:
                continue
            if parameter.grad is None:
                own.data.zero_()
            else:
                grad = checked_grad("AdamW", f"{segment.name}.grad", parameter, parameter.grad)
                _core.accumulate(own.data, grad.data, 1.0, False)
            parameter.grad, parameter.grad_owned = own, True

    def _share_shadows(self) -> None:
        """Gives the parameters their bfloat16 copies in the arena, which hold the present values."""
        version = self._values.version
        for segment in self._segments:
            if segment.shadow is not None:
                segment.parameter.forms.shared = (version, segment.shadow)

    def skip(self) -> None:
        """Goes on to the next step without an update: clears the gradients and moves the random state on."""
        self.zero_grad()
        random.advance_step()

    def bad_gradient(self) -> str | None:
        """The parameter whose gradient is not finite, the first as backward reaches them; None if all are finite."""
        if not self._owned.summed:
            self._collect_gradients()
        place = self._owned.first_bad()
        if place is None:
            return None
        return next(segment.name for segment in reversed(self._segments) if segment.first <= place)

    def zero_grad(self) -> None:
        """Clears the gradients."""
        for segment in self._segments:
            segment.parameter.grad, segment.parameter.grad_owned = segment.gradient, True
        self._gradients.zero_()
        self._owned.clear()

    def state_dict(self, *, copy: bool = True) -> dict[str, npt.NDArray[Any]]:
        """The step count and the moments: with the parameters, all that the next step depends on.

        The moments of parameter NAME are `mean.NAME` and `variance.NAME`, float32 of the parameter's shape. With
        copy=False they are, on the CPU, read-only views, which later steps change. All ranks call it together; the
        first one gets the moments, the others the step count alone.
        """
        copy = flag("state_dict", "copy", copy)
        state: dict[str, npt.NDArray[Any]] = {"step": np.array(self.step_count, np.int64)}
        for kind in MOMENTS:
            whole = self._owned.moment(kind)
            if whole is None:
                continue
            for segment in reversed(self._segments):
                size, shape = segment.parameter.size, segment.parameter.shape
                array = whole[segment.first : segment.first + size].reshape(shape)
                state[f"{kind}.{segment.name}"] = array.copy() if copy else array
        return state

    def load_state_dict(self, state: State) -> None:
        """Restores what `state_dict` returned; nothing is changed if it does not fit.

        The state of a version that kept each moment as one flat array fits where all parameters are trained.

        Raises:
            ValueError: naming the first moment that is missing, or is of a parameter that is not trained, or has
                another shape.
        """
        check_arrays("AdamW", "state", state)
        if "step" not in state:
            raise ValueError("AdamW: the state must hold step, got none")
        if "mean" in state and "variance" in state:
            state = self._by_name(state)
        named = [(kind, segment) for kind in MOMENTS for segment in reversed(self._segments)]
        expected = {f"{kind}.{segment.name}": segment.parameter.shape for kind, segment in named}
        for name, shape in expected.items():
            if name not in state:
                raise ValueError(f"AdamW: the state must hold {name}, which this optimizer trains, got none")
            if state[name].shape != shape:
                raise ValueError(f"AdamW: {name} must have shape {shape}, got {state[name].shape}")
            if state[name].dtype != np.float32:
                raise ValueError(f"AdamW: {name} must be float32, got {state[name].dtype}")
        step = np.asarray(state["step"])
        if step.size != 1 or step.dtype.kind not in "iu" or not 0 <= step.item() < 2**62:
            raise ValueError(f"AdamW: step must be one int of at least 0, got {step.dtype} of shape {step.shape}")
        for name in state:
            if name != "step" and name not in expected:
                raise ValueError(f"AdamW: the state holds {name}, which this optimizer does not train")
        for kind, segment in named:
            values = np.ascontiguousarray(state[f"{kind}.{segment.name}"], np.float32).reshape(-1)
            self._owned.put(kind, segment.first, values)
        self._owned.put_step(step.astype(np.int64).reshape(()))

    def _by_name(self, state: State) -> State:
        """A state of two flat arrays in the arena's layout, as one array for each parameter."""
        if self._frozen:
            raise ValueError(
                "AdamW: the state is of a version whose moments had no names; it fits only where all parameters are "
                f"trained, and {next(iter(self._frozen))} is frozen"
            )
        named = {"step": state["step"]}
        for kind in MOMENTS:
            if state[kind].shape != (self.size,):
                raise ValueError(f"AdamW: {kind} must have shape {(self.size,)}, got {state[kind].shape}")
            for segment in self._segments:
                size, shape = segment.parameter.size, segment.parameter.shape
                named[f"{kind}.{segment.name}"] = state[kind][segment.first : segment.first + size].reshape(shape)
        return named


def check_options(
    op: str, betas: Any, eps: Any, weight_decay: Any, max_grad_norm: Any
) -> tuple[tuple[float, float], float, float, float | None]:
    """These arguments of AdamW as Python's numbers, checked in the name of `op`. TypeError, ValueError otherwise."""
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise TypeError(f"{op}: betas must be two numbers, got {shown(betas)}")
    return (
        (number(op, "betas[0]", betas[0], 0.0, 1.0), number(op, "betas[1]", betas[1], 0.0, 1.0)),
        positive(op, "eps", eps),
        number(op, "weight_decay", weight_decay, 0.0),
        None if max_grad_norm is None else positive(op, "max_grad_norm", max_grad_norm),
    )


def _places(model: Module) -> Iterator[tuple[str, Any, Any, Any]]:
    """What the tree holds, parameters, modules and lists of modules: its name, what it lies in, and its place there."""
    for prefix, module in model.named_modules():
        attributes = vars(module)
        for key, value in attributes.items():
            name = f"{prefix}.{key}" if prefix else key
            if isinstance(value, Parameter | Module):
                yield name, attributes, key, value
            elif isinstance(value, list) and any(isinstance(item, Module) for item in value):
                yield name, attributes, key, value
                yield from ((f"{name}.{i}", value, i, item) for i, item in enumerate(value) if isinstance(item, Module))


def _holds(held: Any, key: Any, value: Any) -> bool:
    try:
        return held[key] is value
    except LookupError:
        return False


def _bounds(parameters: Any) -> npt.NDArray[np.int64]:
    """The first element of each parameter in an arena, and the arena's size."""
    sizes = [-(-parameter.size // _ALIGNMENT) * _ALIGNMENT for parameter in parameters]
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
