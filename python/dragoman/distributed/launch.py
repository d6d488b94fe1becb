"""Which ranks this process belongs to: found in the variables that launchers set."""

from __future__ import annotations

import os
from functools import cache

from dragoman.distributed.ranks import ALONE, Ranks

NO_EXTRA = "training on several ranks needs the extra: pip install 'dragoman[mpi]'"

# Variables that hold the number of processes: Open MPI's, MPICH's and Intel MPI's; Slurm's beside one of _RANKS.
_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS")
_SLURM_SIZE = "SLURM_STEP_NUM_TASKS"

_RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK")


def is_first() -> bool:
    """Whether this process is the first rank, or was started by itself. MPI is not needed to know it."""
    return all(os.environ.get(name, "0") == "0" for name in _RANKS)


def leave(message: str, status: int, *, printed: bool) -> None:
    """Ends all ranks, if this process is one of several, and prints the message unless it is `printed`."""
    if this_process.cache_info().currsize:
        this_process().fail(message, status, printed=printed)


def _several() -> bool:
    """Whether the launcher has started more than one process for MPI. `srun` sets its own size without MPI, too."""
    names = [*_SIZES, _SLURM_SIZE] if any(name in os.environ for name in _RANKS) else _SIZES
    return any(os.environ.get(name, "1") not in ("0", "1") for name in names)


@cache
def this_process() -> Ranks:
    """The ranks that `mpirun`, or `srun` with an MPI plugin, started together; `ALONE` for a process by itself.

    Raises:
        ModuleNotFoundError: several were started, and mpi4py (extra `mpi`) is missing.
        ValueError: the time limit in DRAGOMAN_MPI_TIMEOUT is no number above 0.
    """
    if not _several():
        return ALONE
    try:
        from dragoman.distributed.mpi import TIMEOUT, TIMEOUT_VARIABLE, MPIRanks
    except ModuleNotFoundError:
        raise ModuleNotFoundError(NO_EXTRA) from None
    text = os.environ.get(TIMEOUT_VARIABLE, str(TIMEOUT))
    try:
        timeout = float(text)
    except ValueError:
        timeout = -1.0
    if not 0 < timeout < 1e6:
        raise ValueError(f"{TIMEOUT_VARIABLE} must be a number of seconds above 0, got {text}")
    try:
        ranks = MPIRanks(timeout)
    except ModuleNotFoundError:
        raise ModuleNotFoundError(NO_EXTRA) from None
    return ranks if ranks.size > 1 else ALONE
