"""`dragoman train --from`: what it takes from a trained model, its defaults, and the options that it refuses."""

import json
import tomllib

import dragoman as dg
import numpy as np
import pytest
from dragoman.cli import main
from dragoman.train.fine_tuning import fine_tuning_defaults

pytest.importorskip("tokenizers")

LETTERS = "abcdefgh"


def pairs_of(count, seed):
    """Words and the same letters, backwards and in upper case."""
    rng = np.random.default_rng(seed)
    words = ["".join(rng.choice([*LETTERS], rng.integers(2, 5))) for _ in range(count)]
    return [(word, word[::-1].upper()) for word in words]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for name, count, seed in (("train", 600, 0), ("valid", 60, 1)):
        sources, targets = zip(*pairs_of(count, seed), strict=True)
        (folder / f"{name}.source").write_text("\n".join(sources) + "\n")
        (folder / f"{name}.target").write_text("\n".join(targets) + "\n")
    sides = ("source", "target")
    return [f"--{side}={folder}/train.{side}" for side in sides] + [
        f"--valid-{side}={folder}/valid.{side}" for side in sides
    ]


@pytest.fixture(scope="module")
def trained(files, tmp_path_factory):
    """A translator that knows the task."""
    folder = tmp_path_factory.mktemp("models") / "trained"
    sizes = ["--model-option", "d_model=32", "d_ff=64", "num_heads=2", "num_encoder_layers=1", "num_decoder_layers=1"]
    more = ["--tokenizer=char", "--vocab-size=64", "--threads=1", "--dropout=0", "--label-smoothing=0", "--seed=1"]
    limits = ["--epochs=40", "--lr=0.01", "--warmup=40", "--batch-tokens=256", "--final=last", "--schedule=linear"]
    assert main(["train", *files, f"--output={folder}", *sizes, *more, *limits]) == 0
    return folder


def validation_losses(folder):
    records = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [record["valid_loss"] for record in records if "valid_loss" in record]


def train(files, body, output, *more):
    return main(["train", *files, f"--from={body}", f"--output={output}", "--threads=1", *more])


def test_its_defaults_do_not_destroy_a_model(files, trained, tmp_path):
    """With the peak of a new model, 16 times as high, the same run forgets."""
    before = validation_losses(trained)[-1]
    more = ["--dropout=0", "--label-smoothing=0", "--batch-tokens=256"]
    assert train(files, trained, tmp_path / "tuned", *more) == 0
    assert train(files, trained, tmp_path / "new", "--lr=0.02", *more) == 0
    tuned, new = (max(validation_losses(tmp_path / name)) for name in ("tuned", "new"))
    assert tuned < 1.2 * before
    assert new > 2 * before


def test_its_defaults(files, trained, tmp_path):
    assert train(files, trained, tmp_path / "one", "--batch-tokens=4096") == 0
    options = tomllib.loads((tmp_path / "one" / "train.toml").read_text())
    expected = {"lr": 0.04 / 32, "warmup": 200, "schedule": "linear", "epochs": 3}
    assert fine_tuning_defaults(32) == expected
    assert {name: options[name] for name in expected} == expected
    assert {"preset", "vocab_size", "tokenizer"}.isdisjoint(options)
    config, other = dg.load(trained).config, dg.load(tmp_path / "one").config
    assert (other.d_model, other.vocab_size) == (config.d_model, config.vocab_size)
    assert main(["train", f"--config={tmp_path}/one/train.toml", f"--output={tmp_path}/two", "--steps=1"]) == 0
    options = tomllib.loads((tmp_path / "two" / "train.toml").read_text())
    assert (options["epochs"], options["steps"], options["warmup"]) == (3, 1, 200)
    assert train(files, trained, tmp_path / "three", "--minutes=0.001", "--lr=0.002", "--warmup=5") == 0
    options = tomllib.loads((tmp_path / "three" / "train.toml").read_text())
    assert (options["lr"], options["warmup"], options["schedule"]) == (0.002, 5, "inverse_sqrt")
    assert "epochs" not in options


def test_it_is_resumed_without_the_folder(files, trained, tmp_path):
    body, output = tmp_path / "body", tmp_path / "new"
    trained.rename(body)
    try:
        assert train(files, body, output, "--steps=1") == 0
    finally:
        body.rename(trained)
    assert main(["train", *files, f"--output={output}", "--resume", "--steps=2", "--threads=1"]) == 0


@pytest.mark.parametrize(
    ("option", "has"),
    [
        ("--preset tiny", "its own sizes"),
        ("--vocab-size 300", "its own vocabulary"),
        ("--tokenizer char", "its own vocabulary"),
        ("--lowercase", "its own vocabulary"),
    ],
)
def test_options_of_a_new_model_are_refused(files, trained, tmp_path, capsys, option, has):
    assert train(files, trained, tmp_path / "new", *option.split()) == 2
    name = option.split()[0]
    expected = f"dragoman train: {name} does not go with --from: the model in {trained} has {has}\n"
    assert capsys.readouterr().err == expected
    assert not (tmp_path / "new").exists()


def test_languages_without_effect_are_refused(files, trained, tmp_path, capsys):
    assert main(["train", *files, f"--output={tmp_path / 'new'}", "--source-language=en"]) == 2
    assert "--source-language needs --from, a model that knows several languages" in capsys.readouterr().err
    labels = ["--task=classify", f"--data={tmp_path / 'x'}", "--target-language=fr"]
    assert main(["train", *labels, f"--from={trained}", f"--output={tmp_path / 'new'}"]) == 2
    assert "--target-language does not belong to --task classify" in capsys.readouterr().err


def test_images_have_the_size_of_the_model(tmp_path, capsys):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", images=rng.integers(0, 255, (20, 8, 8), np.uint8), labels=["a", "b"] * 10)
    files = ["--task=image", f"--data={tmp_path / 'data.npz'}", "--steps=1", "--threads=1"]
    assert main(["train", *files, f"--output={tmp_path / 'one'}", "--image-size=8", "--channels=1"]) == 0
    assert main(["train", *files, f"--output={tmp_path / 'two'}", f"--from={tmp_path / 'one'}"]) == 0
    assert dg.load(tmp_path / "two").config == dg.load(tmp_path / "one").config
    capsys.readouterr()
    for more, expected in (
        ([f"--from={tmp_path / 'one'}", "--patch-size=2"], "--patch-size does not go with --from: the model in"),
        (["--vocab-size=300"], "--vocab-size does not belong to --task image"),
        (["--tokenizer=char"], "--tokenizer does not belong to --task image"),
    ):
        assert main(["train", *files, f"--output={tmp_path / 'three'}", *more]) == 2
        assert expected in capsys.readouterr().err
    assert not (tmp_path / "three").exists()
