"""Training by mpirun: the files of a run on several ranks are those of a run on one, and faults end all ranks."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from mpi_runs import MPIRUN, PROGRAM, ROOT, files, start

pytest.importorskip("mpi4py")
pytestmark = [pytest.mark.cpu, pytest.mark.skipif(MPIRUN is None, reason="no mpirun")]


@pytest.mark.parametrize(
    "options",
    [
        {"max_grad_norm": 0.5, "ema": 0.9, "final": "ema", "best_by": "loss"},
        {"compute_dtype": "bfloat16", "checkpoint_layers": True, "layer_decay": 0.9},
        {"lora": True, "final": "best"},
        {"d_ff": 20000},  # 2.6 million weights: several buckets leave while backward runs
    ],
    ids=["float32", "bfloat16", "adapters", "buckets"],
)
def test_ranks_write_the_files_of_one_process(tmp_path, options):
    for ranks in (1, 2, 3):
        done = start(ranks, tmp_path / str(ranks), **options)
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
    expected = files(tmp_path / "1")
    assert len(expected) == 6  # two checkpoints with their states, the model and the log
    assert files(tmp_path / "2") == expected
    assert files(tmp_path / "3") == expected


@pytest.mark.parametrize(("number", "step"), [(signal.SIGTERM, 3), (signal.SIGUSR1, 4)], ids=["TERM", "USR1"])
def test_a_signal_to_one_rank_saves_on_all_and_others_go_on(tmp_path, number, step):
    """Rank 2 of 3 is told to end in the middle of an epoch; two ranks go on to the bits of one process."""
    assert start(1, tmp_path / "whole").returncode == 0
    stopped = start(3, tmp_path / "parts", fault=[number, 2, step])  # a validation is due after step 4
    assert stopped.returncode == 128 + number
    assert f"stopped after step {step}" in stopped.stderr
    assert "valid_loss" not in (tmp_path / "parts" / "log.jsonl").read_text()  # the validation was left out
    resumed = start(2, tmp_path / "parts", resume=True)
    assert resumed.returncode == 0, resumed.stderr
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


@pytest.mark.parametrize("what", ["raise", signal.SIGKILL, signal.SIGSTOP], ids=["raises", "dies", "hangs"])
def test_a_rank_that_fails_ends_all_and_the_checkpoint_stands(tmp_path, what):
    began = time.monotonic()
    failed = start(2, tmp_path / "run", {"DRAGOMAN_MPI_TIMEOUT": "3"}, fault=[what, 1, 5])
    assert failed.returncode != 0
    assert time.monotonic() - began < 60
    if what == "raise":
        assert "rank 1 of 2 ends the run: RuntimeError: a fault of this test" in failed.stderr
    if what == signal.SIGSTOP:
        assert "rank 0 of 2 ends the run: TimeoutError: no answer of another rank in 3 seconds" in failed.stderr
    resumed = start(2, tmp_path / "run", resume=True)
    assert resumed.returncode == 0, resumed.stderr
    assert start(1, tmp_path / "whole").returncode == 0
    assert files(tmp_path / "run") == files(tmp_path / "whole")


@pytest.mark.parametrize(("name", "values"), [("seed", (0, 1)), ("max_minutes", (1, 2)), ("output", ("a", "b"))])
def test_ranks_that_differ_are_refused(tmp_path, monkeypatch, name, values):
    monkeypatch.chdir(tmp_path)
    lines = [sys.executable, str(PROGRAM)]
    command = [MPIRUN, "--oversubscribe", "--bind-to", "none"]
    for rank, value in enumerate(values):
        options = {"batches": 2, "steps": 2, "output": str(tmp_path), name: value}
        command += [":"] * rank + ["-n", "1", *lines, json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **ROOT})
    assert done.returncode != 0
    expected = "rank 1 does not see what rank 0" if name == "output" else "must be the same on all ranks, rank 0 has"
    assert expected in done.stderr
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize(("what", "status"), [("validation", 2), ("between", 2), ("exit", 3)])
def test_an_error_outside_the_steps_ends_all_ranks_at_once(tmp_path, what, status):
    """Before a run begins and between two runs, where the others wait for this rank, for ten minutes."""
    began = time.monotonic()
    failed = start(2, tmp_path / "run", fault=[what, 1, 2])
    assert failed.returncode == status
    assert time.monotonic() - began < 60
    if what == "exit":
        assert "rank 1 of 2 ends the run: SystemExit: 3" in failed.stderr
    else:
        assert "rank 1 of 2 ends the run: ValueError: " in failed.stderr
        assert "Traceback (most recent call last)" in failed.stderr
