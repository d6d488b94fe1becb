"""Which ranks this process belongs to: found in the variables that launchers set."""

from __future__ import annotations

import os
import sys
import time
from functools import cache

from dragoman.distributed.ranks import ALONE, FIRST_PRINTS, Ranks

NO_EXTRA = "training on several ranks needs the extra: pip install 'dragoman[mpi]'"

# What launchers of MPI set: Open MPI, MPICH and Intel MPI; MPI_LOCALNRANKS counts the ranks of this machine.
_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS")
_RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK")

_SLURM_SIZE = "SLURM_STEP_NUM_TASKS"  # set by srun, with MPI and without

# What launchers without MPI set (a process's number, how many there are), who they are, and what to use instead.
_WITHOUT_MPI = (
    ("SLURM_PROCID", _SLURM_SIZE, "srun", "mpirun -n {} COMMAND in the script of the job, or srun --mpi=pmix"),
    ("RANK", "WORLD_SIZE", "torchrun, accelerate launch or the like", "mpirun -n {} COMMAND"),
)


def is_first() -> bool:
    """Whether this process is the first rank, or was started by itself. MPI is not needed to know it."""
    return all(os.environ.get(name, "0") == "0" for name in _RANKS)


def leave(message: str, status: int, *, printed: bool) -> None:
    """Ends all ranks, if this process is one of several, and prints the message unless it is `printed`."""
    if this_process.cache_info().currsize:
        this_process().fail(message, status, printed=printed)
    elif not printed and not is_first():
        time.sleep(FIRST_PRINTS)  # where the first has the same error, the launcher ends this one meanwhile
        print(f"dragoman: on a rank that is not the first: {message}", file=sys.stderr, flush=True)


def _number(name: str) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else 0


def _started() -> int:
    """The number of processes that a launcher of MPI has started together; 0 without one."""
    names = [*_SIZES, _SLURM_SIZE] if any(name in os.environ for name in _RANKS) else _SIZES
    return next((number for name in names if (number := _number(name))), 0)


def _check_without_mpi() -> None:
    """ValueError if a launcher has started several processes, each of which would think that it trains alone."""
    for rank, name, launcher, instead in _WITHOUT_MPI:
        if rank in os.environ and (number := _number(name)) > 1:
            raise ValueError(
                f"{launcher} started {number} processes without MPI, as {name} says, and each would train alone: use "
                f"{instead.format(number)}; unset {name} for runs that are independent"
            )


@cache
def this_process() -> Ranks:
    """The ranks that `mpirun`, or `srun` with an MPI plugin, started together; `ALONE` for a process by itself.

    Raises:
        ModuleNotFoundError: several were started, and mpi4py (extra `mpi`) is missing.
        ValueError: several were started without MPI, or by another MPI than mpi4py's; the time limit in
            DRAGOMAN_MPI_TIMEOUT is no number above 0.
    """
    started = _started()
    if not started:
        _check_without_mpi()
    if started < 2:
        return ALONE
    try:
        from dragoman.distributed.mpi import TIMEOUT, TIMEOUT_VARIABLE, MPIRanks
    except ModuleNotFoundError:
        raise ModuleNotFoundError(NO_EXTRA) from None
    text = os.environ.get(TIMEOUT_VARIABLE) or str(TIMEOUT)
    try:
        timeout = float(text)
    except ValueError:
        timeout = -1.0
    if not 0 < timeout < 1e6:
        raise ValueError(f"{TIMEOUT_VARIABLE} must be a number of seconds in (0, 1e6), got {text}")
    try:
        ranks = MPIRanks(timeout)
    except ModuleNotFoundError:
        raise ModuleNotFoundError(NO_EXTRA) from None
    if ranks.size == 1:
        raise ValueError(
            f"the launcher started {started} processes, but mpi4py finds one: both must belong to the same MPI, and "
            "srun needs the --mpi that this MPI was built for"
        )
    return ranks
