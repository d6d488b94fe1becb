"""checkpoint: activations are computed again in backward instead of being kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dragoman import _core, random
from dragoman.grad_mode import enable_grad, is_grad_enabled
from dragoman.tensor import Function, Tensor, backward, check_tensors, edge


class Checkpoint(Function):
    def forward(self, run: Callable[..., Tensor], inputs: tuple[Tensor, ...], *tensors: Tensor) -> _core.Tensor:
        self.saved = (run, inputs, random.mask_position())
        return run(*inputs).data  # the graph of this run ends here, and with it the memory that it keeps

    def backward(self, dy: _core.Tensor) -> None:
        run, inputs, position = self.saved
        with enable_grad(), random.masks_from(position):
            y = run(*inputs)
        # The inputs are those of the first run, so their gradients arrive in the order that they have without a
        # checkpoint. Their own functions run later.
        if y.requires_grad:  # not where it reads none of the tensors that want a gradient
            backward(y, dy, {end for x in inputs if isinstance(end := edge(x), Function)})


def checkpoint(run: Callable[..., Tensor], *inputs: Tensor, parameters: Sequence[Tensor] = ()) -> Tensor:
    """`run(*inputs)`, which runs again in backward: only the inputs are kept until then, not what `run` computes
    between (Chen et al. 2016, arXiv:1604.06174). Outputs, dropout masks and gradients are to the bit those of
    `run(*inputs)`.

    Args:
        run: a function of Tensors that returns a Tensor. It must compute the same each time.
        inputs: its Tensors.
        parameters: Tensors that `run` reads beside its inputs and that want gradients, `layer.parameters()` of a
            layer. A gradient reaches them only if they, or an input, require one.

    Returns:
        What `run` returns.

    Raises:
        TypeError: an input is no Tensor, or `run` cannot be called.
    """
    if not callable(run):
        raise TypeError(f"checkpoint: run must be a function, got {type(run).__name__}")
    check_tensors("checkpoint", **{f"inputs[{i}]": x for i, x in enumerate(inputs)})
    check_tensors("checkpoint", **{f"parameters[{i}]": x for i, x in enumerate(parameters)})
    if not is_grad_enabled():
        return run(*inputs)
    return Checkpoint()(run, inputs, *parameters, *inputs)
