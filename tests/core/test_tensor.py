"""Tensor: memory shared with NumPy, dtypes, and the caching allocator."""

import gc
import resource
import sys
from pathlib import Path

import dragoman as dg
import ml_dtypes
import numpy as np
import pytest
from dragoman import _core

DTYPES = {
    "float32": np.float32,
    "bfloat16": ml_dtypes.bfloat16,
    "int32": np.int32,
    "int64": np.int64,
    "bool": np.bool_,
    "int8": np.int8,
    "uint8": np.uint8,
}


@pytest.mark.cpu
@pytest.mark.parametrize("name", DTYPES)
def test_shares_numpys_memory_both_ways(name):
    array = np.array([[0, 1, 1], [1, 0, 1]]).astype(DTYPES[name])
    tensor = dg.tensor(array)
    assert (tensor.dtype, tensor.shape, tensor.device) == (name, (2, 3), "cpu")
    assert tensor.data.data_ptr == array.ctypes.data
    view = np.asarray(tensor)
    assert view.dtype == array.dtype
    assert view.ctypes.data == array.ctypes.data
    assert not view.flags.writeable
    np.testing.assert_array_equal(view, array)
    array[0, 0] = 1
    assert tensor.numpy()[0, 0] == 1


@pytest.mark.cpu
def test_borrowed_memory_outlives_its_python_names():
    array = np.arange(1000, dtype=np.float32)
    references = sys.getrefcount(array)
    tensor = dg.tensor(array)
    view = tensor.numpy()
    assert sys.getrefcount(array) > references
    expected = array.copy()
    del tensor
    gc.collect()
    np.testing.assert_array_equal(view, expected)
    del view
    gc.collect()
    assert sys.getrefcount(array) == references


def test_own_memory_outlives_its_tensor():
    view = (dg.tensor(np.ones(1000, np.float32)) * 2.0).numpy()
    gc.collect()
    dg.tensor(np.zeros(1000, np.float32)) * 1.0
    np.testing.assert_array_equal(view, 2)


def test_conversions():
    assert dg.tensor([1.5, 2]).dtype == "float32"
    assert dg.tensor(np.float64(3)).shape == ()
    half = dg.tensor([1, 2.5], dtype="bfloat16")
    np.testing.assert_array_equal(np.asarray(half).astype(np.float32), [1, 2.5])
    transposed = dg.tensor(np.arange(6, dtype=np.float32).reshape(2, 3).T)
    np.testing.assert_array_equal(transposed.numpy(), [[0, 3], [1, 4], [2, 5]])
    np.testing.assert_array_equal(dg.tensor(np.arange(3, dtype=">i4")).numpy(), [0, 1, 2])
    unaligned = np.frombuffer(b"x" + np.arange(3, dtype=np.float32).tobytes(), np.float32, offset=1)
    np.testing.assert_array_equal(dg.tensor(unaligned).numpy(), [0, 1, 2])
    assert np.asarray(dg.tensor([1, 2]), dtype=np.float64).dtype == np.float64
    assert dg.tensor(np.ones((2, 0, 3), np.float32)).shape == (2, 0, 3)


def test_bfloat16_there_and_back():
    """All 65,536 bit patterns, also of NaN, and float32 rounded to the nearest, ties to even."""
    bits = np.arange(2**16, dtype=np.uint16)
    values = bits.view(ml_dtypes.bfloat16)
    tensor = dg.tensor(values)
    np.testing.assert_array_equal(tensor.numpy().view(np.uint16), bits)
    np.testing.assert_array_equal(dg.tensor(tensor).numpy().view(np.uint16), bits)
    finite = values[np.isfinite(values.astype(np.float32))]
    wide = dg.tensor(finite.astype(np.float32))
    np.testing.assert_array_equal(dg.tensor(wide, dtype="bfloat16").numpy(), finite)
    np.testing.assert_array_equal(dg.tensor(dg.tensor(finite), dtype="float32").numpy(), wide.numpy())
    ties = np.array([1 + 2**-8, 1 + 3 * 2**-8], np.float32)
    np.testing.assert_array_equal(np.float32(dg.tensor(ties, dtype="bfloat16").numpy()), [1, 1 + 2**-6])
    target = dg.tensor(np.zeros(2, ml_dtypes.bfloat16))
    target.copy_(ties)
    np.testing.assert_array_equal(np.float32(target.numpy()), [1, 1 + 2**-6])


def test_integers_that_do_not_fit_are_refused():
    for array, dtype in (
        ([300], "uint8"),
        ([-1], "uint8"),
        ([2**31], "int32"),
        ([np.nan], "int64"),
        ([2.0**63], "int64"),
    ):
        with pytest.raises(ValueError, match=f"tensor: array must fit in {dtype}, got values in"):
            dg.tensor(array, dtype=dtype)
    np.testing.assert_array_equal(dg.tensor([-1.9, 255.9], dtype="int32").numpy(), [-1, 255])


def test_item_reshape_and_arithmetic(rng):
    x = rng.standard_normal((4, 6)).astype(np.float32)
    tensor = dg.tensor(x)
    np.testing.assert_array_equal(tensor.reshape(3, -1).numpy(), x.reshape(3, 8))
    for shape in ((3, -1), [3, 8]):
        np.testing.assert_array_equal(tensor.reshape(shape).numpy(), x.reshape(3, 8))
    assert tensor.reshape(3, 8).data.data_ptr == tensor.data.data_ptr
    np.testing.assert_array_equal((tensor + tensor * 0.5).numpy(), x + x * np.float32(0.5))
    assert dg.tensor([2.5]).item() == 2.5


@pytest.mark.cpu
def test_read_only_arrays_are_not_written():
    array = np.ones(4, np.float32)
    array.flags.writeable = False
    tensor = dg.tensor(array)
    with pytest.raises(ValueError, match="writeable"):
        tensor.copy_(np.zeros(4))
    np.testing.assert_array_equal(array, 1)


@pytest.mark.cpu
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: dg.tensor(np.array(["a"])), TypeError, "tensor: array must .*got <U1"),
        (lambda: dg.tensor(np.array([object()])), TypeError, "tensor: array must .*got object"),
        (
            lambda: dg.tensor(np.ones(2, np.complex64), dtype="float32"),
            TypeError,
            "tensor: array must .*complex64",
        ),
        (lambda: dg.tensor([1.0], dtype="float16"), ValueError, "tensor: dtype must be one of .*float16"),
        (lambda: dg.tensor([1.0], device="tpu"), ValueError, "tensor: device must be cpu, cuda or .* got 'tpu'"),
        (lambda: dg.tensor([1], requires_grad=True), TypeError, "float32 .*got int64"),
        (lambda: dg.tensor([1.0, 2.0]).item(), ValueError, r"item: .*one element, got shape \(2,\)"),
        (
            lambda: dg.tensor([1.0, 2.0]).reshape(3),
            ValueError,
            r"reshape: shape must hold 2 elements, got \(3,\)",
        ),
        (
            lambda: dg.tensor([1.0, 2.0]) + dg.tensor([1.0, 2.0, 3.0]),
            ValueError,
            r"add: b must have shape \(2,\) like a, .*got \(3,\)",
        ),
        (
            lambda: dg.functional.relu(np.ones((2, 2), np.float32)),
            TypeError,
            "x must be a Tensor, got ndarray",
        ),
        (lambda: dg.Tensor(np.ones(2, np.float32)), TypeError, "Tensor: data must .*got ndarray; dragoman.tensor"),
        (lambda: dg.Tensor(dg.tensor([1.0])), TypeError, "Tensor: data must be a tensor of the core, got Tensor"),
    ],
    ids=range(12),
)
def test_errors_name_the_argument(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.cpu
def test_allocator_reuses_and_reports():
    gc.collect()
    dg.empty_cache()
    before = dg.memory_stats()
    first = dg.tensor(np.ones(300_000, np.float32)) * 1.0
    address = first.data.data_ptr
    held = dg.memory_stats()["allocated"] - before["allocated"]
    assert 1_200_000 <= held <= 1_500_000
    del first
    assert dg.memory_stats()["allocated"] == before["allocated"]
    assert dg.memory_stats()["reserved"] >= before["reserved"] + held
    assert dg.memory_stats()["peak_allocated"] >= before["allocated"] + held
    second = dg.tensor(np.ones(300_000, np.float32)) * 1.0
    assert second.data.data_ptr == address
    assert second.data.data_ptr % 64 == 0
    del second
    dg.empty_cache()
    assert dg.memory_stats()["reserved"] == before["reserved"]


def test_too_much_memory_is_a_memory_error():
    with pytest.raises(MemoryError):
        dg._core.Tensor.empty([2**45])
    assert dg.tensor([1.0]).item() == 1


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.parametrize("megabytes", [1, 3])
def test_freed_memory_goes_back_to_the_system_from_between_blocks_in_use(megabytes):
    tensors = [dg.Tensor(_core.Tensor.zeros([megabytes << 18])) for _ in range(40)]
    before = resident()
    del tensors[::2]
    dg.empty_cache()
    assert before - resident() > 0.9 * 20 * (megabytes << 20)
    assert not any(tensor.numpy().any() for tensor in tensors)
