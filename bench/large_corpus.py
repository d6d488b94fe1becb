"""Memory of a training run over a corpus that is larger than memory.

Makes synthetic parallel text, trains a tiny model on it for some steps by the command line and says how large the
process has been: peak resident memory, mapped files included. The figures go to bench/results/large_corpus.json.

    python bench/large_corpus.py --gigabytes 5
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import ROOT, machine

BLOCK = 50_000  # pairs made at once
WORDS = 20_000
RESULTS = ROOT / "bench" / "results"


def make(folder: Path, size: int) -> int:
    """Writes source.txt and target.txt of `size` bytes together; returns the number of pairs."""
    rng = np.random.default_rng(0)
    letters = np.frombuffer(b"abcdefghijklmnoprstuvwz", "S1")
    words = [b"".join(rng.choice(letters, length)).decode() for length in rng.integers(2, 10, WORDS)]
    lists = np.array([" ".join(words[i] for i in rng.zipf(1.3, 8) % WORDS) for _ in range(100_000)])
    pairs = written = 0
    with open(folder / "source.txt", "w") as source, open(folder / "target.txt", "w") as target:
        while written < size:
            for file in (source, target):
                # One or two phrases of eight words a line.
                first, second = rng.choice(lists, BLOCK), rng.choice(lists, BLOCK)
                lines = [
                    f"{a} {b}\n" if i % 2 else f"{a}\n" for i, (a, b) in enumerate(zip(first, second, strict=True))
                ]
                written += file.write("".join(lines))
            pairs += BLOCK
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=0.05, help="of text, both sides together (default: 0.05)")
    parser.add_argument("--steps", type=int, default=20, help="of training (default: 20)")
    parser.add_argument("--folder", type=Path, help="for text and model, removed afterwards (default: a temporary one)")
    options = parser.parse_args()
    measured_on = machine()
    folder = Path(tempfile.mkdtemp(prefix="large_corpus", dir=options.folder))
    try:
        pairs = make(folder, int(options.gigabytes * 1e9))
        size = sum(path.stat().st_size for path in folder.glob("*.txt"))
        print(f"{size / 1e9:.2f} GB, {pairs:,} pairs", flush=True)
        command = [sys.executable, "-m", "dragoman", "train", f"--steps={options.steps}", "--vocab-size=8000"]
        for option, name in (("source", "source.txt"), ("target", "target.txt"), ("output", "model")):
            command.append(f"--{option}={folder / name}")
        began = time.monotonic()
        subprocess.run(command, check=True)
        seconds = time.monotonic() - began
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        result = {
            "bench": "large_corpus",
            "command": f"python bench/large_corpus.py --gigabytes {options.gigabytes:g} --steps {options.steps}",
            "bytes": size,
            "pairs": pairs,
            "seconds": round(seconds, 1),
            "peak_bytes": peak,
            **measured_on,
        }
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "large_corpus.json").write_text(json.dumps(result, indent=2) + "\n")
        print(json.dumps(result))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
