"""MPIRanks: the processes that `mpirun` started, through mpi4py (extra `mpi`)."""

from __future__ import annotations

import ctypes
import json
import math
import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman import _core
from dragoman.distributed.nccl import NCCLLink
from dragoman.distributed.ranks import FIRST_PRINTS, Link, Part, Ranks, Transfer

TIMEOUT = 600.0  # seconds that a rank waits for another one
TIMEOUT_VARIABLE = "DRAGOMAN_MPI_TIMEOUT"
FAILED = 2  # the exit status of a run that an error has ended
INTERRUPTED = 130  # of one that Ctrl-C has ended

_QUICK = 1e-3  # seconds in which a rank polls without a pause
_PAUSE = 5e-5  # seconds between two polls after that
_PASSED_ON = 0.2  # seconds in which the launcher passes an error on, before it ends all


class _Requests:
    """Several nonblocking requests of MPI."""

    def __init__(self, mpi: Any, requests: list[Any]) -> None:
        self._testall = mpi.Request.Testall
        self._requests = requests

    def done(self) -> bool:
        return bool(self._testall(self._requests))


class MPIRanks(Ranks):
    """The processes of MPI's world, and the link between them for arrays on the CPU.

    Only the thread that made it may call it.

    Args:
        timeout: seconds that a rank waits for another one; then the run ends on all ranks.
    """

    def __init__(self, timeout: float = TIMEOUT) -> None:
        from mpi4py import MPI

        self._mpi = MPI
        self._world = MPI.COMM_WORLD
        self._timeout = timeout
        self._of_gpus: NCCLLink | None = None
        self.rank = self._world.Get_rank()
        self.size = self._world.Get_size()
        if self.size > 1:
            sys.excepthook = self._end

    def gather(self, value: Any, *, patient: bool = False) -> list[Any]:
        limit = math.inf if patient else self._timeout
        content = np.frombuffer(json.dumps(value).encode(), np.uint8)
        sizes = np.empty(self.size, np.int64)
        self._complete(self._world.Iallgather(np.array([content.size], np.int64), sizes), limit)
        contents = np.empty(int(sizes.sum()), np.uint8)
        ends = np.cumsum(sizes)
        self._complete(
            self._world.Iallgatherv(content, [contents, (sizes.tolist(), (ends - sizes).tolist()), self._mpi.BYTE]),
            limit,
        )
        pieces = np.split(contents, ends[:-1])
        return [json.loads(piece.tobytes()) for piece in pieces]

    def link(self, device: str) -> Link:
        if device == "cpu":
            return self
        if self._of_gpus is None:
            self._of_gpus = NCCLLink(self)
        return self._of_gpus

    def transfer(self, sends: Sequence[Part], receives: Sequence[Part], tag: int) -> Transfer:
        requests = [self._world.Irecv(_array(tensor), rank, tag) for rank, tensor in receives]
        requests += [self._world.Isend(_array(tensor), rank, tag) for rank, tensor in sends]
        return _Requests(self._mpi, requests)

    def wait(self, transfers: Sequence[Transfer]) -> None:
        self._wait(transfers, self._timeout)

    @contextmanager
    def together(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            if isinstance(error, SystemExit) or not self.caller_reports:
                self._end(type(error), error, error.__traceback__)
            raise

    def _end(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """Ends all ranks after an error of a program. Outside `together` it is Python's hook for errors: without it,
        this process would wait in MPI_Finalize for the others."""
        if isinstance(error, SystemExit):
            message, status = f"SystemExit: {error}", error.code if isinstance(error.code, int) else FAILED
        else:
            where = "".join(traceback.format_exception(kind, error, trace))
            message = f"{traceback.format_exception_only(kind, error)[-1].strip()}\n{where}"
            status = INTERRUPTED if issubclass(kind, KeyboardInterrupt) else FAILED
        self.fail(message, status)

    def fail(self, message: str, status: int, *, printed: bool = False) -> None:
        if not self.first:
            time.sleep(FIRST_PRINTS)  # an error that all ranks have is printed once
        with suppress(OSError):
            if not printed:
                print(f"dragoman: rank {self.rank} of {self.size} ends the run: {message}", file=sys.stderr, flush=True)
        time.sleep(_PASSED_ON)
        self._world.Abort(status)
        os._exit(status)  # MPICH's Abort returns on some ranks

    def _complete(self, request: Any, limit: float) -> None:
        self._wait([_Requests(self._mpi, [request])], limit)

    def _wait(self, transfers: Sequence[Transfer], limit: float) -> None:
        began = time.monotonic()
        waiting = list(transfers)
        while waiting := [transfer for transfer in waiting if not transfer.done()]:
            waited = time.monotonic() - began
            if waited > limit:
                raise TimeoutError(f"no answer of another rank in {limit:g} seconds; {TIMEOUT_VARIABLE} sets the limit")
            if waited > _QUICK:
                time.sleep(_PAUSE)


def _array(tensor: _core.Tensor) -> npt.NDArray[np.float32]:
    """The memory of a float32 tensor on the CPU, for MPI to read or to write into."""
    memory: Any = (ctypes.c_char * tensor.nbytes).from_address(tensor.data_ptr)
    return np.frombuffer(memory, np.float32)
