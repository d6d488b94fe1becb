"""What a device needs, proved on the device "test": memory that the host cannot touch and that starts as NaN."""

import ctypes
import re
import subprocess
import sys

import dragoman as dg
import numpy as np
import pytest
from dragoman import _core

pytestmark = pytest.mark.cpu


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
    assert run.returncode != 0
    assert run.stderr.startswith("device test: the host touched device memory outside a kernel or a copy\n")


def test_a_kernel_that_fails_raises_in_the_name_of_its_op():
    x = on_test(2, 3)
    _core.test_device_fail_kernel("binary")
    with pytest.raises(RuntimeError, match=r"^binary: a test asked for this failure$"):
        x + x
    np.testing.assert_array_equal((x + x).numpy(), 2 * x.numpy())


def test_a_kernel_refuses_pointers_to_host_memory():
    step = dg.tensor(np.zeros(1 << 20, np.int64)[:1].reshape(()))  # in pages of the CPU's memory that stay mapped
    dropout = _core.Dropout(0.5, 1, 2, 3, step.data)
    with pytest.raises(RuntimeError, match=r"^dropout_forward: byte \d+ of its parameters points to host memory$"):
        _core.dropout_forward(on_test(2, 3).data, dropout, None)


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
        (lambda: dg.tensor([1.0], device="cuda:"), ValueError, "tensor: device must be cpu, cuda or .* got 'cuda:'"),
        (lambda: dg.tensor([1.0], device=3), TypeError, "tensor: device must be a str, got int"),
        (lambda: dg.memory_stats("gpu"), ValueError, "memory_stats: device must be .* got 'gpu'"),
        (lambda: dg.empty_cache("gpu"), ValueError, "empty_cache: device must be .* got 'gpu'"),
    ],
    ids=range(4),
)
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.skipif(dg.cuda.is_available(), reason="CUDA is there")
def test_cuda_that_is_not_there_is_refused_by_its_status():
    for device in ("cuda", "cuda:1"):
        with pytest.raises(ValueError, match=re.escape(dg.cuda.status())):
            dg.tensor([1.0], device=device)
    with pytest.raises(ValueError, match=re.escape(dg.cuda.status())):
        dg.reset_peak_memory_stats("cuda")


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


def test_all_tensors_of_an_op_lie_on_one_device():
    x, weight = on_test(2, 3), dg.tensor(np.ones((4, 3), np.float32))
    with pytest.raises(ValueError, match=r"^linear_forward: weight must be on test, as x, got cpu$"):
        dg.functional.linear(x, weight)
    bias = on_test(4)
    with pytest.raises(ValueError, match=r"^linear_forward: bias must be on cpu, as x, got test$"):
        dg.functional.linear(dg.tensor(np.ones((2, 3), np.float32)), weight, bias)


def test_a_replay_checks_devices_and_copies():
    x, y = on_test(2, 3), on_test(2, 3)
    recorder = _core.Recorder()
    result = (x + y).to("cpu")
    program = recorder.finish([x.data, y.data], [result.data])
    z = on_test(2, 3, seed=1)
    np.testing.assert_array_equal(program.replay([x.data, z.data])[0].numpy(), x.numpy() + z.numpy())
    with pytest.raises(ValueError, match=r"^binary_forward: b must be on test, as a, got cpu$"):
        program.replay([x.data, dg.tensor(z.numpy()).data])


@pytest.mark.parametrize("name", ["ids", "starts"])
def test_ids_are_read_on_the_host(name):
    ids = dg.tensor([1, 0], dtype="int32")
    starts = dg.tensor([0], dtype="int32")
    weight = dg.tensor(np.ones((3, 4), np.float32))
    given = {"ids": ids, "starts": starts} | {name: {"ids": ids, "starts": starts}[name].to("test")}
    with pytest.raises(ValueError, match=rf"^embedding: {name} must be on cpu, got test$"):
        dg.functional.embedding(given["ids"], weight, dg.Sequences([2]), starts=given["starts"])


def test_to_goes_there_and_back_on_the_tape():
    x = dg.tensor(np.arange(6, dtype=np.float32), requires_grad=True)
    there = x.to("test")
    assert there.device == "test"
    assert x.to("cpu") is x
    back = (there * 2.0).to("cpu")
    weights = np.arange(6, dtype=np.float32) + 1
    back.backward(weights)
    assert x.grad.device == "cpu"
    np.testing.assert_array_equal(x.grad.numpy(), 2 * weights)


class Lent(ctypes.Structure):
    """The head of a DLTensor."""

    _fields_ = (("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32))


def test_dlpack_names_the_device():
    x = on_test(2, 3)
    assert x.__dlpack_device__() == (12, 0)  # an extension
    capsule = x.__dlpack__(stream=7)
    pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    lent = Lent.from_address(pointer_of(capsule, b"dltensor"))
    assert (lent.data, lent.device_type, lent.device_id) == (x.data.data_ptr, 12, 0)
    with pytest.raises(ValueError, match=r"from_dlpack: x must be .* got DLPack device \(12, 0\)"):
        dg.from_dlpack(x)
    with pytest.raises((BufferError, RuntimeError)):
        np.from_dlpack(x)


def test_a_module_moves_whole():
    stack = dg.nn.Embedding(5, 4)
    stack.positions = dg.nn.SinusoidalPositionalEncoding(4)
    stack.output = dg.nn.Linear(4, 5, weight=stack.weight)
    stack.weight.grad = dg.tensor(np.ones((5, 4), np.float32))
    before, table = stack.state_dict(), stack.positions(3).numpy()
    weight = stack.weight
    assert stack.to("test") is stack
    assert stack.weight is stack.output.weight is weight
    assert {p.device for p in stack.parameters()} == {weight.grad.device} == {stack.positions(3).device} == {"test"}
    assert stack.positions(200).device == "test"
    np.testing.assert_array_equal(stack.positions(3).numpy()[:64], table)
    for name, values in stack.to("cpu").state_dict().items():
        np.testing.assert_array_equal(values, before[name])
    with pytest.raises(ValueError, match=r"^to: device must be .* got 'gpu'$"):
        stack.to("gpu")
