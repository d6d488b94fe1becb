"""Adapts an English-German model of bench/multi30k.py to German-English by LoRA, and measures BLEU before and after.

    python bench/adapt.py --data DATA --model DIR/0 --output ADAPTER [--rank 2] [--epochs 10] [--lr 5e-3]

The model stays as it is: only the adapters are trained, beside every Linear of its layers. The test set is translated
once before and once after. Then one batch holds each sentence in both directions, English with the plain model and
German with the adapter; the line says how many translations are those of the model with the adapter merged. The last
line is JSON.
"""

import argparse
import json
from pathlib import Path

import dragoman as dg
from dragoman.data.pairs import source_ids
from dragoman.data.text import read_parallel
from dragoman.generate import generate
from machine import machine
from multi30k import score

LINEARS = ("q_proj", "k_proj", "v_proj", "out_proj", "linear1", "linear2")
PENALTY = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the Multi30k files")
    parser.add_argument("--model", type=Path, required=True, help="folder of a model")
    parser.add_argument("--output", type=Path, required=True, help="folder of the adapter")
    parser.add_argument("--rank", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    parser.add_argument("--valid-only", action="store_true", help="measure on the validation set, the test set unread")
    arguments = parser.parse_args()
    if arguments.threads is not None:
        dg.set_num_threads(arguments.threads)

    files = {name: [arguments.data / f"{name}.{language}.gz" for language in ("de", "en")] for name in ("train", "val")}
    measured = "val" if arguments.valid_only else "test_2016_flickr"
    source, reference = (arguments.data / f"{measured}.{language}.gz" for language in ("de", "en"))
    german = [source for source, _ in read_parallel(source, reference)]
    english = [target for _, target in read_parallel(source, reference)]

    def bleu(model: dg.Transformer) -> dict[str, object]:
        model.eval()
        found = dg.Translator(model, tokenizer)(german, beam=5, length_penalty=PENALTY)
        return score("\n".join(found), reference, "en")

    model, tokenizer = dg.load(arguments.model), dg.Tokenizer.load(arguments.model / "tokenizer.json")
    size = model.num_parameters()
    before = bleu(model)
    dg.manual_seed(0)
    dg.lora.add(model, rank=arguments.rank, modules=LINEARS)
    trained = sum(parameter.size for parameter in model.parameters() if parameter.requires_grad)
    options = {"batch_tokens": 1024, "warmup": 200, "schedule": "cosine", "compute_dtype": "bfloat16"}
    trainer = dg.Trainer(model, tokenizer=tokenizer, lr=arguments.lr, epochs=arguments.epochs, **options)
    records = trainer.fit(read_parallel(*files["train"]), read_parallel(*files["val"]))
    dg.lora.save(model, arguments.output)
    model.compute_dtype = "float32"
    result = {"bench": "adapt", "from": "en-de", "to": "de-en", "measured": measured, "rank": arguments.rank}
    result |= {"trained": trained, "percent": round(100 * trained / size, 2), "epochs": arguments.epochs}
    result |= {"validation_loss": [record["valid_loss"] for record in records if "valid_loss" in record][-1]}
    result |= {
        "before": before,
        "after": bleu(model),
        "same_in_a_mixed_batch": mixed(model, tokenizer, english, german),
    }
    print(json.dumps(result | machine()))


def mixed(model: dg.Transformer, tokenizer: dg.Tokenizer, english: list[str], german: list[str]) -> str:
    """How many translations of a batch, with the adapter and without in turn, are those of two merged runs."""
    count = 50
    plain, turned = source_ids(tokenizer, english[:count]), source_ids(tokenizer, german[:count])

    def best(sources: list[list[int]]) -> list[list[int]]:
        return [found[0].ids for found in generate(model, sources, beam=5)]

    with dg.lora.using(model, [None, "default"] * count):
        together = best([ids for pair in zip(plain, turned, strict=True) for ids in pair])
    with dg.lora.using(model, None):
        alone = best(plain)
    dg.lora.merge(model)
    expected = [ids for pair in zip(alone, best(turned), strict=True) for ids in pair]
    return f"{sum(a == b for a, b in zip(together, expected, strict=True))} of {len(expected)}"


if __name__ == "__main__":
    main()
