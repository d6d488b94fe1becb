"""`dragoman train` on pipes, compressed files and tables."""

import bz2
import os
import subprocess
import sys

import pytest
from dragoman.cli import main

pytest.importorskip("tokenizers")

OPTIONS = ["--vocab-size=64", "--warmup=1", "--threads=1", "--steps=1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "en").write_text("a b c\n" * 40)
    (folder / "de").write_text("x y z\n" * 40)
    (folder / "en.bz2").write_bytes(bz2.compress(b"a b c\n" * 40))
    (folder / "numbered.tsv").write_text("a b c\tx y z\n" * 40)
    (folder / "named.tsv").write_text("score\tde\ten\n" + "1\tx y z\ta b c\n" * 40)
    return folder


@pytest.fixture(scope="module")
def expected(data, tmp_path_factory):
    output = tmp_path_factory.mktemp("expected") / "model"
    assert train(data, "en", "de", output) == 0
    return (output / "model.safetensors").read_bytes()


def train(data, source, target, output, *more):
    return main(
        ["train", f"--source={data / source}", f"--target={data / target}", f"--output={output}", *OPTIONS, *more]
    )


@pytest.mark.parametrize(
    ("source", "target", "columns"),
    [
        ("en.bz2", "de", None),
        ("numbered.tsv", "numbered.tsv", "1,2"),
        ("named.tsv", "named.tsv", "en, de"),
        ("named.tsv", "numbered.tsv", "en,2"),
    ],
)
def test_another_form_of_the_same_text(source, target, columns, data, expected, tmp_path):
    output = tmp_path / "out"
    assert train(data, source, target, output, *([] if columns is None else [f"--columns={columns}"])) == 0
    assert (output / "model.safetensors").read_bytes() == expected
    if columns is not None:
        assert f'columns = "{columns}"' in (output / "train.toml").read_text()


def test_columns_of_validation(data, tmp_path, capsys):
    table = data / "named.tsv"
    valid = [f"--valid-source={table}", f"--valid-target={table}"]
    assert train(data, "named.tsv", "named.tsv", tmp_path / "out", "--columns=en,de", *valid) == 0
    assert "validation loss" in capsys.readouterr().err


def test_a_fraction_is_held_out(data, tmp_path, capsys):
    output = tmp_path / "out"
    assert train(data, "en", "de", output, "--valid-fraction=0.25") == 0
    error = capsys.readouterr().err
    assert "30 pairs in " in error and "validation loss" in error
    assert "valid_fraction = 0.25" in (output / "train.toml").read_text()
    for fraction, status in (("0.3", 2), ("0.25", 0)):
        assert train(data, "en", "de", output, "--resume", f"--valid-fraction={fraction}", "--steps=2") == status
    assert "must be the same to resume" in capsys.readouterr().err
    one = tmp_path / "one"
    one.write_text("a\n")
    assert train(data, one, one, tmp_path / "x", "--valid-fraction=0.5") == 2
    assert "train: --valid-fraction must leave a row to train with, got 0.5 of 1 rows" in capsys.readouterr().err
    valid = [f"--valid-source={one}", f"--valid-target={one}"]
    for fraction, message in (
        ("0.1", "-fraction and --valid-source must not be given together"),
        ("0", r"-fraction must be a"),
    ):
        assert train(data, "en", "de", tmp_path / "x", f"--valid-fraction={fraction}", *valid) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("1", "--columns must be 2 names, or numbers from 1, with a comma between, got '1'"),
        ("0,1", "--columns must be 2 names"),
        ("en,", "--columns must be 2 names"),
        ("1,2,3", "--columns must be 2 names"),
        ("1,4", "named.tsv: line 1 has 3 columns, too few for column 4"),
        ("en,fr", "named.tsv: has no column 'fr' in its first line, only score, de, en"),
    ],
)
def test_columns_that_are_not_there(columns, message, data, tmp_path, capsys):
    assert train(data, "named.tsv", "named.tsv", tmp_path / "out", f"--columns={columns}") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.filterwarnings("default::UserWarning")
def test_a_table_without_columns_is_said_once(data, tmp_path, capsys):
    assert train(data, "numbered.tsv", "numbered.tsv", tmp_path / "out") == 0
    assert capsys.readouterr().err.count("line 1 holds a tab, which stays in the text; ") == 1


def test_pipes(data, expected, tmp_path):
    variables = {**os.environ, "D": f"{sys.executable} -m dragoman", "O": " ".join(OPTIONS)}
    mine = tmp_path / "mine"
    script = "$D train --source <(cat en) --target <(cat de) --output $1 $O"
    done = subprocess.run(["bash", "-c", script, "-", mine], cwd=data, env=variables, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(b"reading /dev/fd/")
    assert (mine / "model.safetensors").read_bytes() == expected
    script = "$D train --source <(head -3 en; echo) --target <(head -4 de) --output $1 $O"
    done = subprocess.run(["bash", "-c", script, "-", tmp_path / "x"], cwd=data, env=variables, capture_output=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(b"dragoman train: /dev/fd/")
    assert done.stderr.endswith(b": line 4 is empty\n")


def test_devices_are_refused_by_name(data, tmp_path, capsys):
    for device in ("/dev/zero", "/dev/null"):
        assert train(data, device, "de", tmp_path / "out") == 2
        assert f"dragoman train: {device}: must be a file" in capsys.readouterr().err
