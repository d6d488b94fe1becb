"""Trains the tiny preset on Multi30k English-German by the command line, and measures BLEU on test_2016_flickr.

    python bench/multi30k.py --data DATA --output DIR [--epochs 60]

DATA holds train, val and test_2016_flickr, each as .en.gz and .de.gz. The model goes to DIR; where one stands there
already, it is measured as it is. The figures, with the commands that gave them, go to bench/results/multi30k.json, and
the training log beside it to multi30k.jsonl.
"""

import argparse
import json
import shlex
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from machine import ROOT, machine

RESULTS = ROOT / "bench" / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the Multi30k files")
    parser.add_argument("--output", type=Path, required=True, help="folder of the model")
    parser.add_argument("--epochs", type=int, default=60, help="of training")
    arguments = parser.parse_args()

    def pair(name: str) -> list[str]:
        return [str(arguments.data / f"{name}.{language}.gz") for language in ("en", "de")]

    folder = str(arguments.output)
    (source, target), (valid_source, valid_target), test = map(pair, ("train", "val", "test_2016_flickr"))
    train = ["train", "--source", source, "--target", target]
    train += ["--valid-source", valid_source, "--valid-target", valid_target]
    train += ["--output", folder, "--preset", "tiny", "--epochs", str(arguments.epochs)]
    evaluate = ["evaluate", folder, "--source", test[0], "--target", test[1], "--beam", "5"]

    if not (arguments.output / "model.safetensors").exists():
        run(train)
    scores = json.loads(run(evaluate).splitlines()[-1])

    log = Path(folder, "log.jsonl")
    records = [json.loads(line) for line in log.read_text().splitlines()]
    steps = [record for record in records if "tokens_per_s" in record]
    result = {
        "bench": "multi30k",
        "commands": [
            shlex.join(["dragoman", *command]).replace(str(arguments.data), "DATA").replace(folder, "DIR")
            for command in (train, evaluate)
        ],
        "test_2016_flickr": scores,
        "tokens_per_s": round(statistics.median(record["tokens_per_s"] for record in steps)),
        "steps": steps[-1]["step"],
        "epochs": steps[-1]["epoch"],
        "training_seconds": round(steps[-1]["seconds"], 1),
        **machine(),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "multi30k.json").write_text(json.dumps(result, indent=2) + "\n")
    shutil.copyfile(log, RESULTS / "multi30k.jsonl")
    print(json.dumps(result))


def run(arguments: list[str]) -> str:
    """Runs a dragoman command, its progress on standard error; returns its standard output."""
    command = [sys.executable, "-m", "dragoman", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
