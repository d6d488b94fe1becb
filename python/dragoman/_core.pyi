"""The C++ core of dragoman."""

from __future__ import annotations

import collections.abc
import typing

import numpy
import numpy.typing

__all__: list[str] = [
    "AttentionOptions",
    "Dropout",
    "EnsembleSteps",
    "Entry",
    "Generation",
    "Hypothesis",
    "KVCache",
    "OutOfMemoryError",
    "Program",
    "PythonSteps",
    "Recorder",
    "Rehearsal",
    "ReplayedSteps",
    "SearchOptions",
    "Sequences",
    "StepPrograms",
    "Steps",
    "Tensor",
    "accumulate",
    "activation_backward",
    "activation_forward",
    "adamw_step",
    "attention_backward",
    "attention_forward",
    "binary_backward",
    "binary_forward",
    "cast",
    "check_device",
    "concat_forward",
    "cpu_count",
    "cpu_isa",
    "cpu_isas",
    "cross_entropy_forward",
    "dlpack_device",
    "dlpack_stream",
    "dropout_backward",
    "dropout_forward",
    "embedding_backward",
    "embedding_forward",
    "empty_cache",
    "from_dlpack",
    "frozen_embedding",
    "frozen_linear",
    "gate_backward",
    "gate_forward",
    "gather_backward",
    "gather_forward",
    "gradient_norm",
    "is_recording",
    "kv_cache_append",
    "kv_cache_extend",
    "kv_cache_join",
    "kv_cache_memory",
    "kv_cache_reorder",
    "kv_cache_set_memory",
    "kv_cache_sources",
    "kv_cache_starts",
    "layer_norm_backward",
    "layer_norm_forward",
    "linear_backward",
    "linear_cross_entropy_forward",
    "linear_forward",
    "matmul",
    "memory_stats",
    "moving_average",
    "normalised_score",
    "num_threads",
    "pack_rows",
    "pack_weight",
    "packed_weight_size",
    "pool_backward",
    "pool_forward",
    "quantize_rows",
    "read_floats",
    "reduce_backward",
    "reduce_forward",
    "reset_peak_memory_stats",
    "reshape",
    "residual_forward",
    "residual_norm_backward",
    "residual_norm_forward",
    "rms_norm_backward",
    "rms_norm_forward",
    "rotary",
    "scale_by",
    "set_num_threads",
    "slice_backward",
    "slice_forward",
    "softmax_backward",
    "softmax_forward",
    "square_sums",
    "startable_threads",
    "test_device_counts",
    "test_device_fail_allocation",
    "test_device_fail_kernel",
    "to",
    "to_dlpack",
    "top_k",
    "transpose",
    "unary_backward",
    "unary_forward",
    "unpack_weight",
]

class Tensor:
    """
    A contiguous array in the core's memory or borrowed from NumPy.
    """
    @staticmethod
    def empty(shape: collections.abc.Sequence[int], dtype: str = "float32", device: str = "cpu") -> Tensor: ...
    @staticmethod
    def from_numpy(array: numpy.typing.NDArray[typing.Any], dtype: str) -> Tensor: ...
    @staticmethod
    def zeros(shape: collections.abc.Sequence[int], dtype: str = "float32", device: str = "cpu") -> Tensor: ...
    def clone(self) -> Tensor: ...
    def copy_(self, array: numpy.typing.NDArray[typing.Any]) -> None: ...
    def narrow(self, begin: int, size: int) -> Tensor: ...
    def numpy(self) -> numpy.typing.NDArray[typing.Any]:
        """
        A read-only view on the CPU, a copy from another device; bfloat16 as uint16.
        """
    def slice(self, first: int, shape: collections.abc.Sequence[int]) -> Tensor: ...
    def zero_(self) -> None: ...
    @property
    def data_ptr(self) -> int: ...
    @property
    def device(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def numel(self) -> int: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def version(self) -> int:
        """
        Changes with copy_, zero_ and an optimizer's step, on any tensor over this memory; 0 where others may write.
        """
    @property
    def writeable(self) -> bool: ...

class OutOfMemoryError(MemoryError):
    pass

class Sequences:
    """
    Where each sequence of a ragged batch begins and how long it is.

    dragoman/sequences.py adds __init__, __reduce__, from_padded, to_padded and mask.
    """

    __hash__: typing.ClassVar[None]  # type: ignore[assignment]
    @staticmethod
    def from_padded(
        array: numpy.typing.ArrayLike,
        lengths: numpy.typing.ArrayLike | None = None,
        *,
        mask: numpy.typing.ArrayLike | None = None,
    ) -> tuple[typing.Any, Sequences]: ...  # of a dragoman.Tensor, which the core does not know
    @staticmethod
    def slotted(lengths: collections.abc.Sequence[int], slot: int) -> Sequences: ...
    def __eq__(self, other: object) -> bool: ...
    def __init__(
        self, lengths: numpy.typing.ArrayLike, capacity: int | None = None, *, max_length: int | None = None
    ) -> None: ...
    def __len__(self) -> int: ...
    def __reduce__(self) -> tuple[typing.Any, ...]: ...
    def __repr__(self) -> str: ...
    def mask(self) -> numpy.typing.NDArray[numpy.bool_]: ...
    def select(self, indices: collections.abc.Sequence[int]) -> Sequences: ...
    def to_padded(self, rows: numpy.typing.ArrayLike, fill: float = 0) -> numpy.typing.NDArray[typing.Any]: ...
    @property
    def capacity(self) -> int: ...
    @property
    def index(self) -> Tensor | None: ...
    @property
    def lengths(self) -> list[int]: ...
    @property
    def max_length(self) -> int: ...
    @property
    def offsets(self) -> Tensor: ...
    @property
    def packed(self) -> bool: ...
    @property
    def tokens(self) -> int: ...

class Rehearsal:
    """
    From construction to stop(), this thread's ops take memory that is counted apart and do no work.
    """
    def __init__(self) -> None: ...
    def memory_stats(self) -> dict[str, int]: ...
    def stop(self) -> None: ...

class Dropout:
    """
    The mask of one dropout: its rate and its place in the stream of random bits.
    """
    def __init__(
        self, p: float = 0.0, seed: int = 0, step: int = 0, id: int = 0, step_at: Tensor | None = None
    ) -> None: ...
    @property
    def id(self) -> int: ...
    @property
    def scale(self) -> float: ...
    @property
    def seed(self) -> int: ...
    @property
    def step(self) -> int: ...
    @property
    def threshold(self) -> int: ...

class AttentionOptions:
    """
    What an attention computes beside its tensors.
    """
    def __init__(
        self,
        *,
        causal: bool = False,
        window: int | None = None,
        query_offset: int | None = None,
        scale: float | None = None,
        score_cap: float | None = None,
        num_heads: int | None = None,
        bias: str = "none",
        bidirectional: bool = True,
        max_distance: int = 128,
        dropout: Dropout = ...,
        return_weights: bool = False,
    ) -> None: ...

class KVCache:
    """
    Keys and values of past tokens and of the memory, for every attention of a decoder.
    """
    def __init__(self, num_sequences: int, dtype: str = "float32") -> None: ...
    def has_memory(self, attention: int) -> bool: ...
    @property
    def has_sources(self) -> bool: ...
    @property
    def lengths(self) -> list[int]: ...

_Value: typing.TypeAlias = (
    Tensor
    | Sequences
    | KVCache
    | Dropout
    | AttentionOptions
    | bool
    | int
    | float
    | str
    | collections.abc.Sequence[int]
    | None
)

class Program:
    """
    Recorded op calls, replayed on other inputs.
    """
    def check_same(self, other: Program) -> None: ...
    def replay(self, inputs: collections.abc.Sequence[_Value]) -> list[_Value]: ...
    @property
    def op_names(self) -> list[str]: ...

class Recorder:
    """
    Writes down this thread's op calls from construction to finish() or stop().
    """
    def __init__(self, frozen: bool = False) -> None: ...
    def finish(
        self, inputs: collections.abc.Sequence[_Value], outputs: collections.abc.Sequence[_Value]
    ) -> Program: ...
    def stop(self) -> None: ...

class Entry:
    """
    What a request brings: source ids or a memory, and the ids that the decoder reads first.
    """
    def __init__(self, source: collections.abc.Sequence[int], prefix: collections.abc.Sequence[int]) -> None: ...
    @property
    def memory(self) -> Tensor | None: ...
    @property
    def place(self) -> int: ...
    @property
    def prefix(self) -> list[int]: ...
    @property
    def source(self) -> list[int]: ...

class Steps:
    """
    What a search asks of a model: rows of logits.
    """
    def add(self, entries: collections.abc.Sequence[Entry]) -> Tensor: ...
    def attention(self) -> list[list[float]]: ...
    def keep_attention(self, kept: bool) -> None: ...
    def narrow(self, tokens: collections.abc.Sequence[int]) -> None: ...
    def next(self, ids: collections.abc.Sequence[int], parents: collections.abc.Sequence[int]) -> Tensor: ...

class StepPrograms:
    """
    A model's recorded steps, for sources and texts up to some length.
    """
    def __init__(
        self,
        first: Program,
        step: Program,
        reads_source: bool,
        longest_source: int,
        longest: int,
        keeps_attention: bool,
        cache_dtype: str,
        tokens: collections.abc.Sequence[int],
        vocabulary: int,
    ) -> None: ...
    @property
    def longest(self) -> int: ...
    @property
    def longest_source(self) -> int: ...

class ReplayedSteps(Steps):
    """
    Steps of recorded Programs and a cache.
    """
    def __init__(
        self, programs: StepPrograms, renew: collections.abc.Callable[[int, int, bool, list[int]], StepPrograms]
    ) -> None: ...

class PythonSteps(Steps):
    """
    Steps that a Python object makes.
    """
    def __init__(self, steps: typing.Any) -> None: ...

class EnsembleSteps(Steps):
    """
    Several models that decode as one.
    """
    def __init__(self, models: collections.abc.Sequence[Steps]) -> None: ...

class SearchOptions:
    """
    What a request asks of a search.
    """
    def __init__(
        self,
        *,
        beam: int,
        count: int,
        limit: int,
        min_length: int,
        length_penalty: float,
        coverage_penalty: float,
        like: str,
        early_stopping: str,
        temperature: float,
        top_k: int,
        top_p: float,
        min_p: float,
        seed: int,
        place: int,
        prefix: collections.abc.Sequence[int],
        forced_last: int | None,
        unwritten: collections.abc.Sequence[int],
        suppress: collections.abc.Sequence[int],
        begin_suppress: collections.abc.Sequence[int],
        allowed: collections.abc.Sequence[int],
        bad_words: collections.abc.Sequence[collections.abc.Sequence[int]],
        no_repeat_ngram: int,
        repetition_penalty: float,
        renormalize: bool,
        constraints: collections.abc.Sequence[collections.abc.Sequence[int]],
    ) -> None: ...

class Hypothesis:
    """
    One output.
    """
    @property
    def ids(self) -> list[int]: ...
    @property
    def length(self) -> int: ...
    @property
    def score(self) -> float: ...
    @property
    def sum_logprob(self) -> float: ...
    @property
    def token_logprobs(self) -> list[float]: ...

class Generation:
    """
    Many requests side by side, stepped together.
    """
    def __init__(
        self,
        steps: Steps,
        vocabulary: int,
        ends: collections.abc.Sequence[int],
    ) -> None: ...
    def add(
        self,
        source: collections.abc.Sequence[int],
        prefix: collections.abc.Sequence[int],
        options: SearchOptions,
        memory: Tensor | None = None,
    ) -> int: ...
    def cancel(self, key: int) -> None: ...
    def stable(self, key: int) -> list[int]: ...
    def step(self) -> list[int]: ...
    def take(self, key: int) -> list[Hypothesis]: ...
    @property
    def pending(self) -> int: ...
    @property
    def rows(self) -> int: ...

def accumulate(y: Tensor, x: Tensor, factor: float, accumulate: bool) -> None: ...
def activation_backward(dy: Tensor, x: Tensor, activation: str, sequences: Sequences | None) -> Tensor: ...
def activation_forward(x: Tensor, activation: str, sequences: Sequences | None) -> Tensor: ...
def adamw_step(
    parameters: Tensor,
    gradients: Tensor,
    mean: Tensor,
    variance: Tensor,
    shadow: Tensor | None,
    bounds: Tensor,
    lr_scale: Tensor,
    weight_decay: Tensor,
    lr: Tensor,
    norm: Tensor,
    step: Tensor,
    beta1: float,
    beta2: float,
    eps: float,
    max_norm: float,
) -> None: ...
def attention_backward(
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    logsumexp: Tensor,
    q_sequences: Sequences,
    k_sequences: Sequences,
    options: AttentionOptions,
    bias: Tensor | None = None,
    relative_keys: Tensor | None = None,
    relative_values: Tensor | None = None,
    dbias: Tensor | None = None,
    accumulate_bias: bool = False,
    drelative_keys: Tensor | None = None,
    accumulate_keys: bool = False,
    drelative_values: Tensor | None = None,
    accumulate_values: bool = False,
) -> tuple[Tensor, Tensor, Tensor]: ...
def attention_forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_sequences: Sequences,
    k_sequences: Sequences,
    options: AttentionOptions,
    bias: Tensor | None = None,
    relative_keys: Tensor | None = None,
    relative_values: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]: ...
def binary_backward(
    kind: str,
    of_b: bool,
    dy: Tensor,
    a: Tensor | None,
    b: Tensor | None,
    number: float,
    shape: collections.abc.Sequence[int],
    dtype: str,
) -> Tensor: ...
def binary_forward(kind: str, a: Tensor | None, b: Tensor | None, number: float = 0.0) -> Tensor: ...
def cast(x: Tensor, dtype: str) -> Tensor: ...
def cast_into(x: Tensor, y: Tensor) -> None: ...
def check_device(op: str, device: str) -> None:
    """
    ValueError, in the name of `op`, unless tensors can lie on this device.
    """

def concat_forward(a: Tensor, b: Tensor, c: Tensor | None, d: Tensor | None, axis: int) -> Tensor: ...
def cpu_count(root: str = "/") -> int:
    """
    CPUs this process may keep busy, by its affinity and its control groups.
    """

def cpu_isa() -> str:
    """
    The CPU instruction-set variant in use.
    """

def cpu_isas() -> list[str]:
    """
    The variants this machine runs, best last.
    """

def cross_entropy_forward(
    logits: Tensor,
    ids: Tensor,
    smoothing: float,
    num_targets: int | None,
    need_dlogits: bool,
    sequences: Sequences | None,
) -> tuple[Tensor, Tensor, Tensor | None]: ...
def dlpack_device(tensor: Tensor) -> tuple[int, int]:
    """
    What DLPack calls the tensor's device: its type and its index.
    """

def dlpack_stream(type: int, index: int) -> int:
    """
    The stream in which work on this device of DLPack runs, 0 without streams. ValueError unless tensors can lie there.
    """

def dropout_backward(dy: Tensor, dropout: Dropout, sequences: Sequences | None) -> Tensor: ...
def dropout_forward(x: Tensor, dropout: Dropout, sequences: Sequences | None) -> Tensor: ...
def embedding_backward(
    dy: Tensor,
    ids: Tensor,
    starts: Tensor | None,
    scale: float,
    dropout: Dropout,
    sequences: Sequences,
    dweight: Tensor | None,
    accumulate_weight: bool,
    dpositions: Tensor | None,
    accumulate_positions: bool,
) -> None: ...
def embedding_forward(
    ids: Tensor,
    weight: Tensor,
    positions: Tensor | None,
    starts: Tensor | None,
    scale: float,
    dropout: Dropout,
    sequences: Sequences,
    dtype: str,
) -> Tensor: ...
def empty_cache(device: str = "cpu") -> None:
    """
    Returns cached blocks of memory to the system.
    """

def exchange_done(number: int) -> bool:
    """
    Whether the groups up to this one have ended.
    """

def exchange_id() -> bytes:
    """
    An identity by which processes join. One of them makes it.
    """

def exchange_ready() -> bool:
    """
    Whether all have joined, and the device has the group that was started last.
    """

def exchange_version() -> str:
    """
    The version of NCCL that was found.
    """

def from_dlpack(capsule: typing.Any) -> Tensor:
    """
    A Tensor over the memory of a DLPack capsule.
    """

def frozen_embedding(
    ids: Tensor,
    packed: Tensor,
    dtype: str,
    shape: collections.abc.Sequence[int],
    scales: Tensor | None,
    positions: Tensor | None,
    starts: Tensor | None,
    scale: float,
    sequences: Sequences,
) -> Tensor: ...
def frozen_linear(
    x: Tensor,
    packed: Tensor,
    dtype: str,
    shape: collections.abc.Sequence[int],
    scales: Tensor | None,
    bias: Tensor | None,
    activation: str,
    sequences: Sequences | None,
) -> Tensor: ...
def gate_backward(
    dy: Tensor, a: Tensor, b: Tensor, activation: str, dropout: Dropout, sequences: Sequences | None
) -> tuple[Tensor, Tensor]: ...
def gate_forward(a: Tensor, b: Tensor, activation: str, dropout: Dropout, sequences: Sequences | None) -> Tensor: ...
def gather_backward(dy: Tensor, ids: Tensor, shape: collections.abc.Sequence[int]) -> Tensor: ...
def gather_forward(x: Tensor, ids: Tensor) -> Tensor: ...
def gradient_norm(gradients: Tensor) -> Tensor: ...
def is_recording() -> bool: ...
def join_exchange(id: bytes, rank: int, size: int) -> None:
    """
    Begins to join the other processes, each of which has a GPU of its own.
    """

def kv_cache_append(
    cache: KVCache, attention: int, k: Tensor, v: Tensor, new_sequences: Sequences
) -> tuple[Tensor, Tensor, Sequences]: ...
def kv_cache_extend(cache: KVCache, new_sequences: Sequences) -> None: ...
def kv_cache_join(cache: KVCache, other: KVCache) -> None: ...
def kv_cache_memory(cache: KVCache, attention: int) -> tuple[Tensor, Tensor]: ...
def kv_cache_reorder(cache: KVCache, indices: Tensor) -> None: ...
def kv_cache_set_memory(cache: KVCache, attention: int, k: Tensor, v: Tensor) -> None: ...
def kv_cache_sources(cache: KVCache, sequences: Sequences | None = None) -> Sequences: ...
def kv_cache_starts(cache: KVCache, new_sequences: Sequences | None = None) -> Tensor: ...
def layer_norm_backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    mean: Tensor,
    rstd: Tensor,
    dweight: Tensor | None,
    accumulate_weight: bool,
    dbias: Tensor | None,
    accumulate_bias: bool,
    sequences: Sequences | None,
) -> Tensor: ...
def layer_norm_forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, sequences: Sequences | None
) -> tuple[Tensor, Tensor, Tensor]: ...
def leave_exchange() -> None:
    """
    Ends what is under way.
    """

def linear_backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    saved: Tensor | None,
    activation: str,
    dropout: Dropout,
    need_dx: bool,
    dweight: Tensor | None,
    accumulate_weight: bool,
    dbias: Tensor | None,
    accumulate_bias: bool,
    sequences: Sequences | None,
) -> Tensor | None: ...
def linear_cross_entropy_forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    ids: Tensor,
    smoothing: float,
    num_targets: int | None,
    need_dx: bool,
    need_dweight: bool,
    need_dbias: bool,
    sequences: Sequences | None,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]: ...
def linear_forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str,
    dropout: Dropout,
    sequences: Sequences | None,
    packed: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]: ...
def matmul(a: Tensor, b: Tensor, transpose_a: bool, transpose_b: bool, dtype: str) -> Tensor: ...
def memory_stats(device: str = "cpu") -> dict[str, int]:
    """
    Bytes of tensors on a device: allocated, reserved (in use or cached) and peak_allocated (since the last reset).
    """

def moving_average(average: Tensor, x: Tensor, gain: float) -> None: ...
def normalised_score(like: str, log_prob: float, length: int, length_penalty: float) -> float: ...
def norm_of_sums(sums: collections.abc.Sequence[float], device: str) -> Tensor: ...
def num_threads() -> int:
    """
    Threads that an op of the calling thread uses at most.
    """

def pack_rows(rows: Tensor, first: int, shape: collections.abc.Sequence[int], packed: Tensor) -> None: ...
def pack_weight(weight: Tensor, out: Tensor | None = None) -> Tensor | None: ...
def packed_weight_size(shape: collections.abc.Sequence[int], dtype: str, device: str = "cpu") -> int: ...
def pool_backward(kind: str, dy: Tensor, places: Tensor | None, sequences: Sequences) -> Tensor: ...
def pool_forward(kind: str, x: Tensor, sequences: Sequences) -> tuple[Tensor, Tensor | None]: ...
def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]: ...
def read_floats(descriptor: int, place: int, dtype: str, out: Tensor) -> bool:
    """
    Fills a float32 tensor on the CPU from an open file; False where the file ends before.
    """

def reduce_backward(kind: str, dy: Tensor, shape: collections.abc.Sequence[int], axis: int | None) -> Tensor: ...
def reduce_forward(kind: str, x: Tensor, axis: int | None, keepdims: bool) -> Tensor: ...
def reset_peak_memory_stats(device: str = "cpu") -> None:
    """
    Sets peak_allocated of memory_stats to what is allocated now.
    """

def reshape(x: Tensor, shape: collections.abc.Sequence[int]) -> Tensor: ...
def residual_forward(x: Tensor, residual: Tensor, dropout: Dropout, sequences: Sequences | None) -> Tensor: ...
def residual_norm_backward(
    dy: Tensor,
    sum: Tensor,
    weight: Tensor,
    mean: Tensor | None,
    rstd: Tensor,
    dropout: Dropout,
    dweight: Tensor | None,
    accumulate_weight: bool,
    dbias: Tensor | None,
    accumulate_bias: bool,
    sequences: Sequences | None,
) -> tuple[Tensor, Tensor]: ...
def residual_norm_forward(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    dropout: Dropout,
    eps: float,
    centred: bool,
    sequences: Sequences | None,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]: ...
def rms_norm_backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    rstd: Tensor,
    dweight: Tensor | None,
    accumulate_weight: bool,
    sequences: Sequences | None,
) -> Tensor: ...
def rms_norm_forward(x: Tensor, weight: Tensor, eps: float, sequences: Sequences | None) -> tuple[Tensor, Tensor]: ...
def rotary(
    x: Tensor, table: Tensor, starts: Tensor | None, head_dim: int, inverse: bool, sequences: Sequences
) -> Tensor: ...
def scale_by(y: Tensor, factor: Tensor) -> None: ...
def set_num_threads(n: int) -> None: ...
def slice_backward(dy: Tensor, shape: collections.abc.Sequence[int], axis: int, begin: int) -> Tensor: ...
def slice_forward(x: Tensor, axis: int, begin: int, end: int) -> Tensor: ...
def softmax_backward(dy: Tensor, y: Tensor) -> Tensor: ...
def softmax_forward(x: Tensor) -> Tensor: ...
def square_sums(gradients: Tensor) -> list[float]: ...
def start_exchange(
    sends: collections.abc.Sequence[tuple[int, Tensor]], receives: collections.abc.Sequence[tuple[int, Tensor]]
) -> int:
    """
    Starts a group of sends and receives, each the other process's rank and a float32 tensor; its number.
    """

def startable_threads(n: int) -> int: ...
def test_device_counts() -> dict[str, int]:
    """
    Calls that the device test has served.
    """

def test_device_fail_allocation(k: int) -> None:
    """
    The k-th allocation on the device test from now on fails, once; 0: none.
    """

def test_device_fail_kernel(name: str) -> None:
    """
    The next call of this kernel on the device test fails, once; "": none.
    """

def to(x: Tensor, device: str) -> Tensor: ...
def to_dlpack(tensor: Tensor, versioned: bool, stream: int | None) -> typing.Any:
    """
    A DLPack capsule that shares the tensor's memory. What begins in `stream` later waits for its values.
    """

def top_k(logits: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]: ...
def transpose(x: Tensor) -> Tensor: ...
def unary_backward(kind: str, dy: Tensor, saved: Tensor) -> Tensor: ...
def unary_forward(kind: str, x: Tensor) -> Tensor: ...
def unpack_weight(packed: Tensor, dtype: str, shape: collections.abc.Sequence[int]) -> Tensor: ...
