"""dragoman freeze, and --compute-type of the commands that use a model."""

import dragoman as dg
import pytest
from dragoman.cli import main
from dragoman.train import Classification
from family import encoder_for, tokenizer_of
from tiny_translator import write_translator

pytest.importorskip("tokenizers")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def folder(tmp_path):
    return write_translator(tmp_path / "model", ["a man sees two dogs"])


@pytest.mark.parametrize("kind", ["int8", "bfloat16", "float32"])
def test_a_frozen_folder_is_read_by_the_commands(folder, kind, monkeypatch, capsysbinary):
    frozen = folder.with_name("frozen")
    assert main(["freeze", str(folder), "--compute-type", kind, "--output", str(frozen)]) == 0
    assert sorted(path.name for path in frozen.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    expected = dg.Translator.load(folder, compute_type=kind)(["a man", "two dogs"], max_length=5)
    assert dg.Translator.load(frozen)(["a man", "two dogs"], max_length=5) == expected
    capsysbinary.readouterr()
    assert main(["info", str(frozen)]) == 0
    assert (
        f"{frozen}: {dg.load(folder).num_parameters():,} parameters, frozen in {kind}\n".encode()
        in capsysbinary.readouterr().out
    )
    (folder.parent / "in").write_text("a man\ntwo dogs\n")
    for command in (["translate", str(frozen)], ["translate", str(folder), "--compute-type", kind]):
        with open(folder.parent / "in") as source:
            monkeypatch.setattr("sys.stdin", source)
            assert main([*command, "--max-length", "5"]) == 0
        out = capsysbinary.readouterr().out.decode()
        assert out.split("\n") == [*(" ".join(text.splitlines()) for text in expected), ""]


def test_the_task_of_a_frozen_folder(tmp_path):
    task = Classification(tokenizer_of(), ["neg", "pos"])
    encoder_for(task).eval().save(tmp_path / "model")
    task.save(tmp_path / "model")
    frozen = tmp_path / "frozen"
    assert main(["freeze", str(tmp_path / "model"), "--compute-type", "int8", "--output", str(frozen)]) == 0
    assert (frozen / "task.json").read_bytes() == (tmp_path / "model/task.json").read_bytes()
    found = dg.Classifier.load(frozen)("the dog is good")
    assert found == pytest.approx(dg.Classifier.load(tmp_path / "model")("the dog is good"), abs=0.05)


def test_mistakes(folder, tmp_path, capsys):
    assert main(["freeze", str(folder), "--compute-type", "int8", "--output", str(folder)]) == 2
    assert f"--output must be another folder than {folder}, got {folder}" in capsys.readouterr().err
    assert main(["freeze", str(folder), "--output", "x"]) == 2
    assert "--compute-type" in capsys.readouterr().err
    assert main(["freeze", str(tmp_path / "none"), "--compute-type", "int8", "--output", str(tmp_path / "x")]) == 2
    assert not (tmp_path / "x").exists()
    assert main(["evaluate", str(folder), "--data", "x", "--compute-type", "int8"]) == 2
    assert "--compute-type does not go with --data; freeze the model first" in capsys.readouterr().err
