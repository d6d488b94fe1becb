"""What `dragoman train` takes for options that are not given, by preset and task."""

import tomllib

import dragoman as dg
import pytest
from dragoman.cli import main
from dragoman.cli.presets import PAIRS

pytest.importorskip("tokenizers")

SMALL = ["--threads=1", "--model-option", "d_model=16", "d_ff=16", "num_heads=2"]


@pytest.fixture
def train(tmp_path):
    (tmp_path / "en").write_text("a b c\nc d\n" * 20)
    (tmp_path / "de").write_text("x y z\nz u\n" * 20)

    def run(name, *more):
        """Trains; returns the options in effect and the config."""
        files = [f"--source={tmp_path / 'en'}", f"--target={tmp_path / 'de'}", f"--output={tmp_path / name}"]
        assert main(["train", *files, *SMALL, *more]) == 0
        return tomllib.loads((tmp_path / name / "train.toml").read_text()), dg.load(tmp_path / name).config

    return run


def test_a_tiny_translator_has_defaults_of_its_own(train):
    options, config = train("out", "--steps=2")
    assert {name: options[name] for name in PAIRS["tiny"]} == PAIRS["tiny"]
    assert config.norm_first and config.dropout == config.embedding_dropout == 0.2


def test_what_is_given_counts(train):
    options, config = train("out", "--steps=2", "--lr=1e-4", "--vocab-size=70", "--dropout=0.3", "--schedule=linear")
    assert (options["lr"], options["vocab_size"], options["schedule"]) == (1e-4, 70, "linear")
    assert (config.dropout, config.embedding_dropout) == (0.3, 0.3)


def test_other_presets_and_tasks_do_not_have_them(train):
    for name, more in (("small", ["--preset=small"]), ("summary", ["--task=summarise"])):
        options, _ = train(name, "--steps=2", *more)
        assert (options["batch_tokens"], options["vocab_size"], options["warmup"]) == (4096, 10000, 2000)


def test_a_trained_model_goes_on_with_the_usual_options(train, tmp_path):
    train("out", "--steps=2")
    assert train("again", "--steps=2", f"--from={tmp_path / 'out'}")[0]["batch_tokens"] == 4096
