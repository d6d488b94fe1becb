"""DLPack on a device: streams wait for each other's values, and memory is given back when no work needs it.

The other library is played by ctypes, with streams of the emulator, whose device memory is the host's.
"""

import ctypes
import os

import dragoman as dg
import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _on_the_emulator(device):
    if device == "cpu" or "emu" not in os.environ.get("DRAGOMAN_CUDA_LIBRARY", ""):
        pytest.skip("reads device memory from the host")


class Lent(ctypes.Structure):
    """A DLManagedTensor."""


DELETER = ctypes.CFUNCTYPE(None, ctypes.POINTER(Lent))
Lent._fields_ = [
    ("data", ctypes.c_void_p),
    ("device_type", ctypes.c_int32),
    ("device_id", ctypes.c_int32),
    ("ndim", ctypes.c_int32),
    ("code", ctypes.c_uint8),
    ("bits", ctypes.c_uint8),
    ("lanes", ctypes.c_uint16),
    ("shape", ctypes.POINTER(ctypes.c_int64)),
    ("strides", ctypes.POINTER(ctypes.c_int64)),
    ("byte_offset", ctypes.c_uint64),
    ("owner", ctypes.c_void_p),
    ("deleter", DELETER),
]

API = ctypes.pythonapi
API.PyCapsule_GetPointer.restype = ctypes.c_void_p
API.PyCapsule_GetPointer.argtypes = (ctypes.py_object, ctypes.c_char_p)
API.PyCapsule_SetName.argtypes = (ctypes.py_object, ctypes.c_char_p)
API.PyCapsule_New.restype = ctypes.py_object
API.PyCapsule_New.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
NAME, USED = b"dltensor", b"used_dltensor"


class Stream:
    """A stream of the other library."""

    def __init__(self):
        self.library = ctypes.CDLL(os.environ["DRAGOMAN_CUDA_LIBRARY"])
        self.handle = self.create("cudaStreamCreateWithFlags")

    def call(self, name, *arguments):
        assert getattr(self.library, name)(*arguments) == 0, name

    def create(self, name):
        made = ctypes.c_void_p()
        self.call(name, ctypes.byref(made), 0)
        return made

    def fill(self, block, byte, size):
        self.call("cudaMemsetAsync", ctypes.c_void_p(block), byte, ctypes.c_size_t(size), self.handle)

    def read(self, block, count):
        values = np.empty(count, np.float32)
        to = ctypes.c_void_p(values.ctypes.data)
        self.call("cudaMemcpyAsync", to, ctypes.c_void_p(block), ctypes.c_size_t(values.nbytes), 2, self.handle)
        self.call("cudaStreamSynchronize", self.handle)
        return values

    def let_wait(self, stream):
        """What begins in `stream` from now on waits for what is in this one."""
        event = self.create("cudaEventCreateWithFlags")
        self.call("cudaEventRecord", event, self.handle)
        self.call("cudaStreamWaitEvent", ctypes.c_void_p(stream), event, 0)


def floats_at(lent):
    """The memory of `lent`, as a NumPy array of float32."""
    size = int(np.prod([lent.shape[axis] for axis in range(lent.ndim)]))
    return np.ctypeslib.as_array(ctypes.cast(lent.data, ctypes.POINTER(ctypes.c_float)), (size,))


def lend(tensor, **options):
    capsule = tensor.__dlpack__(**options)
    lent = Lent.from_address(API.PyCapsule_GetPointer(capsule, NAME))
    API.PyCapsule_SetName(capsule, USED)
    return lent


def test_a_consumer_reads_what_was_computed_and_keeps_it():
    x = dg.tensor(np.arange(1000, dtype=np.float32), "cuda")
    before = dg.memory_stats("cuda")["allocated"]
    y = x * 2.0
    assert y.__dlpack_device__() == (2, 0)
    stream = Stream()
    lent = lend(y, stream=stream.handle.value)
    assert (lent.device_type, lent.device_id, lent.code, lent.bits) == (2, 0, 2, 32)
    assert (floats_at(lent) != 2 * np.arange(1000)).any()  # nothing has waited for the product
    np.testing.assert_array_equal(stream.read(lent.data, 1000), 2 * np.arange(1000))
    del y
    held = x * 3.0  # would take the block, if it were free
    np.testing.assert_array_equal(stream.read(lent.data, 1000), 2 * np.arange(1000))
    del held
    lent.deleter(ctypes.byref(lent))
    assert dg.memory_stats("cuda")["allocated"] == before


@pytest.mark.parametrize("stream", [None, 1, 2])
def test_the_default_stream_waits(stream):
    y = dg.tensor(np.arange(9, dtype=np.float32), "cuda") + 1.0
    lent = lend(y, stream=stream)
    default = Stream()
    default.handle = ctypes.c_void_p(1)
    np.testing.assert_array_equal(default.read(lent.data, 9), np.arange(1, 10))
    lent.deleter(ctypes.byref(lent))


def test_streams_that_are_none():
    x = dg.tensor(np.arange(9, dtype=np.float32), "cuda")  # kept: where nothing is cached, its end would wait
    y = x + 1.0
    lent = lend(y, stream=-1)
    default = Stream()
    default.handle = ctypes.c_void_p(1)
    assert (default.read(lent.data, 9) != np.arange(1, 10)).any()  # -1: nothing waits
    lent.deleter(ctypes.byref(lent))
    with pytest.raises(ValueError, match="stream must be a CUDA stream, 1 for the default stream, or -1, got 0"):
        y.__dlpack__(stream=0)
    with pytest.raises(ValueError, match="stream must be at least -1, got -2"):
        y.__dlpack__(stream=-2)
    with pytest.raises(TypeError, match="stream must be an int, got str"):
        y.__dlpack__(stream="default")


def test_what_is_borrowed_waits_for_the_producers_stream():
    block = dg.tensor(np.arange(1000, dtype=np.float32), "cuda")
    block.numpy()  # the values have arrived
    own = Stream()

    class Late:
        """Lends `block`, which its stream is still to fill with zeros."""

        def __dlpack_device__(self):
            return (2, 0)

        def __dlpack__(self, *, stream: int, **options):
            capsule = block.__dlpack__(stream=-1)
            own.fill(Lent.from_address(API.PyCapsule_GetPointer(capsule, NAME)).data, 0, 4000)
            own.let_wait(stream)
            return capsule

    borrowed = dg.from_dlpack(Late())
    y = borrowed + 1.0
    np.testing.assert_array_equal(y.numpy(), np.ones(1000))


class Producer:
    """Lends a block of device memory. When it is given back, its values are overwritten."""

    def __init__(self, values):
        self.block = dg.tensor(values, "cuda")  # stands for the other library's memory
        self.block.numpy()  # the values have arrived
        self.capsule = self.block.__dlpack__()
        self.given_back = False
        own = Lent.from_address(API.PyCapsule_GetPointer(self.capsule, NAME))

        @DELETER
        def take_back(lent):
            ctypes.memset(lent.contents.data, 0xFF, 4 * len(values))
            self.given_back = True

        self.lent = Lent.from_buffer_copy(own)
        self.lent.deleter = take_back

    def __dlpack_device__(self):
        return (2, 0)

    def __dlpack__(self, **options):
        return API.PyCapsule_New(ctypes.addressof(self.lent), NAME, None)


def test_borrowed_memory_is_given_back_after_the_work_that_reads_it():
    producer = Producer(np.arange(1000, dtype=np.float32))
    borrowed = dg.from_dlpack(producer)
    assert (borrowed.device, borrowed.shape, borrowed.dtype) == ("cuda", (1000,), "float32")
    y = borrowed * 2.0
    assert not producer.given_back
    del borrowed
    assert producer.given_back
    np.testing.assert_array_equal(y.numpy(), 2 * np.arange(1000))
