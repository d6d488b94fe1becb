"""Program: the op calls of a function, recorded once and replayed on other inputs without Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dragoman import _core
from dragoman.grad_mode import no_grad
from dragoman.nn.kv_cache import KVCache
from dragoman.tensor import Tensor

Input = Tensor | _core.Sequences | KVCache


class Program:
    """A recorded function, from `record`."""

    def __init__(self, data: _core.Program) -> None:
        self.data = data

    def __call__(self, *inputs: Input) -> tuple[Tensor, ...]:
        """Runs the recorded ops on other inputs of the same kinds, of any number of rows.

        Raises:
            TypeError, ValueError: another number or kind of inputs, or an input that an op refuses.
        """
        return tuple(Tensor(output) for output in self.data.replay(_values(inputs)))  # type: ignore[arg-type]

    @property
    def op_names(self) -> list[str]:
        """The ops in the order of their calls."""
        return self.data.op_names


def record(
    function: Callable[..., Tensor | tuple[Tensor, ...]],
    first: Sequence[Input],
    second: Sequence[Input],
    *,
    frozen: bool = False,
) -> Program:
    """Runs `function` twice, off the tape, and records the ops that it calls.

    The two recordings must be the same: the same ops with the same attributes and constants. So the inputs should
    differ in all that may differ later: rows, lengths, steps and ids. A KVCache among them advances as in any call.

    Args:
        function: takes Tensors, Sequences and KVCaches and returns a Tensor or a tuple of Tensors. It may not read
            values of tensors, nor make tensors of host values or Sequences: those are inputs.
        first: the inputs of the recording that is kept.
        second: the inputs of the recording that it is compared with.
        frozen: the Program is dropped when a weight changes, so it may hold packed copies of weights. Otherwise it
            reads the weights where they are and follows their changes.

    Returns:
        A Program. Called on inputs it gives the bits of `function`.

    Raises:
        ValueError: naming the op and the argument that differs between the two runs, or what the function may not do.
        TypeError: an input of another kind.
    """
    with no_grad():
        program = _trace(function, first, frozen)
        program.check_same(_trace(function, second, frozen))
    return Program(program)


def _trace(
    function: Callable[..., Tensor | tuple[Tensor, ...]], inputs: Sequence[Input], frozen: bool
) -> _core.Program:
    values = _values(inputs)
    recorder = _core.Recorder(frozen)
    try:
        outputs = function(*inputs)
        return recorder.finish(values, _values(outputs if isinstance(outputs, tuple) else (outputs,)))
    finally:
        recorder.stop()


def _values(inputs: Sequence[Input]) -> list[_core.Tensor | _core.Sequences | _core.KVCache]:
    for i, value in enumerate(inputs):
        if not isinstance(value, Input):
            raise TypeError(f"record: input {i} must be a Tensor, Sequences or KVCache, got {type(value).__name__}")
    return [value if isinstance(value, _core.Sequences) else value.data for value in inputs]
