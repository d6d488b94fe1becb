"""`_core.read_floats`: values of a file, widened as NumPy widens them."""

import os

import dragoman as dg
import ml_dtypes
import numpy as np
import pytest
from dragoman import _core


@pytest.fixture
def opened(tmp_path):
    """Writes bytes to a file, of which the returned descriptor reads."""
    descriptors = []

    def write(content: bytes) -> int:
        path = tmp_path / "values"
        path.write_bytes(content)
        descriptors.append(os.open(path, os.O_RDONLY))
        return descriptors[-1]

    yield write
    for descriptor in descriptors:
        os.close(descriptor)


def check_same(got, expected):
    """The bits are equal; a NaN is any NaN."""
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(got), ~numbers)
    np.testing.assert_array_equal(got[numbers].view(np.uint32), expected[numbers].view(np.uint32))


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16])
def test_every_half(opened, dtype):
    values = np.arange(1 << 16, dtype=np.uint16).view(dtype)
    out = _core.Tensor.empty([1 << 16])
    assert _core.read_floats(opened(values.tobytes()), 0, values.dtype.name, out)
    check_same(out.numpy(), values.astype(np.float32))


def test_doubles_are_rounded(opened, rng):
    values = np.array([0.0, -0.0, np.inf, np.nan, 1e-310, 1e-40, 1 / 3, 2**24 + 1, *rng.normal(size=100)])
    out = _core.Tensor.empty([values.size])
    assert _core.read_floats(opened(values.tobytes()), 0, "float64", out)
    check_same(out.numpy(), values.astype(np.float32))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_part_of_a_large_file(opened, rng, threads, dtype):
    """More than one range of each thread, from a place that is no multiple of anything."""
    dg.set_num_threads(threads)
    values = rng.normal(size=1_300_013).astype(dtype)
    descriptor = opened(b"abc" + values.tobytes() + b"d")
    out = _core.Tensor.zeros([1_300_015])
    assert _core.read_floats(descriptor, 3 + 5 * values.itemsize, dtype, out.slice(1, [1_300_008]))
    np.testing.assert_array_equal(out.numpy(), np.r_[np.float32(0), values[5:].astype(np.float32), np.zeros(6)])


def test_a_file_that_ends_before(opened):
    descriptor = opened(bytes(4 * 1000 - 1))
    for place, size in [(0, 1000), (3999, 1), (5000, 1)]:
        assert not _core.read_floats(descriptor, place, "float32", _core.Tensor.empty([size]))
    assert _core.read_floats(descriptor, 0, "float32", _core.Tensor.empty([999]))
    assert _core.read_floats(descriptor, 9999, "float32", _core.Tensor.empty([0]))


def test_the_version_changes(opened):
    out = _core.Tensor.zeros([2])
    before = out.version
    _core.read_floats(opened(bytes(8)), 0, "float32", out)
    assert out.version != before


def test_errors(opened, tmp_path):
    out, descriptor = _core.Tensor.empty([2]), opened(bytes(8))
    with pytest.raises(ValueError, match="read_floats: dtype must be float64, float32, float16 or bfloat16, got int8"):
        _core.read_floats(descriptor, 0, "int8", out)
    with pytest.raises(TypeError, match="read_floats: out must be float32, got int32"):
        _core.read_floats(descriptor, 0, "float32", _core.Tensor.empty([2], "int32"))
    with pytest.raises(ValueError, match="read_floats: out must be on cpu, got test"):
        _core.read_floats(descriptor, 0, "float32", _core.Tensor.empty([2], "float32", "test"))
    array = np.zeros(2, np.float32)
    array.setflags(write=False)
    with pytest.raises(ValueError, match="read_floats: out must be writeable"):
        _core.read_floats(descriptor, 0, "float32", _core.Tensor.from_numpy(array, "float32"))
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(IsADirectoryError):
            _core.read_floats(folder, 0, "float32", out)
    finally:
        os.close(folder)
