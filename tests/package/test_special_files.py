"""A pipe, a device or a socket in the place of a file of a model or a run: an error at once, not a wait for ever."""

import os
import shutil
import signal
import socket

import dragoman as dg
import pytest
from dragoman import lora
from dragoman.cli import main
from dragoman.data import Shards, iter_images, read_image
from dragoman.data.tokenizer import Tokenizer
from dragoman.predict import predictor_class
from dragoman.train.checkpoint import CheckpointFile
from toy_runs import model_of

pytest.importorskip("tokenizers")

PAIRS = [("a man", "ein Mann"), ("a dog", "ein Hund"), ("a man", "ein Mann")]


@pytest.fixture(autouse=True)
def at_once():
    """A wait ends the test as an error."""

    def ended(*_):
        raise AssertionError("it waits for the pipe")

    before = signal.signal(signal.SIGALRM, ended)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("special") / "run"
    tokenizer = Tokenizer.train([text for pair in PAIRS for text in pair], 64, "char")
    model = model_of(config=dg.TransformerConfig.tiny(vocab_size=tokenizer.vocab_size))
    dg.Trainer(model, tokenizer=tokenizer, output=folder, max_steps=1, batch_tokens=64).fit(PAIRS)
    lora.add(model, rank=2)
    lora.save(model, folder / "adapter")
    return folder


def resume(folder):
    model = dg.load(folder)
    dg.Trainer(
        model, tokenizer=Tokenizer.load(folder / "tokenizer.json"), output=folder, max_steps=2, batch_tokens=64
    ).fit(PAIRS, resume=True)


OPENED_BY = {
    "config.json": (dg.load, predictor_class, dg.Translator.load),
    "model.safetensors": (dg.load, dg.Translator.load),
    "tokenizer.json": (dg.Translator.load, dg.load, lambda folder: Tokenizer.load(folder / "tokenizer.json")),
    "log.jsonl": (resume,),
    "checkpoints/step-00000001.safetensors": (
        resume,
        lambda folder: CheckpointFile(folder / "checkpoints/step-00000001.safetensors"),
    ),
    "adapter/adapter_config.json": (lambda folder: lora.load(dg.load(folder), folder / "adapter"),),
    "adapter/adapter_model.safetensors": (lambda folder: lora.load(dg.load(folder), folder / "adapter"),),
}


@pytest.mark.parametrize("name", OPENED_BY)
def test_a_pipe_among_the_files_of_a_run(name, run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    path = folder / name
    path.unlink()
    os.mkfifo(path)
    for opened in OPENED_BY[name]:
        with pytest.raises(ValueError, match=f"{path.name}: must be a file, got a pipe, a device or a socket"):
            opened(folder)


def test_a_device_and_a_socket(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=r"config\.json: must be a file, got a pipe, a device"):
        dg.load(folder)
    (folder / "config.json").unlink()
    here = os.getcwd()
    os.chdir(folder)  # the name of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("config.json")
    finally:
        os.chdir(here)
    with pytest.raises(ValueError, match=r"config\.json: must be a file, got a pipe, a device or a socket"):
        dg.load(folder)


def test_pipes_among_shards_and_images(tmp_path, rng):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for opened in (lambda: list(iter_images(pipe, 4, 1)), lambda: read_image(pipe, 4, 1)):
        with pytest.raises(ValueError, match="pipe: must be a file, got a pipe"):
            opened()
    from dragoman.data.shards import write_shards

    source = tmp_path / "source"
    source.touch()
    folder = tmp_path / "data"
    write_shards(folder, {"data": source}, {}, lambda: [([1, 2],)], lambda rows: {"ids": [row[0] for row in rows]})
    (folder / "ids.ids").unlink()
    os.mkfifo(folder / "ids.ids")
    with pytest.raises(ValueError, match=r"ids\.ids: must be a file, got a pipe"):
        Shards(folder)


def test_the_command_line_says_it_and_reads_options_from_a_pipe(run, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    (folder / "train.toml").unlink(missing_ok=True)
    os.mkfifo(folder / "train.toml")
    files = [str(tmp_path / name) for name in ("a", "b")]
    for path, side in zip(files, zip(*PAIRS, strict=True), strict=True):
        with open(path, "w") as file:
            file.write("\n".join(side) + "\n")
    command = ["train", "--source", files[0], "--target", files[1], "--output", str(folder)]
    assert main([*command, "--resume"]) == 2
    assert "train.toml: must be a file, got a pipe, a device or a socket" in capsys.readouterr().err
    read, write = os.pipe()
    os.write(write, b"steps = 0\n")
    os.close(write)
    assert main([*command, "--config", f"/dev/fd/{read}"]) == 2
    os.close(read)
    assert "steps" in capsys.readouterr().err
