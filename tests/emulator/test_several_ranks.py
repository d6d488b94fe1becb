"""Training by mpirun on emulated GPUs: the files of a run on several ranks are those of a run on one."""

import json
import os
import signal

import pytest
from mpi_runs import MPIRUN, files, start

pytest.importorskip("mpi4py")
pytestmark = [pytest.mark.cuda, pytest.mark.skipif(MPIRUN is None, reason="no mpirun")]


@pytest.fixture(autouse=True)
def _on_the_emulator(monkeypatch, tmp_path):
    if "emu" not in os.environ.get("DRAGOMAN_CUDA_LIBRARY", ""):
        pytest.skip("needs a GPU for each rank")
    monkeypatch.setenv("DRAGOMAN_EMULATOR_DEVICES", "3")
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def run(ranks, output, environment=None, **options):
    return start(ranks, output, environment, **{"steps": 3, "device": "cuda", "checkpoint_every": 2, **options})


@pytest.mark.parametrize(
    "options",
    [
        {"max_grad_norm": 0.5, "ema": 0.9, "final": "ema"},
        {"compute_dtype": "bfloat16", "d_ff": 256, "bucket": 16384},  # several buckets leave while backward runs
    ],
    ids=["float32", "bfloat16"],
)
def test_ranks_write_the_files_of_one_process(tmp_path, options):
    for ranks in (1, 2, 3):
        done = run(ranks, tmp_path / str(ranks), **options)
        assert done.returncode == 0, done.stderr
    expected = files(tmp_path / "1")
    assert files(tmp_path / "2") == expected
    assert files(tmp_path / "3") == expected


def test_a_run_that_was_stopped_goes_on_with_other_ranks(tmp_path):
    assert run(1, tmp_path / "whole").returncode == 0
    assert run(3, tmp_path / "parts", fault=[signal.SIGTERM, 2, 2]).returncode == 128 + signal.SIGTERM
    resumed = run(2, tmp_path / "parts", resume=True)
    assert resumed.returncode == 0, resumed.stderr
    assert files(tmp_path / "parts")["model.safetensors"] == files(tmp_path / "whole")["model.safetensors"]


def test_a_rank_takes_the_memory_of_its_plan(tmp_path):
    """Of 280,000 weights, 18 chunks, each rank owns 9."""
    report = tmp_path / "memory"
    done = run(2, tmp_path / "run", steps=1, d_ff=2048, report=str(report))
    assert done.returncode == 0, done.stderr
    held, plan = json.loads(report.read_text())
    assert held == pytest.approx(plan["parameters"] + plan["gradients"] + plan["optimizer"], rel=0.05)


@pytest.mark.parametrize("what", [signal.SIGKILL, signal.SIGSTOP], ids=["dies", "hangs"])
def test_a_rank_that_fails_ends_all(tmp_path, what):
    failed = run(2, tmp_path / "run", {"DRAGOMAN_MPI_TIMEOUT": "2"}, fault=[what, 1, 2])
    assert failed.returncode != 0
    if what == signal.SIGSTOP:
        assert "rank 0 of 2 ends the run: TimeoutError: no answer of another rank in 2 seconds" in failed.stderr


def test_more_ranks_than_gpus_are_refused(tmp_path):
    failed = run(2, tmp_path / "run", {"DRAGOMAN_EMULATOR_DEVICES": "1", "DRAGOMAN_MPI_TIMEOUT": "2"})
    assert failed.returncode != 0
    assert 'CUDA_VISIBLE_DEVICES="1" leaves this process no GPU' in failed.stderr
