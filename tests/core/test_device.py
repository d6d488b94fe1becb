"""What a device needs, proved on the device "test": memory that the host cannot touch and that starts as NaN."""

import subprocess
import sys

import dragoman as dg
import numpy as np
import pytest
from dragoman import _core


def on_test(*shape, seed=0):
    return dg.tensor(np.random.default_rng(seed).standard_normal(shape, np.float32), device="test")


def test_values_travel_and_come_back():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensor = dg.tensor(array, device="test")
    assert (tensor.device, tensor.shape, tensor.dtype) == ("test", (2, 3), "float32")
    first = tensor.numpy()
    np.testing.assert_array_equal(first, array)
    tensor.copy_(array + 1)
    np.testing.assert_array_equal(first, array)  # a copy, not a view
    np.testing.assert_array_equal(tensor.data.clone().numpy(), array + 1)
    tensor.data.zero_()
    assert not tensor.numpy().any()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_new_memory_holds_nan(dtype):
    for _ in range(2):  # also where it was used before
        block = dg.Tensor(_core.Tensor.empty([1000], dtype, "test"))
        assert np.isnan(block.numpy().astype(np.float32)).all()
        block.copy_(np.ones(1000))
        del block


def test_memory_is_counted_apart_from_the_cpus():
    before, cpu = dg.memory_stats("test"), dg.memory_stats()
    tensor = dg.Tensor(_core.Tensor.empty([300_000], "float32", "test"))
    held = dg.memory_stats("test")["allocated"] - before["allocated"]
    assert 1_200_000 <= held <= 1_500_000
    assert dg.memory_stats() == cpu
    del tensor
    assert dg.memory_stats("test")["allocated"] == before["allocated"]
    dg.reset_peak_memory_stats("test")
    assert dg.memory_stats("test")["peak_allocated"] == before["allocated"]
    dg.empty_cache("test")


def test_an_op_gives_the_bits_of_the_cpu():
    x, y = on_test(5, 7), on_test(5, 7, seed=1)
    result = x + y
    assert result.device == "test"
    expected = dg.tensor(x.numpy()) + dg.tensor(y.numpy())
    np.testing.assert_array_equal(result.numpy(), expected.numpy())


@pytest.mark.parametrize("access", ["ctypes.string_at(x.data.data_ptr, 1)", "ctypes.memset(x.data.data_ptr, 0, 1)"])
def test_the_host_cannot_touch_device_memory(access):
    script = f"import ctypes, dragoman as dg; x = dg.tensor([1.0], device='test'); x + x; {access}"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.returncode == -11
    assert run.stderr == "device test: the host touched device memory outside a kernel or a copy\n"


def test_a_kernel_that_fails_raises_in_the_name_of_its_op():
    x = on_test(2, 3)
    _core.test_device_fail_kernel("binary")
    with pytest.raises(RuntimeError, match=r"^binary: a test asked for this failure$"):
        x + x
    np.testing.assert_array_equal((x + x).numpy(), 2 * x.numpy())


def test_memory_that_runs_out_is_an_error_to_go_on_from():
    x = on_test(2, 3)
    _core.test_device_fail_allocation(2)
    y = x + x
    with pytest.raises(dg.OutOfMemoryError, match=r"^out of memory on test: asked for 64 bytes, with \d+ bytes in use"):
        x + y
    np.testing.assert_array_equal((x + y).numpy(), 3 * x.numpy())
    assert issubclass(dg.OutOfMemoryError, MemoryError)
    with pytest.raises(dg.OutOfMemoryError, match="out of memory on test"):
        _core.Tensor.empty([2**40], "float32", "test")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: dg.tensor([1.0], device="cuda"), ValueError, "^" + dg.cuda.status()),
        (lambda: dg.tensor([1.0], device="cuda:1"), ValueError, "no CUDA backend"),
        (lambda: dg.tensor([1.0], device="cuda:"), ValueError, "tensor: device must be cpu, cuda or .* got 'cuda:'"),
        (lambda: dg.tensor([1.0], device=3), TypeError, "tensor: device must be a str, got int"),
        (lambda: dg.memory_stats("gpu"), ValueError, "memory_stats: device must be .* got 'gpu'"),
        (lambda: dg.empty_cache("gpu"), ValueError, "empty_cache: device must be .* got 'gpu'"),
        (lambda: dg.reset_peak_memory_stats("cuda"), ValueError, "no CUDA backend"),
    ],
    ids=range(7),
)
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_plain_operations_and_their_gradients_give_the_bits_of_the_cpu():
    def gradients(device):
        rng = np.random.default_rng(0)
        leaves = [
            dg.tensor(rng.standard_normal(shape), device=device, dtype="float32", requires_grad=True)
            for shape in ((7, 5), (5, 6), (6,))
        ]
        x, weight, bias = leaves
        hidden = x @ weight + bias
        hidden = hidden.softmax().maximum(0.1) * hidden.exp() / (hidden * hidden + 1.0).sqrt()
        joined = dg.functional.concat([hidden, hidden.T.transpose(), hidden[2:5], hidden[1:2]])[:, 1:4]
        centred = joined - joined.mean(0, keepdims=True)
        (centred.sum(-1).mean() * 2.0).backward()
        return [leaf.grad.numpy() for leaf in leaves]

    for there, here in zip(gradients("test"), gradients("cpu"), strict=True):
        np.testing.assert_array_equal(there, here)
