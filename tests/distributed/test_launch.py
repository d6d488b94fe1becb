"""Which processes belong together, by the variables of their launchers."""

import os
import signal

import pytest
from dragoman.cli import main
from dragoman.distributed import launch
from dragoman.distributed.ranks import Ranks
from dragoman.train.signals import StopSignals


@pytest.mark.parametrize(
    ("variables", "several"),
    [
        ({}, False),
        ({"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"}, False),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}, True),
        ({"PMI_SIZE": "4", "PMI_RANK": "0"}, True),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "4"}, False),  # srun without MPI
        ({"SLURM_STEP_NUM_TASKS": "4", "PMIX_RANK": "1"}, True),  # srun --mpi=pmix
        ({"SLURM_STEP_NUM_TASKS": "1", "PMIX_RANK": "0"}, False),
    ],
)
def test_the_variables_of_launchers(monkeypatch, variables, several):
    for name in (*launch._SIZES, *launch._RANKS, launch._SLURM_SIZE):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert launch._several() == several
    first = all(variables.get(name, "0") == "0" for name in launch._RANKS)
    assert launch.is_first() == first


def test_a_signal_that_another_rank_has_told_of_is_no_second_one_here():
    stop = StopSignals()
    with stop:
        stop.learn(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # the same one, which comes here a little later
        assert stop.received == signal.SIGTERM
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGTERM)


def test_a_pipe_is_no_input_of_several_ranks(tmp_path, monkeypatch, capsys):
    ranks = Ranks()
    ranks.size = 2
    monkeypatch.setattr("dragoman.cli.corpus.this_process", lambda: ranks)
    os.mkfifo(tmp_path / "pipe")
    assert main(["train", "--task=lm", f"--data={tmp_path / 'pipe'}", f"--output={tmp_path / 'out'}"]) == 2
    assert "pipe: a pipe gives its text to one process; for several ranks, name files" in capsys.readouterr().err
