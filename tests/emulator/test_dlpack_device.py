"""DLPack on a device: values that the other side may read at once, and memory that is given back when no work needs it.

The other library is played by ctypes: the emulator's device memory is the host's.
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


def floats_at(lent):
    """The memory of `lent`, as a NumPy array of float32."""
    size = int(np.prod([lent.shape[axis] for axis in range(lent.ndim)]))
    return np.ctypeslib.as_array(ctypes.cast(lent.data, ctypes.POINTER(ctypes.c_float)), (size,))


def test_a_consumer_reads_what_was_computed_and_keeps_it():
    x = dg.tensor(np.arange(1000, dtype=np.float32), "cuda")
    before = dg.memory_stats("cuda")["allocated"]
    y = x * 2.0
    assert y.__dlpack_device__() == (2, 0)
    capsule = y.__dlpack__(stream=1)
    lent = Lent.from_address(API.PyCapsule_GetPointer(capsule, NAME))
    API.PyCapsule_SetName(capsule, USED)
    assert (lent.device_type, lent.device_id, lent.code, lent.bits) == (2, 0, 2, 32)
    np.testing.assert_array_equal(floats_at(lent), 2 * np.arange(1000))
    del y, capsule
    held = x * 3.0  # would take the block, if it were free
    np.testing.assert_array_equal(floats_at(lent), 2 * np.arange(1000))
    del held
    lent.deleter(ctypes.byref(lent))
    assert dg.memory_stats("cuda")["allocated"] == before


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
