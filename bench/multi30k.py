"""Trains the tiny preset on Multi30k English-German by the command line, and measures BLEU on test_2016_flickr.

    python bench/multi30k.py --data DATA --output DIR [--recipe NAME] [--seeds 0 1 2] [--compute-dtype bfloat16]

DATA holds train, val and test_2016_flickr, each as .en.gz and .de.gz. The model of a seed goes to DIR/SEED; where one
stands there already, it is measured as it is. Weights and length penalty are chosen by the validation set; the test set
is translated once. The last line is JSON: the figures, with the commands that gave them.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

from machine import machine

RECIPES = {  # options of dragoman train, beside the preset
    "first": "--epochs 60",
    "short": "--epochs 12",  # enough to compare one dtype with the other
    "best": "--epochs 40 --vocab-size 6000 --dropout 0.15 --batch-tokens 1024 --lr 1.5e-3 --warmup 1000",
}
LENGTH_PENALTIES = (0.6, 1.0, 1.4, 1.8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the Multi30k files")
    parser.add_argument("--output", type=Path, required=True, help="folder of the models")
    parser.add_argument("--recipe", choices=RECIPES, default="best")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--compute-dtype", default="bfloat16", choices=["float32", "bfloat16"])
    arguments = parser.parse_args()

    result = {"bench": "multi30k", "recipe": arguments.recipe, "compute_dtype": arguments.compute_dtype}
    runs = [measure(arguments, seed) for seed in arguments.seeds]
    bleu = [run["test_2016_flickr"]["bleu"] for run in runs]
    result |= {"bleu_mean": round(statistics.mean(bleu), 2), "bleu_range": [min(bleu), max(bleu)]}
    result |= {"runs": runs, **machine()}
    print(json.dumps(result))


def measure(arguments: argparse.Namespace, seed: int) -> dict[str, object]:
    """Trains, unless there is a model. Returns the figures of one seed."""
    folder = arguments.output / str(seed)

    def pair(name: str) -> list[str]:
        return [str(arguments.data / f"{name}.{language}.gz") for language in ("en", "de")]

    (source, target), valid, test = map(pair, ("train", "val", "test_2016_flickr"))
    train = ["train", "--source", source, "--target", target, "--valid-source", valid[0], "--valid-target", valid[1]]
    train += ["--output", str(folder), "--preset", "tiny", *RECIPES[arguments.recipe].split(), "--seed", str(seed)]
    train += ["--compute-dtype", arguments.compute_dtype]

    def evaluate(files: list[str], penalty: float) -> list[str]:
        options = ["--source", files[0], "--target", files[1], "--beam", "5", "--length-penalty", str(penalty)]
        return ["evaluate", str(folder), *options]

    if not (folder / "log.jsonl").exists():
        run(train)
    penalties = {penalty: score(evaluate(valid, penalty))["bleu"] for penalty in LENGTH_PENALTIES}
    best = max(penalties, key=penalties.__getitem__)
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    steps = [record for record in records if "tokens_per_s" in record]
    places = {str(arguments.data): "DATA", str(arguments.output): "DIR"}
    commands = [shlex.join(["dragoman", *command]) for command in (train, evaluate(test, best))]
    for path, name in places.items():
        commands = [command.replace(path, name) for command in commands]
    return {
        "seed": seed,
        "test_2016_flickr": score(evaluate(test, best)),
        "validation_bleu": penalties,
        "validation_loss": [record["valid_loss"] for record in records if "valid_loss" in record][-1],
        "tokens_per_s": round(statistics.median(record["tokens_per_s"] for record in steps)),
        "steps": steps[-1]["step"],
        "training_seconds": round(steps[-1]["seconds"], 1),
        "commands": commands,
    }


def score(command: list[str]) -> dict[str, float]:
    return json.loads(run(command).splitlines()[-1])


def run(arguments: list[str]) -> str:
    """Runs a dragoman command, its progress on standard error; returns its standard output."""
    command = [sys.executable, "-m", "dragoman", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
