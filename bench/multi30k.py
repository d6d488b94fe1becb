"""Trains the tiny preset on Multi30k English-German by the command line, and measures BLEU on test_2016_flickr.

    python bench/multi30k.py --data DATA --output DIR [--recipe NAME] [--seeds 0 1 2] [--compute-dtype bfloat16]
        [--compute-type float32 bfloat16 int8]

DATA holds train, val and test_2016_flickr, each as .en.gz and .de.gz. The model of a seed goes to DIR/SEED; a finished
one is measured as it is, a run that was stopped goes on. Weights and length penalty are chosen by the validation set;
the test set is translated once, or once in each `--compute-type`, with the same length penalty. BLEU is that of Wu et
al. 2021 (arXiv:2105.14462): translation and reference are normalised and tokenised by sacremoses and in lower case;
sacreBLEU takes them as they are. Needs `pip install --group bench`. The last line is JSON: the figures, with the
commands that gave them.
"""

import argparse
import gzip
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import sacrebleu
from commands import records, run, shown
from machine import machine
from sacremoses import MosesPunctNormalizer, MosesTokenizer

WU = "--vocab-size 10000 --dropout 0.3 --batch-tokens 4096 --lr 5e-3 --warmup 2000 --model-option norm_first=false"
RECIPES = {  # options of dragoman train, beside the preset
    "first": f"--epochs 60 {WU}",
    "short": f"--epochs 12 {WU}",  # enough to compare one dtype with the other
    "cased": "--epochs 40 --dropout 0.15 --lr 1.5e-3 --model-option norm_first=false",
    "half": "--epochs 30 --lowercase --schedule cosine",
    "best": "--epochs 60 --lowercase --dropout 0.3 --schedule cosine",
}
LENGTH_PENALTIES = (0.6, 1.0, 1.4, 1.8, 2.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the Multi30k files")
    parser.add_argument("--output", type=Path, required=True, help="folder of the models")
    parser.add_argument("--recipe", choices=RECIPES, default="best")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--compute-dtype", default="bfloat16", choices=["float32", "bfloat16"])
    types = ("float32", "bfloat16", "int8")
    parser.add_argument("--compute-type", nargs="+", choices=types, help="translate the test set in each of these")
    parser.add_argument("--length-penalties", type=float, nargs="+", default=LENGTH_PENALTIES, help="to choose from")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    parser.add_argument("--valid-only", action="store_true", help="leave the test set unread")
    arguments = parser.parse_args()

    result = {"bench": "multi30k", "recipe": arguments.recipe, "compute_dtype": arguments.compute_dtype}
    runs = []
    for seed in arguments.seeds:
        runs.append(measure(arguments, seed))
        print(f"seed {seed}: {runs[-1]}", file=sys.stderr)
    name = "validation_bleu" if arguments.valid_only else "test_2016_flickr"
    bleu = [max(run[name].values()) if arguments.valid_only else run[name]["bleu"] for run in runs]
    result |= {"bleu_mean": round(statistics.mean(bleu), 2), "bleu_range": [min(bleu), max(bleu)]}
    result |= {"runs": runs, **machine()}
    print(json.dumps(result))


def measure(arguments: argparse.Namespace, seed: int) -> dict[str, object]:
    """Trains, unless there is a model. Returns the figures of one seed."""
    folder = arguments.output / str(seed)
    threads = [] if arguments.threads is None else ["--threads", str(arguments.threads)]

    def pair(name: str) -> list[Path]:
        return [arguments.data / f"{name}.{language}.gz" for language in ("en", "de")]

    (source, target), valid, test = map(pair, ("train", "val", "test_2016_flickr"))
    train = ["train", "--source", str(source), "--target", str(target)]
    train += ["--valid-source", str(valid[0]), "--valid-target", str(valid[1])]
    train += ["--output", str(folder), "--preset", "tiny", *RECIPES[arguments.recipe].split(), "--seed", str(seed)]
    train += ["--compute-dtype", arguments.compute_dtype, *threads]

    def translate(penalty: float, *more: str) -> list[str]:
        return ["translate", str(folder), "--beam", "5", "--length-penalty", str(penalty), *threads, *more]

    log = records(folder) if (folder / "log.jsonl").exists() else []
    if not any("final" in record for record in log):
        run([*train, "--resume"] if any((folder / "checkpoints").glob("*")) else train)
    penalties = {
        penalty: score(run(translate(penalty), read(valid[0])), valid[1])["bleu"]
        for penalty in arguments.length_penalties
    }
    best = max(penalties, key=penalties.__getitem__)
    log = records(folder)
    steps = [record for record in log if "tokens_per_s" in record]
    places = {arguments.output: "DIR", arguments.data: "DATA"}
    result = {
        "seed": seed,
        "validation_bleu": penalties,
        "validation_loss": [record["valid_loss"] for record in log if "valid_loss" in record][-1],
        "tokens_per_s": round(statistics.median(record["tokens_per_s"] for record in steps)),
        "steps": steps[-1]["step"],
        "training_seconds": round(steps[-1]["seconds"], 1),
        "commands": [shown(command, places) for command in (train, translate(best))],
    }
    if not arguments.valid_only:
        types = arguments.compute_type or []
        options = [("--compute-type", name) for name in types] or [()]
        texts = [run(translate(best, *each), read(test[0])) for each in options]
        result["test_2016_flickr"] = {"length_penalty": best, **score(texts[0], test[1])}
        result["compute_types"] = {
            name: {**score(text, test[1]), "same_lines": sum(map(str.__eq__, text.splitlines(), texts[0].splitlines()))}
            for name, text in zip(types, texts, strict=False)
        }
    return result


def score(text: str, reference: Path, language: str = "de") -> dict[str, object]:
    """BLEU of lines as in Wu et al. 2021, and sacreBLEU's own without case."""
    lines = text.splitlines()
    references = read(reference).splitlines()
    found = sacrebleu.BLEU(tokenize="none", force=True)
    tokenised = moses(language)
    bleu = found.corpus_score(list(map(tokenised, lines)), [list(map(tokenised, references))])
    plain = sacrebleu.BLEU(lowercase=True)
    return {
        "sentences": len(lines),
        "beam": 5,
        "bleu": round(bleu.score, 2),
        "brevity_penalty": round(bleu.bp, 3),
        "bleu_signature": f"{found.get_signature()}, of sacremoses' tokens in lower case",
        "bleu_13a_lowercase": round(plain.corpus_score(lines, [references]).score, 2),
    }


def moses(language: str) -> Callable[[str], str]:
    """Normalises and tokenises text, in lower case."""
    normalizer, tokenizer = MosesPunctNormalizer(lang=language), MosesTokenizer(lang=language)
    return lambda text: tokenizer.tokenize(normalizer.normalize(text), escape=False, return_str=True).lower()


def read(path: Path) -> str:
    return gzip.decompress(path.read_bytes()).decode()


if __name__ == "__main__":
    main()
