"""`dragoman train --resume`: what the run was begun with stays, and another value is refused."""

import dragoman as dg
import pytest
from dragoman.cli import main

pytest.importorskip("tokenizers")

SMALL = ["--vocab-size=64", "--tokenizer=char", "--warmup=1", "--threads=1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "en").write_text("a b c\n" * 40)
    (folder / "de").write_text("x y z\n" * 40)
    return folder


def train(data, output, *more):
    files = [f"--source={data / 'en'}", f"--target={data / 'de'}", f"--output={output}"]
    return main(["train", *files, *more])


@pytest.fixture(scope="module")
def begun(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert train(data, folder, *SMALL, "--steps=2") == 0
    return folder


@pytest.mark.parametrize(
    "option, was",
    [
        ("--preset base", "with tiny"),
        ("--vocab-size 65", "with 64"),
        ("--tokenizer bpe", "with char"),
        ("--dropout 0.5", "without it"),
        ("--task seq2seq", "with translate"),
        ("--model-option norm=rms", "without it"),
        ("--task mlm", "with translate"),
        ("--pooling mean", "without it"),
        ("--token-dropout 0.1", "without it"),
        ("--shift 1", "without it"),
        ("--from other", "without it"),
        ("--lowercase", "without it"),
    ],
)
def test_another_value_is_refused(begun, data, option, was, capsys):
    before = {path: path.read_bytes() for path in begun.rglob("*") if path.is_file()}
    assert train(data, begun, "--resume", "--steps=3", *option.split()) == 2
    said = f"dragoman train: {option} does not go with --resume: the run in {begun} was begun {was}\n"
    assert capsys.readouterr().err == said
    assert {path: path.read_bytes() for path in begun.rglob("*") if path.is_file()} == before


def test_the_same_values_and_none_go_on(begun, data, capsys):
    assert main(["train", f"--config={begun / 'train.toml'}", f"--output={begun}", "--resume", "--steps=3"]) == 0
    assert train(data, begun, "--resume", "--steps=4", "--warmup=1", "--preset=tiny", "--task=translation") == 0
    assert train(data, begun, "--resume", "--steps=5", "--warmup=1") == 0
    assert "other options" not in capsys.readouterr().err


def test_the_task_need_not_be_named_again(data, tmp_path, capsys):
    (tmp_path / "text").write_text("a b c d e f\n" * 20)
    files = [f"--data={tmp_path / 'text'}", f"--output={tmp_path / 'run'}"]
    assert main(["train", "--task=mlm", "--mask-ratio=0.3", *files, *SMALL, "--steps=1"]) == 0
    assert main(["train", *files, "--resume", "--steps=2"]) == 0
    assert train(data, tmp_path / "run", "--resume", "--steps=3") == 2
    assert capsys.readouterr().err.endswith("dragoman train: --task mlm needs --data\n")


def test_a_run_from_python_has_its_own_model(data, tmp_path, capsys):
    tokenizer = dg.Tokenizer.train(["a b c", "x y z"], 64, "char")
    config = dg.TransformerConfig(
        vocab_size=tokenizer.vocab_size, d_model=16, num_heads=2, d_ff=24, num_encoder_layers=1, num_decoder_layers=1
    )
    output = tmp_path / "run"
    trainer = dg.Trainer(dg.Transformer(config), tokenizer=tokenizer, output=output, max_steps=1, lr=1e-3, warmup=1)
    trainer.fit([("a b c", "x y z")] * 40)
    assert train(data, output, "--resume", "--steps=2", "--preset=tiny") == 2
    said = f"--preset tiny does not go with --resume: the run in {output} has its own\n"
    assert capsys.readouterr().err.endswith(said)
    assert train(data, output, "--resume", "--steps=2", "--lr=1e-3", "--warmup=1") == 0
    assert not (output / "train.toml").exists()  # a preset in it would be of another model
    assert train(data, output, "--resume", "--steps=3", "--lr=1e-3", "--warmup=1") == 0
    assert "warmup" not in capsys.readouterr().err
