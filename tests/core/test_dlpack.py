"""DLPack: the same memory on both sides, which side may write it, and which keeps it alive."""

import gc
import re
import weakref

import dragoman as dg
import ml_dtypes
import numpy as np
import pytest

pytestmark = pytest.mark.cpu

NUMPY = ["float32", "int32", "int64", "bool", "int8", "uint8"]  # that NumPy knows by DLPack: not bfloat16


@pytest.mark.parametrize("dtype", NUMPY)
@pytest.mark.parametrize("shape", [(2, 3), (), (4, 0, 2), (1, 5, 1)])
def test_numpy_both_ways(dtype, shape):
    array = np.ones(shape, dtype)
    tensor = dg.from_dlpack(array)
    assert (tensor.dtype, tensor.shape, tensor.writeable) == (dtype, shape, True)
    back = np.from_dlpack(tensor)
    assert (back.dtype, back.shape) == (array.dtype, shape)
    assert back.flags.writeable
    if array.size:
        assert tensor.data.data_ptr == array.ctypes.data == back.ctypes.data
        back[...] = 0
        assert not array.any()


class Old:
    """A library older than DLPack 1.0: it has no max_version."""

    def __init__(self, array):
        self.array = array

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __dlpack__(self, stream=None):
        return self.array.__dlpack__()


def test_libraries_from_before_version_one():
    array = np.arange(6, dtype=np.float32)
    tensor = dg.from_dlpack(Old(array))
    assert tensor.data.data_ptr == array.ctypes.data
    back = np.from_dlpack(Old(tensor))
    assert back.ctypes.data == array.ctypes.data
    again = dg.from_dlpack(Old(dg.from_dlpack(Old(tensor))))
    assert again.data.data_ptr == array.ctypes.data


def test_read_only_memory_stays_read_only():
    array = np.ones(4, np.float32)
    array.flags.writeable = False
    for tensor in (dg.tensor(array), dg.from_dlpack(dg.tensor(array))):
        assert not tensor.writeable
        back = np.from_dlpack(tensor)
        assert back.ctypes.data == array.ctypes.data
        assert not back.flags.writeable
        with pytest.raises(ValueError, match="copy_: tensor must be writeable"):
            tensor.copy_(np.zeros(4))
        with pytest.raises(BufferError, match="a read-only tensor needs max_version"):
            tensor.__dlpack__()


def test_a_copy_on_demand():
    array = np.ones(4, np.float32)
    copy = np.from_dlpack(dg.tensor(array), copy=True)
    assert copy.ctypes.data != array.ctypes.data
    np.testing.assert_array_equal(copy, 1)


def test_either_side_keeps_the_memory():
    array = np.arange(1000, dtype=np.float32)
    reference = weakref.ref(array)
    tensor = dg.from_dlpack(array)
    back = np.from_dlpack(tensor)
    del array, tensor
    gc.collect()
    np.testing.assert_array_equal(back, np.arange(1000))
    del back
    gc.collect()
    assert reference() is None
    own = np.from_dlpack(dg.tensor(np.ones(1000, np.float32)) * 2.0)
    gc.collect()
    dg.tensor(np.zeros(1000, np.float32)) * 1.0
    np.testing.assert_array_equal(own, 2)


def test_unused_capsules_free_what_they_hold():
    array = np.ones(4, np.float32)
    reference = weakref.ref(array)
    tensor = dg.tensor(array)
    capsules = [tensor.__dlpack__(), tensor.__dlpack__(max_version=(1, 0))]
    del array, tensor
    gc.collect()
    assert reference() is not None
    capsules.clear()
    gc.collect()
    assert reference() is None


def test_gradients_through_borrowed_memory():
    array = np.ones((2, 3), np.float32)
    tensor = dg.from_dlpack(array)
    tensor.requires_grad = True
    dg.functional.linear(tensor, dg.tensor(np.full((1, 3), 2, np.float32))).reshape(2).reshape(2, 1)
    loss = dg.functional.cross_entropy(tensor, [0, 1])
    loss.backward()
    assert tensor.grad.shape == (2, 3)


class Elsewhere:
    def __init__(self, kind):
        self.kind = kind

    def __dlpack_device__(self):
        return (self.kind, 0)

    def __dlpack__(self, **options):
        raise AssertionError("never asked")


class Used:
    """Returns a capsule that another consumer has taken."""

    def __init__(self, array):
        self.array = array
        self.capsule = array.__dlpack__()
        dg._core.from_dlpack(self.capsule)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __dlpack__(self, **options):
        return self.capsule


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: dg.from_dlpack([1.0]), TypeError, "from_dlpack: x must have __dlpack__ .*got list"),
        (lambda: dg.from_dlpack(None), TypeError, "from_dlpack: x must have __dlpack__ .*got NoneType"),
        (lambda: dg.from_dlpack(np.ones((2, 3), np.float32).T), ValueError, "x must be C-contiguous.*strides"),
        (lambda: dg.from_dlpack(np.ones(6, np.float32)[::2]), ValueError, "x must be C-contiguous"),
        (lambda: dg.from_dlpack(np.ones(3)), TypeError, "x must be float32.*code 2 of 64 bits"),
        (lambda: dg.from_dlpack(np.ones(3, np.complex64)), TypeError, "x must be float32.*code 5 of 64 bits"),
        (lambda: dg.from_dlpack(Elsewhere(10)), ValueError, r"on the CPU or on CUDA, got DLPack device \(10, 0\)"),
        (lambda: dg.from_dlpack(Used(np.ones(3, np.float32))), ValueError, "not used before.*used_dltensor"),
        (lambda: dg.tensor([1.0]).__dlpack__(stream=1), ValueError, "stream must be None for the CPU, got 1"),
        (lambda: dg.tensor([1.0]).__dlpack__(dl_device=(2, 0)), BufferError, r"dl_device must be \(1, 0\)"),
    ],
    ids=range(10),
)
def test_errors_name_the_argument(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.skipif(dg.cuda.is_available(), reason="CUDA is there")
def test_memory_on_a_device_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match=re.escape(dg.cuda.status())):
        dg.from_dlpack(Elsewhere(2))


def test_recording_refuses_to_hand_out_memory():
    x = dg.tensor([1.0])
    recorder = dg._core.Recorder()
    try:
        with pytest.raises(ValueError, match="may not be read while a program is recorded"):
            x.__dlpack__()
    finally:
        recorder.stop()


@pytest.mark.parity
@pytest.mark.parametrize("dtype", [*NUMPY, "bfloat16"])
def test_torch_both_ways(dtype):
    torch = pytest.importorskip("torch", reason="the parity extra is not installed")
    theirs = torch.tensor([[0, 1, 1], [1, 0, 1]], dtype=getattr(torch, dtype))
    ours = dg.from_dlpack(theirs)
    assert (ours.dtype, ours.shape) == (dtype, (2, 3))
    back = torch.from_dlpack(ours)
    assert back.dtype == theirs.dtype
    assert theirs.data_ptr() == ours.data.data_ptr == back.data_ptr()
    back[0, 0] = 1
    assert ours.numpy()[0, 0] == 1
    del theirs
    gc.collect()
    np.testing.assert_array_equal(ours.numpy().astype(np.float32), [[1, 1, 1], [1, 0, 1]])


@pytest.mark.parity
def test_bfloat16_from_ml_dtypes_to_torch():
    torch = pytest.importorskip("torch", reason="the parity extra is not installed")
    values = np.array([1.5, -2.25, 3e38, 1e-40], ml_dtypes.bfloat16)
    theirs = torch.from_dlpack(dg.tensor(values))
    np.testing.assert_array_equal(theirs.float().numpy(), values.astype(np.float32))
