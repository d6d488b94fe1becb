"""SIGKILL to a random rank at a random time: resumed runs end in the files of an undisturbed one.

DRAGOMAN_KILLS=20 kills 20 times.
"""

import os

import numpy as np
import pytest
from mpi_runs import MPIRUN, files, start

pytest.importorskip("mpi4py")
pytestmark = [pytest.mark.cpu, pytest.mark.skipif(MPIRUN is None, reason="no mpirun")]

KILLS = int(os.environ.get("DRAGOMAN_KILLS", "2"))
OPTIONS = {"steps": 40, "checkpoint_every": 2, "average": 3, "ema": 0.9}
LATEST = 1.5  # seconds after the start


def test_nothing_is_lost_when_ranks_are_killed(tmp_path):
    draw = np.random.default_rng(0)
    whole, run, killed, finished = tmp_path / "whole", tmp_path / "run-0", 0, 0
    assert start(1, whole, **OPTIONS).returncode == 0
    expected = files(whole)
    while killed < KILLS or run.exists():
        ranks = int(draw.integers(2, 4))
        kill = [int(draw.integers(ranks)), draw.uniform(0, LATEST)] if killed < KILLS else None
        resume = bool(list(run.glob("checkpoints/*.safetensors")))
        done = start(ranks, run, kill=kill, resume=resume, **OPTIONS)
        if done.returncode:
            assert kill, done.stderr
            killed += 1
            continue
        assert files(run) == expected
        finished += 1
        run = tmp_path / f"run-{finished}"
    assert killed == KILLS
