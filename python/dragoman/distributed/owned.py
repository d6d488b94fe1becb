"""Owned: the pieces of the optimizer's arenas that this process updates. A process by itself owns all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from dragoman import _core
from dragoman.distributed.exchange import CHUNK, Exchange, Pieces
from dragoman.distributed.ranks import Ranks
from dragoman.tensor import Tensor

MOMENTS = ("mean", "variance")


@dataclass(frozen=True)
class _Piece:
    """A part of the arenas: views of them, its moments, and what lies in it."""

    begin: int  # element
    end: int
    values: _core.Tensor
    shadow: _core.Tensor | None
    moments: Mapping[str, _core.Tensor]  # by name
    bounds: _core.Tensor
    lr_scale: _core.Tensor
    weight_decay: _core.Tensor
    step: _core.Tensor


class Owned:
    """The pieces of the arenas that this process updates, with their moments (Rajbhandari et al. 2020,
    arXiv:1910.02054, stage 1), and the sum of the gradients of a step's batches.

    Args:
        ranks: the processes that train together.
        values: the arena of the parameters, float32 (size,).
        gradients: that of the gradients, which backward writes.
        shadow: the parameters in bfloat16, or None.
        bounds: int64, the first element of each parameter in the arenas, and their size.
        lr_scale, weight_decay: float32, of each parameter.
        places: the first element of each parameter, by its identity.
    """

    def __init__(
        self,
        ranks: Ranks,
        values: _core.Tensor,
        gradients: _core.Tensor,
        shadow: _core.Tensor | None,
        bounds: npt.NDArray[np.int64],
        lr_scale: npt.NDArray[np.float32],
        weight_decay: npt.NDArray[np.float32],
        places: Mapping[int, int],
    ) -> None:
        self.ranks = ranks
        self._values = values
        self._gradients = gradients
        self._shadow = shadow
        self._size = int(bounds[-1])
        self._step = _core.Tensor.zeros([], "int64", values.device)
        self._layout = Pieces(self._size, ranks.size)
        owned = self._layout.owned(ranks.rank) if ranks.size > 1 else [(0, self._size)]
        self._pieces = [self._piece(begin, end, bounds, lr_scale, weight_decay) for begin, end in owned]
        self._summed = False  # whether the sum holds the gradients of this step
        self._total: _core.Tensor | None = None
        self._exchange: Exchange | None = None
        if ranks.size > 1:
            self._exchange = Exchange(ranks, self._layout, gradients, self._sum(), places)

    def _piece(
        self,
        begin: int,
        end: int,
        bounds: npt.NDArray[np.int64],
        lr_scale: npt.NDArray[np.float32],
        weight_decay: npt.NDArray[np.float32],
    ) -> _Piece:
        low, high = np.searchsorted(bounds, begin, "right") - 1, np.searchsorted(bounds, end, "left")
        size, device = [end - begin], self._values.device
        return _Piece(
            begin,
            end,
            self._values.slice(begin, size),
            self._shadow and self._shadow.slice(begin, size),
            {kind: _core.Tensor.zeros(size, "float32", device) for kind in MOMENTS},
            _on_device(bounds[low : high + 1].clip(begin, end) - begin, device),
            _on_device(lr_scale[low:high], device),
            _on_device(weight_decay[low:high], device),
            self._step if self.ranks.size == 1 else _core.Tensor.zeros([], "int64", device),
        )

    @property
    def step_count(self) -> int:
        """Updates so far."""
        return int(self._step.numpy())

    @property
    def summed(self) -> bool:
        """Whether the gradients of this step lie in the sum, and not in the arena."""
        return self._summed

    def backward(self, loss: Tensor | None, batches: int, done: int) -> None:
        """Runs backward of a batch and adds its gradients to the sum: see `AdamW.backward`. The arena must be clear,
        and is clear afterwards."""
        if self._exchange is not None:
            self._exchange.add_gradients(loss, min(batches - done, self.ranks.size))
        elif loss is not None:
            loss.backward()
            _core.accumulate(self._sum(), self._gradients, 1.0, True)
            self._gradients.zero_()
        self._summed = True

    def gradient_norm(self) -> _core.Tensor:
        """The norm of the step's gradients on all ranks, a scalar tensor."""
        if self.ranks.size == 1:
            return _core.gradient_norm(self._sum() if self._summed else self._gradients)
        squares = np.zeros(-(-self._size // CHUNK))
        own = [_core.square_sums(gradients) for gradients in self._gradients_of_pieces()]
        for rank, sums in enumerate(self.ranks.gather(own)):
            for (begin, _), values in zip(self._layout.owned(rank), sums, strict=True):
                squares[begin // CHUNK : begin // CHUNK + len(values)] = values
        return _core.norm_of_sums(squares.tolist(), self._gradients.device)

    def update(
        self, lr: _core.Tensor, norm: _core.Tensor, betas: tuple[float, float], eps: float, max_norm: float | None
    ) -> None:
        """Updates the pieces and clears their gradients. Changes nothing where the norm is not finite."""
        for piece, gradients in zip(self._pieces, self._gradients_of_pieces(), strict=True):
            _core.adamw_step(
                piece.values,
                gradients,
                piece.moments["mean"],
                piece.moments["variance"],
                piece.shadow,
                piece.bounds,
                piece.lr_scale,
                piece.weight_decay,
                lr,
                norm,
                piece.step,
                *betas,
                eps,
                math.inf if max_norm is None else max_norm,
            )

    def share(self) -> None:
        """Copies the updated pieces to all ranks."""
        self._summed = False
        if self._exchange is None:
            return
        self._exchange.share(self._values)
        self._step.copy_(np.array(self.step_count + 1, np.int64))
        self._values.slice(0, [0]).copy_(np.empty(0, np.float32))  # a new version of the arena
        if self._shadow is not None:
            _core.cast_into(self._values, self._shadow)

    def clear(self) -> None:
        """Clears the sum."""
        if self._summed:
            self._sum().zero_()
            self._summed = False

    def first_bad(self) -> int | None:
        """The first element whose gradient is not finite on any rank."""
        bad = []
        for piece, gradients in zip(self._pieces, self._gradients_of_pieces(), strict=True):
            finite = np.isfinite(gradients.numpy())
            if not finite.all():
                bad.append(piece.begin + int(finite.argmin()))
        return min((place for places in self.ranks.gather(bad) for place in places), default=None)

    def moment(self, kind: str) -> npt.NDArray[np.float32] | None:
        """A moment of all parameters, in the arena's layout. All ranks call it; all but the first get None."""
        own = [piece.moments[kind] for piece in self._pieces]
        return own[0].numpy() if self._exchange is None else self._exchange.collect(own, self._size)

    def put(self, kind: str, first: int, values: npt.NDArray[np.float32]) -> None:
        """Sets the moment of the elements from `first` on, as far as they are owned."""
        for piece in self._pieces:
            begin, end = max(first, piece.begin), min(first + values.size, piece.end)
            if begin < end:
                piece.moments[kind].slice(begin - piece.begin, [end - begin]).copy_(values[begin - first : end - first])

    def put_step(self, count: npt.NDArray[np.int64]) -> None:
        """Sets the number of updates, ()."""
        for step in (self._step, *(piece.step for piece in self._pieces)):
            step.copy_(count)

    def _sum(self) -> _core.Tensor:
        """The sum of the gradients of a step's batches, for this rank's pieces; made at its first use."""
        if self._total is None:
            size = sum(piece.end - piece.begin for piece in self._pieces)
            self._total = _core.Tensor.zeros([size], "float32", self._gradients.device)
        return self._total

    def _gradients_of_pieces(self) -> list[_core.Tensor]:
        """The gradients of each piece."""
        if not self._summed:
            return [self._gradients]
        sizes = [piece.end - piece.begin for piece in self._pieces]
        firsts = [0, *accumulate(sizes)]
        return [self._sum().slice(first, [size]) for first, size in zip(firsts, sizes, strict=False)]


def _on_device(array: npt.NDArray[np.int64] | npt.NDArray[np.float32], device: str) -> _core.Tensor:
    tensor = _core.Tensor.empty(list(array.shape), array.dtype.name, device)
    tensor.copy_(array)
    return tensor
