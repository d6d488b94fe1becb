"""Tensors that travel between processes, each with an emulated GPU of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from dragoman import _core
from exchange_program import COUNT, exchange, tensor, values_of, wait

PROGRAM = Path(__file__).with_name("exchange_program.py")
EMULATED = "emu" in os.environ.get("DRAGOMAN_CUDA_LIBRARY", "")

pytestmark = pytest.mark.cuda
needs_gpus = pytest.mark.skipif(not EMULATED, reason="needs a GPU for each process")


@pytest.fixture(autouse=True)
def _nccl(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    try:
        _core.exchange_version()
    except RuntimeError as error:
        pytest.skip(str(error))


def run(scenario, size, processes=None, devices=None):
    """What each process has printed."""
    identity = _core.exchange_id().hex()
    given = {**os.environ, "DRAGOMAN_EMULATOR_DEVICES": str(devices or size), "OMP_NUM_THREADS": "1"}
    started = []
    for rank in range(processes or size):
        environment = {**given, "CUDA_VISIBLE_DEVICES": str(rank % (devices or size))}
        command = [sys.executable, str(PROGRAM), scenario, str(rank), str(size), identity]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, env=environment))
    return [json.loads(process.communicate(timeout=60)[0]) for process in started]


@needs_gpus
@pytest.mark.parametrize("size", [2, 3])
def test_what_kernels_compute_travels_both_ways(size):
    assert run("kernels", size) == ["done"] * size


@needs_gpus
def test_a_message_of_another_size_is_an_error():
    sent, received = run("sizes", 2)
    assert sent == "TimeoutError: "
    assert received == "RuntimeError: exchange: group: rank 0 sent 12 bytes to rank 1, which receives 16"


@needs_gpus
def test_a_process_that_never_joins_or_sends_is_waited_for():
    assert run("kernels", 2, processes=1) == ["TimeoutError: "]
    assert run("silent", 2) == ["TimeoutError: ", "done"]


@needs_gpus
def test_two_processes_on_one_gpu_are_refused():
    for outcome in run("kernels", 2, devices=1):
        assert "invalid usage (Duplicate GPU detected" in outcome


def test_a_process_sends_to_itself():
    """Two groups, the second of what has come by the first."""
    _core.join_exchange(_core.exchange_id(), 0, 1)
    try:
        wait(_core.exchange_ready)
        first, second, third = tensor(values_of(0, 0, 0)), *(tensor(np.zeros(COUNT, np.float32)) for _ in "ab")
        exchange([(0, first)], [(0, second)])
        number = exchange([(0, second)], [(0, third)])
        wait(lambda: _core.exchange_done(number))
        np.testing.assert_array_equal(third.numpy(), values_of(0, 0, 0))
    finally:
        _core.leave_exchange()


def test_arguments_are_checked_by_name():
    with pytest.raises(RuntimeError, match="this process has not joined"):
        _core.exchange_ready()
    with pytest.raises(ValueError, match="join_exchange: id must have 128 bytes, got 3"):
        _core.join_exchange(b"abc", 0, 1)
    identity = _core.exchange_id()
    with pytest.raises(ValueError, match=r"join_exchange: rank must lie in \[0, 2\), got 2"):
        _core.join_exchange(identity, 2, 2)
    _core.join_exchange(identity, 0, 1)
    try:
        with pytest.raises(RuntimeError, match="this process has joined already"):
            _core.join_exchange(identity, 0, 1)
        wait(_core.exchange_ready)
        here, there = _core.Tensor.zeros([3]), _core.Tensor.zeros([3], "float32", "cuda")
        with pytest.raises(ValueError, match="start_exchange: sends must be on cuda, got cpu"):
            _core.start_exchange([(0, here)], [])
        with pytest.raises(ValueError, match=r"start_exchange: ranks in receives must lie in \[0, 1\), got 1"):
            _core.start_exchange([], [(1, there)])
        with pytest.raises(TypeError, match="start_exchange: sends must be float32, got int64"):
            _core.start_exchange([(0, _core.Tensor.zeros([3], "int64", "cuda"))], [])
        _core.start_exchange([(0, there)], [(0, there)])
        with pytest.raises(RuntimeError, match="the group before is not in the stream yet"):
            _core.start_exchange([], [])
    finally:
        _core.leave_exchange()


@needs_gpus
@pytest.mark.parametrize(
    ("variables", "status"),
    [
        ({"OMPI_COMM_WORLD_LOCAL_RANK": "1"}, "ready"),
        ({"SLURM_LOCALID": "2"}, 'CUDA_VISIBLE_DEVICES="2" leaves this process no GPU'),
        ({"MPI_LOCALRANKID": "2", "CUDA_VISIBLE_DEVICES": "1,0"}, 'CUDA_VISIBLE_DEVICES="" leaves this process no GPU'),
        ({"MPI_LOCALRANKID": "1", "CUDA_VISIBLE_DEVICES": "7,0"}, "ready"),
        ({"SLURM_LOCALID": "5", "CUDA_VISIBLE_DEVICES": "1"}, "ready"),  # Slurm has chosen
    ],
)
def test_a_process_takes_the_gpu_of_its_number(variables, status):
    environment = {**os.environ, "DRAGOMAN_EMULATOR_DEVICES": "2", **variables}
    command = [sys.executable, "-c", "import dragoman as dg; print(dg.cuda.status())"]
    assert subprocess.run(command, env=environment, capture_output=True, text=True).stdout.startswith(status)
