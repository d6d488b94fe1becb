"""KVCache: what a decoder remembers between steps."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from dragoman import _core, arguments
from dragoman._core import Sequences
from dragoman.functional.operands import ACTIVATION_DTYPES, Ids, int32_ids
from dragoman.tensor import Tensor, check_sequences, check_tensors


class KVCache:
    """Keys and values of the tokens decoded so far, and of the memory, for every attention of a decoder.

    Each sequence owns a slot of rows in every buffer. A decoder calls `extend` once a step; its attentions
    call `append` (for decoded tokens) or `memory` (for the encoder's output, projected once and shared).
    The calls are ops: a recorded decoding step takes the cache as an input and can be replayed on another one.

    The cache numbers its attentions in the order of their first use. So a Program is replayed on caches that the same
    model fills.

    Args:
        num_sequences: how many sequences are decoded side by side.
        dtype: "bfloat16" rounds float32 rows to bfloat16 when they come, for half the memory; attention computes with
            them in float32. On CUDA they stay float32.

    Attributes:
        data: the core's cache.

    Raises:
        TypeError, ValueError: `num_sequences` is not an int, or negative; another dtype.
    """

    def __init__(self, num_sequences: int, dtype: str = "float32") -> None:
        num_sequences = arguments.integer("KVCache", "num_sequences", num_sequences)
        self.data = _core.KVCache(num_sequences, arguments.choice("KVCache", "dtype", dtype, ACTIVATION_DTYPES))
        self._numbers: dict[Hashable, int] = {}

    @property
    def lengths(self) -> list[int]:
        """Tokens so far of each sequence."""
        return self.data.lengths

    def starts(self, new: Sequences | None = None) -> Tensor:
        """int32 (sequences,): the position of the next token of each sequence, or of the first of the rows of `new`,
        which `extend` has counted."""
        if new is not None:
            check_sequences("KVCache", new=new)
        return Tensor(_core.kv_cache_starts(self.data, new))

    def extend(self, new: Sequences) -> None:
        """Makes room for the rows of `new`, a packed batch of as many sequences, and counts them.

        Raises:
            TypeError, ValueError: `new` is no Sequences, not packed, or has another number of sequences.
        """
        check_sequences("KVCache", new=new)
        _core.kv_cache_extend(self.data, new)

    def append(self, key: Hashable, k: Tensor, v: Tensor, new: Sequences) -> tuple[Tensor, Tensor, Sequences]:
        """Stores the rows that `extend` counted.

        Args:
            key: which attention they belong to.
            k, v: (rows of `new`, features) float32 or bfloat16, of the dtype and features of the first rows that came.

        Returns:
            All keys and all values so far, (rows, features), and where each sequence lies in them.

        Raises:
            TypeError, ValueError: another dtype or shape, or rows that `extend` has not counted.
        """
        check_tensors("KVCache", k=k, v=v)
        check_sequences("KVCache", new=new)
        keys, values, sequences = _core.kv_cache_append(self.data, self._number(key), k.data, v.data, new)
        return Tensor(keys), Tensor(values), sequences

    def memory(self, key: Hashable, project: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """The memory's keys and values for the attention `key`, each (tokens of the memory, features).

        `project()` computes them the first time; later calls return the same, in the cache's dtype.
        """
        arguments.check_callable("KVCache", project=project)
        number = self._number(key)
        if not self.data.has_memory(number):
            k, v = project()
            _core.kv_cache_set_memory(self.data, number, k.data, v.data)
        keys, values = _core.kv_cache_memory(self.data, number)
        return Tensor(keys), Tensor(values)

    def sources(self, sequences: Sequences) -> Sequences:
        """Where the memory of each sequence lies in what `memory` returns.

        Args:
            sequences: of the memory, one for each sequence of the cache. They are kept the first time; later ones are
                not read: a sequence keeps its memory in `reorder` and `join`.

        Raises:
            TypeError, ValueError: no Sequences, or another number of them.
        """
        check_sequences("KVCache", sequences=sequences)
        if len(sequences) != len(self.lengths):
            raise ValueError(f"KVCache: sequences must hold {len(self.lengths)}, as the cache, got {len(sequences)}")
        return _core.kv_cache_sources(self.data, None if self.data.has_sources else sequences)

    def join(self, other: KVCache) -> None:
        """The sequences of `other` come after those of this cache; `other` is empty afterwards.

        Memory that no sequence reads any more is freed, so rows of the memory may lie elsewhere: see `sources`.

        Args:
            other: filled by the same model.

        Raises:
            TypeError, ValueError: no KVCache, this one, or one that another model has filled.
        """
        arguments.check_types("KVCache", KVCache, other=other)
        _core.kv_cache_join(self.data, other.data)
        self._numbers = self._numbers or dict(other._numbers)

    def reorder(self, indices: Ids) -> None:
        """Sequence i becomes a copy of what sequence indices[i] was; their number may change.

        Raises:
            TypeError, ValueError: `indices` are not (new number of sequences,) ints in [0, number of sequences).
        """
        _core.kv_cache_reorder(self.data, int32_ids("KVCache", "indices", indices))

    def _number(self, key: Hashable) -> int:
        arguments.check_types("KVCache", Hashable, key=key)
        return self._numbers.setdefault(key, len(self._numbers))


def cache_dtype(model: Any) -> str:
    """The dtype of the keys and values that a search keeps: bfloat16 for a model frozen in int8 or bfloat16."""
    return "bfloat16" if getattr(model, "frozen", None) in ("int8", "bfloat16") else "float32"
