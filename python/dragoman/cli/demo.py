"""The demo: learns to read dates in 25 languages and to write them in ISO 8601, and measures how many are right.

It uses only the public interface: TransformerConfig, Trainer, Translator and plot.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import numpy as np

from dragoman import plot
from dragoman.cli.demo_dates import FORMATS, LOCALES, make_corpus
from dragoman.cli.numbers import SEED
from dragoman.data.learning import with_bytes
from dragoman.data.pairs import source_ids
from dragoman.data.tokenizer import Tokenizer
from dragoman.data.vocabulary import SPECIALS, UNK
from dragoman.models.encoder_decoder import Transformer
from dragoman.models.special_ids import start_ids
from dragoman.models.transformer_config import TransformerConfig
from dragoman.predict.translator import Translator
from dragoman.random import manual_seed
from dragoman.train.progress import tell
from dragoman.train.trainer import Trainer

PAIRS = 200_000  # of training
TESTS = 200  # pairs a locale
HELD_OUT = 2_000  # days
VOCAB_SIZE = 1500
TRAINING: dict[str, Any] = {
    "epochs": 1,
    "batch_tokens": 1024,
    "lr": 2e-3,
    "warmup": 200,
    "schedule": "linear",
    "label_smoothing": 0.0,
    "checkpoint_every": 250,  # steps, each time with a validation
    "average": 1,
    "log_interval": 25,
}
FILES = {"model.safetensors", "config.json", "tokenizer.json", "log.jsonl", "loss.png", "attention.png"}  # it leaves
PICTURED = "en"  # its script is in every font
FULL = FORMATS.index("full")  # the place of a full date among a locale's test pairs
DESCRIPTION = """\
Learns in two minutes to read dates in 25 languages, made from CLDR without a download, and to write them by ISO
8601. Says how many it gets right of days it has never seen, draws the loss and what the model attends to, and leaves
a model in DIR. The last line of standard output is a JSON object with exact_match (0 to 100) and seconds.

example:
  dragoman demo && echo "en_GB 03/04/2020" | dragoman translate dragoman-demo
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output",
        default="dragoman-demo",
        metavar="DIR",
        help="folder of the model and the pictures, made where missing (default: dragoman-demo)",
    )
    parser.add_argument(
        "--seed", type=SEED, default=0, metavar="N", help="of data, weights and their order (default: 0)"
    )


def command(options: argparse.Namespace) -> None:
    """Dates in 25 languages."""
    run(options.output, seed=options.seed)


def run(output: str | Path, seed: int = 0) -> dict[str, Any]:
    """Trains, tests and draws. The last line of standard output is the returned dictionary as JSON.

    Args:
        output: folder for the model, log.jsonl, loss.png and attention.png; files of an earlier demo are replaced.
        seed: of the data, the weights and the order of training.

    Returns:
        "exact_match" (of all test pairs, 0 to 100), "worst_locale", "worst_exact_match", "seconds", and what was done.

    Raises:
        ModuleNotFoundError: without the libraries of the extra `demo`.
        OSError: an output that cannot be written.
        ValueError: an output with files of these names that are not an earlier demo's.
    """
    began = time.monotonic()
    _libraries()
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    found = FILES.intersection(path.name for path in output.iterdir())
    if found and found != FILES:
        raise ValueError(
            f"{output}: holds {', '.join(sorted(found))}, which the demo did not write; choose another --output"
        )
    tell(f"writing {PAIRS:,} dates in {len(LOCALES)} locales")
    corpus = make_corpus(PAIRS, TESTS, HELD_OUT, seed)
    tokenizer = make_tokenizer(line for pair in corpus.train for line in pair)
    manual_seed(seed)
    model = Transformer(make_config(tokenizer.vocab_size))
    with tempfile.TemporaryDirectory(prefix="training-", dir=output) as work:  # checkpoints that nobody resumes from
        Trainer(model, tokenizer=tokenizer, output=work, seed=seed, **TRAINING).fit(corpus.train, corpus.validation)
        (Path(work) / "log.jsonl").replace(output / "log.jsonl")
    model.save(output)
    tokenizer.save(output / "tokenizer.json")

    translator = Translator.load(output)
    print("locale   right   a sample, and what it was read from")
    shares = {
        locale: _test(translator, locale, pairs, number % len(FORMATS))
        for number, (locale, pairs) in enumerate(corpus.test.items())
    }
    plot.loss(output, output / "loss.png")
    draw_attention(translator, corpus.test[PICTURED][FULL], output / "attention.png")
    print(f"\n{output} holds the model, log.jsonl, loss.png and attention.png. Try it:")
    print(f'  echo "{corpus.test["ko"][FULL][0]}" | dragoman translate {output}\n')
    worst = min(shares, key=shares.__getitem__)
    result = {
        "exact_match": round(sum(shares.values()) / len(shares), 2),
        "worst_locale": worst,
        "worst_exact_match": round(shares[worst], 2),
        "locales": len(shares),
        "test_pairs": TESTS * len(shares),
        "train_pairs": PAIRS,
        "parameters": model.num_parameters(),
        "seed": seed,
        "seconds": round(time.monotonic() - began, 1),
    }
    print(json.dumps(result))
    return result


def make_config(vocab_size: int) -> TransformerConfig:
    """A model small enough to learn its task in two minutes."""
    return TransformerConfig(
        vocab_size=vocab_size,
        d_model=128,
        num_heads=4,
        d_ff=256,
        num_encoder_layers=3,
        num_decoder_layers=2,
        norm_first=True,
        max_length=64,
        dropout=0.0,
        embedding_dropout=0.0,
    )


def make_tokenizer(lines: Iterable[str]) -> Tokenizer:
    """Byte pairs that never join two digits and never cross a space, so a locale is one token and so is a digit.

    A character that is in no date is written as bytes.
    """
    tokenizers = _libraries()
    pre, space = tokenizers.pre_tokenizers, {"prepend_scheme": "never"}
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token=SPECIALS[UNK]))
    backend.normalizer = tokenizers.normalizers.NFC()
    backend.pre_tokenizer = pre.Sequence([pre.Metaspace(**space), pre.Digits(individual_digits=True)])
    options = {"special_tokens": list(SPECIALS), "show_progress": False}
    backend.train_from_iterator(lines, tokenizers.trainers.BpeTrainer(vocab_size=VOCAB_SIZE, **options))
    backend.model = with_bytes(tokenizers, json.loads(backend.to_str())["model"])
    decoders = tokenizers.decoders
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse(), decoders.Metaspace(**space)])
    return Tokenizer(backend)


def _test(translator: Translator, locale: str, pairs: list[tuple[str, str]], sample: int) -> float:
    """Translates the test pairs of a locale. Prints and returns the share that is right, in percent, with a sample."""
    outputs = translator([source for source, _ in pairs], beam=1)
    right = [output == target for output, (_, target) in zip(outputs, pairs, strict=True)]
    share = 100 * sum(right) / len(right)
    source, target = pairs[sample]
    wrong = "" if right[sample] else f"(wrong, {target}) "
    print(f"{locale:6} {share:5.1f} %   {outputs[sample]} {wrong}<- {source}")
    return share


def draw_attention(translator: Translator, pair: tuple[str, str], path: Path) -> None:
    """Draws the cross-attention of the last decoder layer, the mean of its heads, for the target of a pair."""
    model, tokenizer = cast(Transformer, translator.model), translator.tokenizer
    source = source_ids(tokenizer, [pair[0]])[0]
    target = tokenizer.encode(pair[1])
    weights = model.attention_weights(source, [*start_ids(model.config), *target])["cross"][-1]
    src, tgt = ([*(tokenizer.decode([id]).strip() or "␣" for id in ids), "</s>"] for ids in (source[:-1], target))
    layers, heads = model.config.num_decoder_layers, model.config.num_heads
    title = f"cross-attention of decoder layer {layers} of {layers}, mean of {heads} heads"
    plot.attention(np.mean(weights, axis=0), src, tgt, path, title=title)


def _libraries() -> Any:
    """The tokenizers library. Checks all libraries of the demo first, so that an error comes before training."""
    try:
        import babel  # noqa: F401
        import matplotlib  # noqa: F401
        import tokenizers
    except ModuleNotFoundError:
        raise ModuleNotFoundError("demo: needs the extra: pip install 'dragoman[demo]'") from None
    return tokenizers
