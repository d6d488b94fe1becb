"""Trains and measures a task by the command line: one row of the table in docs/inside/benchmarks.md.

    python bench/tasks.py ROW --data DATA --output DIR [--seeds 0 1 2] [--threads 2]

    sentiment   nsmc/{train,dev,test}.tsv.gz: Korean reviews, label TAB text; masked tokens of the same texts first
    few         the same with the first 2,000 labels, with a body from masked tokens of the text and without
    upos        ud-english-ewt/{train,dev,test}.tsv.gz: word TAB tag
    digits      scikit-learn's digits, shuffled once: 1,197 for training, 200 for validation, 400 for the test
    characters  multi30k/{train,val,test_2016_flickr}.en.gz: a GPT of characters beside a 5-gram

DATA holds these folders. Models go to DIR; a finished one is measured as it is, an interrupted one is resumed.
Validation sets choose the weights; the test set is read once. The last line is JSON: the figures with the commands
that gave them.
"""

import argparse
import gzip
import json
import statistics
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import ngram
import numpy as np
from commands import finished, records, run, score, shown
from machine import machine

RELATIVE = "--batch-tokens 2048 --model-option positions=relative"
MASKED = "--task mlm --columns 2 --vocab-size 3000 --mask-ratio 0.4 --lr 2e-3 --warmup 300 --schedule linear "
MASKED += f"--dropout 0 --epochs 20 {RELATIVE}"
SENTIMENT = "--task classify --columns label,text --lr 7e-4 --dropout 0.2 --epochs 3 --batch-tokens 2048"
FEW = "--task classify --columns label,text --lr 5e-4 --dropout 0.2 --epochs 10 --batch-tokens 1024"
ALONE = "--task classify --columns label,text --vocab-size 3000 --dropout 0.2 --epochs 15 --batch-tokens 1024 "
ALONE += "--model-option positions=relative"
UPOS = f"--task tag --vocab-size 800 --lr 2e-3 --dropout 0.2 --token-dropout 0.05 --epochs 12 {RELATIVE}"
DIGITS = "--task image --image-size 8 --channels 1 --lr 2e-3 --dropout 0.1 --epochs 60 --batch-tokens 512 "
DIGITS += "--model-option d_model=64 d_ff=128 num_layers=3"
CHARACTERS = "--task lm --tokenizer char --lr 2e-3 --warmup 300 --schedule linear --dropout 0 --epochs 2 "
CHARACTERS += "--batch-tokens 1024 --model-option norm_first=true norm=rms activation=silu gated=true positions=rotary"
LABELLED = 2000

Figures = dict[str, Any]


class Runs:
    """Trainings of one seed: their commands and their seconds.

    Args:
        data, output: folders; None where the data come from elsewhere.
        options: of every training.
        seed: of every training.
    """

    def __init__(self, data: Path | None, output: Path, options: list[str], seed: int) -> None:
        self.output = output
        self.commands: list[str] = []
        self.seconds: dict[str, float] = {}
        self._places = {output: "DIR"} if data is None else {data: "DATA", output: "DIR"}
        self._options = options
        self._seed = seed

    def train(self, name: str, recipe: str, files: list[Path], body: Path | None = None) -> Path:
        """Trains on the first file, with the second for validation; returns the model's folder."""
        more = ["--seed", str(self._seed), *([] if body is None else ["--from", str(body)])]
        return self._train(f"{name}-{self._seed}", recipe, files, more)

    def pretrain(self, recipe: str, files: list[Path]) -> Path:
        """As `train`, once for all seeds."""
        return self._train("masked", recipe, files, [])

    def scores(self, folder: Path, test: Path, name: str = "accuracy") -> Figures:
        """A score of the final weights, in validation and of the test set."""
        arguments = ["evaluate", str(folder), "--data", str(test)]
        self.commands.append(shown(arguments, self._places))
        return {"validation": round(records(folder)[-1][f"valid_{name}"], 4), "test": score(arguments)[name]}

    def _train(self, name: str, recipe: str, files: list[Path], more: list[str]) -> Path:
        folder = self.output / name
        arguments = ["train", *recipe.split(), "--data", str(files[0]), "--valid", str(files[1]), *self._options]
        arguments += [*more, "--output", str(folder)]
        if not finished(folder):
            run([*arguments, *(["--resume"] if (folder / "checkpoints").exists() else [])])
        self.seconds[name] = [record["seconds"] for record in records(folder) if "seconds" in record][-1]
        self.commands.append(shown(arguments, self._places))
        return folder


def sentiment(runs: Runs, data: Path) -> Figures:
    train, valid, test = tables(data / "nsmc")
    body = runs.pretrain(MASKED, [train, valid])
    return runs.scores(runs.train("sentiment", SENTIMENT, [train, valid], body), test)


def few(runs: Runs, data: Path) -> Figures:
    train, valid, test = tables(data / "nsmc")
    labelled = runs.output / "few.tsv"
    with gzip.open(train, "rt", encoding="utf-8") as lines:
        labelled.write_text("".join(islice(lines, LABELLED)), encoding="utf-8")
    body = runs.pretrain(MASKED, [train, valid])
    pretrained = runs.scores(runs.train("few", FEW, [labelled, valid], body), test)
    alone = runs.scores(runs.train("alone", ALONE, [labelled, valid]), test)
    return {**pretrained, "without": alone, "points": round(pretrained["test"] - alone["test"], 2)}


def upos(runs: Runs, data: Path) -> Figures:
    train, valid, test = tables(data / "ud-english-ewt")
    return runs.scores(runs.train("upos", UPOS, [train, valid]), test)


def digits(runs: Runs, data: Path) -> Figures:
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    files = []
    for name, part in zip(("train", "valid", "test"), np.split(order, [1197, 1397]), strict=True):
        files.append(runs.output / f"{name}.npz")
        np.savez(files[-1], images=found.images[part] / 16, labels=found.target[part])
    return runs.scores(runs.train("digits", DIGITS, files[:2]), files[2])


def characters(runs: Runs, data: Path) -> Figures:
    train, valid, test = (data / "multi30k" / f"{name}.en.gz" for name in ("train", "val", "test_2016_flickr"))
    folder = runs.train("characters", CHARACTERS, [train, valid])
    baselines = [ngram.measure(*map(str, (train, valid, test)), order) for order in (5, 8)]
    return {**runs.scores(folder, test, "bits_per_character"), "ngrams": baselines}


def tables(folder: Path) -> list[Path]:
    return [folder / f"{name}.tsv.gz" for name in ("train", "dev", "test")]


ROWS: dict[str, Callable[[Runs, Path], Figures]] = {
    row.__name__: row for row in (sentiment, few, upos, digits, characters)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("row", choices=ROWS)
    parser.add_argument("--data", type=Path, help="folder of the corpora; digits needs none")
    parser.add_argument("--output", type=Path, required=True, help="folder of the models")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.data is None and arguments.row != "digits":
        parser.error(f"{arguments.row} needs --data")

    arguments.output.mkdir(parents=True, exist_ok=True)
    options = ["--compute-dtype", "bfloat16", "--threads", str(arguments.threads)]
    measured = []
    for seed in arguments.seeds:
        runs = Runs(arguments.data, arguments.output, options, seed)
        figures = ROWS[arguments.row](runs, arguments.data)
        measured.append({"seed": seed, **figures, "training_seconds": runs.seconds, "commands": runs.commands})
    mean = round(statistics.mean(each["test"] for each in measured), 4)
    result = {"bench": "tasks", "row": arguments.row, "test_mean": mean, "runs": measured}
    print(json.dumps(result | {"threads": arguments.threads, **machine()}))


if __name__ == "__main__":
    main()
