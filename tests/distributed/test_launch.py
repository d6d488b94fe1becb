"""Which processes belong together, by the variables of their launchers."""

import os
import signal
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from dragoman.cli import main
from dragoman.distributed import launch
from dragoman.distributed.mpi import MPIRanks
from dragoman.distributed.ranks import ALONE, Ranks
from dragoman.train import Trainer
from dragoman.train.signals import StopSignals
from toy_runs import model_of, pairs_of


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    """No variable of a launcher is set, whatever started the tests."""
    for name in (*launch._SIZES, *launch._RANKS, *(name for names in launch._WITHOUT_MPI for name in names[:2])):
        monkeypatch.delenv(name, raising=False)
    launch.this_process.cache_clear()
    yield
    launch.this_process.cache_clear()


@pytest.mark.parametrize(
    ("variables", "started"),
    [
        ({}, 0),
        ({"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"}, 1),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}, 2),
        ({"PMI_SIZE": "4", "PMI_RANK": "0"}, 4),
        ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "4"}, 0),  # srun without MPI
        ({"SLURM_STEP_NUM_TASKS": "4", "PMIX_RANK": "1"}, 4),  # srun --mpi=pmix
        ({"SLURM_STEP_NUM_TASKS": "1", "PMIX_RANK": "0"}, 1),
        # mpirun -n 1 in a job of four machines, on each of which srun has started a daemon of Open MPI
        ({"SLURM_STEP_NUM_TASKS": "4", "PMIX_RANK": "0", "OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1"}, 1),
    ],
)
def test_the_variables_of_launchers(monkeypatch, variables, started):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert launch._started() == started
    first = all(variables.get(name, "0") == "0" for name in launch._RANKS)
    assert launch.is_first() == first


TORCHRUN = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "none"}
SRUN = {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2"}


@pytest.mark.parametrize("variables", [TORCHRUN, SRUN], ids=["torchrun", "srun"])
def test_a_launcher_without_mpi_is_refused(tmp_path, monkeypatch, capsys, variables):
    (tmp_path / "text").write_text("a b c\nd e f\n" * 20)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    output = tmp_path / "out"
    assert main(["train", "--task=lm", f"--data={tmp_path / 'text'}", f"--output={output}"]) == 2
    error = capsys.readouterr().err
    assert "started 2 processes without MPI" in error
    assert "use mpirun -n 2 COMMAND" in error
    assert len(error.splitlines()) == 1
    with pytest.raises(ValueError, match="use mpirun -n 2 COMMAND"):
        Trainer(model_of(), output=str(output)).fit(pairs_of(np.random.default_rng(0), 8))
    assert not output.exists()


@pytest.mark.parametrize(
    "variables",
    [
        {**TORCHRUN, "RANK": "0", "WORLD_SIZE": "1"},
        {**SRUN, "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"},
        {"SLURM_PROCID": "0", "SLURM_NTASKS": "4"},  # the script of a job, which is one process
        {"WORLD_SIZE": "4"},
        {"RANK": "0", "WORLD_SIZE": "many"},
    ],
)
def test_a_launcher_of_one_process_is_none(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert launch.this_process() is ALONE


def test_another_mpi_than_the_launchers_is_refused(monkeypatch):
    """mpirun of one MPI and mpi4py of another: each process would be the only rank of a world of its own."""
    monkeypatch.setenv("PMI_RANK", "0")
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setattr("dragoman.distributed.mpi.MPIRanks", lambda timeout: ALONE)
    with pytest.raises(ValueError, match="started 2 processes, but mpi4py finds one"):
        launch.this_process()


def test_an_error_that_only_another_rank_has_is_printed(monkeypatch, capsys):
    """Before the ranks know of each other. Where the first has it too, the launcher ends the others in that second."""
    waited = []
    monkeypatch.setattr(launch.time, "sleep", waited.append)
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    assert main(["train", "--output"]) == 2
    assert capsys.readouterr().err.startswith("dragoman: on a rank that is not the first: ")
    assert waited == [1.0]


def test_a_rank_that_fails_goes_no_further(monkeypatch, capsys):
    """Where Abort returns, as MPICH's does."""
    aborted = []
    ranks = MPIRanks.__new__(MPIRanks)
    ranks.size = 2
    ranks._world = SimpleNamespace(Abort=aborted.append)
    monkeypatch.setattr("os._exit", sys.exit)
    with pytest.raises(SystemExit, match=r"^3$"), ranks.together():
        sys.exit(3)
    assert aborted == [3]
    assert capsys.readouterr().err == "dragoman: rank 0 of 2 ends the run: SystemExit: 3\n"


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
