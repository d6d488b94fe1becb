"""KVCache: what a decoder remembers between steps."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import numpy as np
import numpy.typing as npt

from dragoman import _core, arguments
from dragoman._core import Sequences
from dragoman.tensor import Tensor, check_sequences, check_tensors

_FIRST_SLOT = 32  # rows a sequence has room for at first; doubled whenever one is full


class KVCache:
    """Keys and values of the tokens decoded so far, and of the memory, for every attention of a decoder.

    Each sequence owns a slot of rows in every buffer. A decoder calls `extend` once a step; its attentions
    call `append` (for decoded tokens) or `memory` (for the encoder's output, projected once and shared).

    Args:
        num_sequences: how many sequences are decoded side by side.

    Attributes:
        lengths: tokens so far of each sequence.
    """

    def __init__(self, num_sequences: int) -> None:
        self.lengths = [0] * arguments.integer("KVCache", "num_sequences", num_sequences)
        self._slot = _FIRST_SLOT
        self._sequences = Sequences.slotted(self.lengths, self._slot)
        self._buffers: dict[Hashable, tuple[_core.Tensor, _core.Tensor]] = {}
        self._memory: dict[Hashable, tuple[Tensor, Tensor]] = {}

    def starts(self) -> npt.NDArray[np.int32]:
        """(sequences,) the position of the next token of each sequence."""
        return np.array(self.lengths, np.int32)

    def extend(self, new: Sequences) -> None:
        """Makes room for the rows of `new`, a packed batch of as many sequences, and counts them."""
        check_sequences("KVCache", new=new)
        if len(new) != len(self.lengths):
            raise ValueError(f"KVCache: new must have {len(self.lengths)} sequences, got {len(new)}")
        self.lengths = [length + more for length, more in zip(self.lengths, new.lengths, strict=True)]
        slot = self._slot
        while slot < max(self.lengths, default=0):
            slot *= 2
        if slot > self._slot:
            self._buffers = {key: (self._grown(k, slot), self._grown(v, slot)) for key, (k, v) in self._buffers.items()}
            self._slot = slot
        self._sequences = Sequences.slotted(self.lengths, slot)

    def append(self, key: Hashable, k: Tensor, v: Tensor, new: Sequences) -> tuple[Tensor, Tensor, Sequences]:
        """Stores the rows that `extend` counted.

        Args:
            key: which attention they belong to.
            k, v: (rows of `new`, features), the same for k and v.

        Returns:
            All keys and all values so far, (rows, features), and where each sequence lies in them.
        """
        check_tensors("KVCache", k=k, v=v)
        check_sequences("KVCache", new=new)
        for name, x in (("k", k), ("v", v)):
            if x.dtype != "float32":
                raise TypeError(f"KVCache: {name} must be float32, got {x.dtype}")
            if len(x.shape) != 2 or x.shape[0] != new.capacity or x.shape != k.shape:
                expected = f"({new.capacity}, features), the same for k and v"
                raise ValueError(f"KVCache: {name} must have shape {expected}, got {x.shape}")
        if key not in self._buffers:
            shape = [self._sequences.capacity, k.shape[1]]
            self._buffers[key] = _core.Tensor.empty(shape), _core.Tensor.empty(shape)
        for buffer, x in zip(self._buffers[key], (k, v), strict=True):
            _core.kv_cache_append(buffer, x.data, new, self._sequences)
        keys, values = map(Tensor, self._buffers[key])
        return keys, values, self._sequences

    def memory(self, key: Hashable, project: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """The memory's keys and values for the attention `key`: `project()`, called the first time only."""
        if key not in self._memory:
            self._memory[key] = project()
        return self._memory[key]

    def reorder(self, indices: list[int]) -> None:
        """Sequence i becomes a copy of what sequence indices[i] was; their number may change."""
        indices = arguments.integers("KVCache", "indices", indices)
        if max(indices, default=0) >= len(self.lengths):
            raise ValueError(f"KVCache: indices must lie in [0, {len(self.lengths)}), got {max(indices)}")
        index = _core.Tensor.from_numpy(np.array(indices, np.int32), "int32")
        self._buffers = {
            key: (_core.kv_cache_reorder(k, index, self._slot), _core.kv_cache_reorder(v, index, self._slot))
            for key, (k, v) in self._buffers.items()
        }
        self.lengths = [self.lengths[i] for i in indices]
        self._sequences = Sequences.slotted(self.lengths, self._slot)

    def _grown(self, buffer: _core.Tensor, slot: int) -> _core.Tensor:
        """The same rows in larger slots: the old slots, whole, are appended to empty new ones."""
        old = [self._slot] * len(self.lengths)
        grown = _core.Tensor.empty([len(old) * slot, buffer.shape[1]])
        _core.kv_cache_append(grown, buffer, Sequences(old), Sequences.slotted(old, slot))
        return grown
