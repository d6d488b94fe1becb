"""Runs of several ranks for tests: mpirun of distributed/rank_program.py, and what a run has written."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

MPIRUN = shutil.which("mpirun", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
PROGRAM = Path(__file__).parent / "distributed" / "rank_program.py"
ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
BATCHES = 6  # of a step


def start(ranks, output, environment=None, **options):
    options = {"batches": BATCHES, "steps": 6, "output": str(output), **options}
    command = [sys.executable, str(PROGRAM), json.dumps(options)]
    if ranks > 1:
        command = [MPIRUN, "-n", str(ranks), "--oversubscribe", "--bind-to", "none", *command]
    environment = {**os.environ, **ROOT, "OMP_NUM_THREADS": "1", **(environment or {})}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


def files(folder):
    """The bytes of everything that a run wrote, its log without times."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.safetensors")}
    for name in [name for name in found if name.startswith("checkpoints")]:
        size = int.from_bytes(found[name][:8], "little")
        header, found[name] = json.loads(found[name][8 : 8 + size]), found[name][8 + size :]
        state = json.loads(header["__metadata__"]["state"])
        del state["position"]["seconds"], state["sums"]["seconds"]
        found[f"state of {name}"] = state
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    found["log"] = [{k: v for k, v in line.items() if k not in ("seconds", "tokens_per_s")} for line in lines]
    return found
