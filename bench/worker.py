"""A system in a process of its own, which answers requests, a line of JSON each, and waits between them."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from machine import memory
from works import MODELS, Model

Answer = dict[str, Any]
Cell = dict[str, Any]  # what a figure is measured for, as fields of a request

REST = 0.2  # seconds before a turn, in which idle threads of the system before it may spin

# CTranslate2 is fastest so where there is AMX.
AMX = {"CT2_FORCE_CPU_ISA": "AVX512", "MKL_ENABLE_INSTRUCTIONS": "AVX512_E4"}


class Worker:
    """Runs `script`, which calls `serve`."""

    def __init__(
        self, script: str, system: str, folder: Path, model: str, dtype: str, threads: int, python: str = sys.executable
    ) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        if system.startswith("ctranslate2") and "amx_tile" in Path("/proc/cpuinfo").read_text():
            environment |= AMX
        if python != sys.executable:
            environment.pop("PYTHONPATH", None)
        self.system = system
        self._process = subprocess.Popen(
            [python, script, system, str(folder), model, dtype, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def ask(self, **request: Any) -> Answer | None:
        """None where the process has ended."""
        assert self._process.stdin and self._process.stdout
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            return None
        line = self._process.stdout.readline()
        return json.loads(line) if line else None

    def measure(self, **request: Any) -> Answer:
        """A turn of the system. The script ends where the process has ended."""
        time.sleep(REST)
        answer = self.ask(**request)
        if answer is None:
            sys.exit(f"{self.system}: its process has ended")
        return answer

    def end(self) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


@contextmanager
def started_workers() -> Iterator[list[Worker]]:
    """A list for workers, whose processes end with the block."""
    workers: list[Worker] = []
    try:
        yield workers
    finally:
        for worker in workers:
            worker.end()


def ask_in_turns(
    workers: Sequence[Worker], cells: Iterable[Cell], turns: Sequence[dict[str, Any]]
) -> dict[tuple[Any, ...], list[Answer]]:
    """The answers by the system and the values of the cell. A request holds a cell and the fields of a turn."""
    found: dict[tuple[Any, ...], list[Answer]] = {}
    for cell in cells:
        for turn in turns:
            for worker in workers:
                found.setdefault((worker.system, *cell.values()), []).append(worker.measure(**cell, **turn))
    return found


def serve(make: Callable[[str, Path, Model, str, int], Callable[..., Answer]]) -> None:
    """The process of a Worker: makes a function of requests from the command line, and answers."""
    parser = argparse.ArgumentParser()
    parser.add_argument("system")
    parser.add_argument("folder", type=Path)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("dtype")
    parser.add_argument("threads", type=int)
    arguments = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    answer = make(arguments.system, arguments.folder, MODELS[arguments.model], arguments.dtype, arguments.threads)
    for line in sys.stdin:
        print(
            json.dumps({**answer(**json.loads(line)), "peak_mib": memory("VmHWM") // 2**20}), file=answers, flush=True
        )
