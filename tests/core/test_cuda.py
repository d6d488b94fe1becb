"""The CUDA backend's memory, copies and errors: with --device emu or --device cuda."""

import os
import subprocess
import sys
import threading

import dragoman as dg
import numpy as np
import pytest
from dragoman import _core

pytestmark = pytest.mark.cuda


def run(script, **environment):
    """What a new process prints."""
    done = subprocess.run(
        [sys.executable, "-c", "import dragoman as dg, numpy as np, os\n" + script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_status():
    assert dg.cuda.is_available()
    assert dg.cuda.status().startswith("ready; proved on ")


@pytest.mark.parametrize("size", [0, 1, 3, 1000, 70_000, 1_000_003])
def test_values_travel_and_come_back(rng, size):
    array = rng.standard_normal(size).astype(np.float32)
    tensor = dg.tensor(array, device="cuda")
    expected = array.copy()
    array[:] = 0  # the copy has ended with the call
    np.testing.assert_array_equal(tensor.numpy(), expected)
    np.testing.assert_array_equal(dg.Tensor(tensor.data.clone()).numpy(), expected)
    tensor.data.zero_()
    assert not tensor.numpy().any()


def test_uploads_do_not_wait_for_each_other():
    source, tensors = np.empty(1000, np.int32), []
    for i in range(100):  # more than the ring has slots, with nothing that waits in between
        source[:] = i
        tensors.append(dg.tensor(source, device="cuda"))
    for i, tensor in enumerate(tensors):
        assert (tensor.numpy() == i).all()


def test_a_cast_reads_what_was_uploaded_and_bits_are_the_cpus(rng):
    array = rng.standard_normal((37, 11)).astype(np.float32)
    there, here = (dg.functional.cast(dg.tensor(array, device=device), "bfloat16") for device in ("cuda", "cpu"))
    np.testing.assert_array_equal(there.numpy(), here.numpy())


def test_memory_travels_by_dlpack(rng):
    array = rng.standard_normal((5, 3)).astype(np.float32)
    x = dg.functional.cast(dg.functional.cast(dg.tensor(array, device="cuda"), "bfloat16"), "float32")  # under way
    y = dg.from_dlpack(x)
    assert (y.device, y.data.data_ptr, x.data.version) == ("cuda", x.data.data_ptr, 0)
    expected = x.numpy()
    del x
    dg.tensor(np.zeros((5, 3), np.float32), device="cuda")
    np.testing.assert_array_equal(y.numpy(), expected)


def test_memory_is_counted():
    dg.empty_cache("cuda")
    before = dg.memory_stats("cuda")["allocated"]
    tensor = dg.Tensor(_core.Tensor.empty([300_000], "float32", "cuda"))
    assert 1_200_000 <= dg.memory_stats("cuda")["allocated"] - before <= 1_500_000
    del tensor
    assert dg.memory_stats("cuda")["allocated"] == before


def test_memory_that_runs_out_is_an_error_to_go_on_from():
    with pytest.raises(dg.OutOfMemoryError, match=r"^out of memory on cuda: asked for \d+ bytes, with \d+"):
        _core.Tensor.empty([2**45], "float32", "cuda")
    np.testing.assert_array_equal(dg.tensor([1.0, 2.0], device="cuda").numpy(), [1.0, 2.0])


def test_cached_blocks_go_back_where_others_need_the_memory():
    script = """
    def block(mebibytes): return dg.Tensor(dg._core.Tensor.empty([mebibytes << 18], "float32", "cuda"))
    held = block(40); del held
    print(dg.memory_stats("cuda")["reserved"] >> 20); held = block(56); print(dg.memory_stats("cuda")["reserved"] >> 20)
    try: block(16)
    except dg.OutOfMemoryError: print("full")"""
    if "DRAGOMAN_CUDA_LIBRARY" not in os.environ:
        pytest.skip("a GPU has more memory")
    script = "\n".join(line[4:] for line in script.splitlines())
    assert run(script, DRAGOMAN_EMULATOR_MEMORY=str(64 << 20)).split() == ["40", "56", "full"]


def test_a_forked_child_gets_an_error_and_its_parent_goes_on():
    output = run("""
x = dg.tensor([1.0, 2.0], device="cuda")
child = os.fork()
if child == 0:
    try:
        x.numpy()
    except RuntimeError as error:
        print(error, flush=True)
    del x
    os._exit(0)
os.waitpid(child, 0)
print(x.numpy())
""")
    assert output.splitlines() == [
        "copy: this process was forked from one that uses CUDA, and cannot use it; start processes with spawn",
        "[1. 2.]",
    ]


def test_threads_use_the_device_side_by_side(rng):
    arrays = [rng.standard_normal(5000).astype(np.float32) for _ in range(4)]
    wrong = []

    def work(array):
        for _ in range(20):
            there = dg.functional.cast(dg.tensor(array, device="cuda"), "bfloat16").numpy()
            if not np.array_equal(there, dg.functional.cast(dg.tensor(array, device="cpu"), "bfloat16").numpy()):
                wrong.append(array)

    threads = [threading.Thread(target=work, args=(array,)) for array in arrays]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_what_is_left_out_is_refused_by_name():
    with pytest.raises(ValueError, match=r"^device: a process uses one GPU, cuda; got cuda:1"):
        dg.tensor([1.0], device="cuda:1")


def test_a_launch_that_fails_has_the_name_of_its_op():
    features = 256 * 65_536  # needs one block more than a grid has in its second direction
    dy, dweight = (_core.Tensor.empty([1, features], "float32", "cuda") for _ in range(2))
    ids, dropout = dg.tensor(np.zeros(1, np.int32)), _core.Dropout(0.0, 0, 0, 0, None)
    with pytest.raises(RuntimeError, match=r"^embedding_backward: launch: invalid (configuration )?argument$"):
        _core.embedding_backward(dy, ids.data, None, 1.0, dropout, dg.Sequences([1]), dweight, False, None, False)
    np.testing.assert_array_equal(dg.tensor([1.0, 2.0], device="cuda").numpy(), [1.0, 2.0])
