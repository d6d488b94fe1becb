"""dragoman transcribe, in process."""

import json

import dragoman as dg
import pytest
from dragoman.cli import main
from dragoman.data import read_wav
from speech import generation_of, sound_of, speech_model, speech_tokenizer, write_wav

pytest.importorskip("tokenizers")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def folder(tmp_path):
    tokenizer = speech_tokenizer()
    speech_model(tokenizer.vocab_size + 6).save(tmp_path)
    tokenizer.save(tmp_path / "tokenizer.json")
    (tmp_path / "generation_config.json").write_text(json.dumps(generation_of(tokenizer)))
    return tmp_path


def test_a_line_for_each_file(folder, rng, capsys):
    paths = [folder / f"{i}.wav" for i in range(10)]
    for i, path in enumerate(paths):
        write_wav(path, 32768 * sound_of(rng, 1000 * i))
    assert main(["transcribe", str(folder), *map(str, paths), "--language", "de", "--beam", "2"]) == 0
    served = dg.Transcriber.load(folder)
    expected = served([read_wav(path) for path in paths], "de", beam=2)
    assert capsys.readouterr().out.split("\n") == [*(" ".join(text.splitlines()) for text in expected), ""]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.wav"], "none.wav"),
        (["--language", "fr", "a.wav"], "language must be one of en, de, ko, got 'fr'"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(arguments, message, folder, monkeypatch, capsys):
    write_wav(folder / "a.wav", [0, 1])
    monkeypatch.chdir(folder)
    assert main(["transcribe", str(folder), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_commands_of_text_refuse_a_model_of_speech(folder, capsys):
    for command in ("predict", "serve"):
        assert main([command, str(folder)]) == 2
        assert "dragoman transcribe" in capsys.readouterr().err
    for command in (["translate", str(folder)], ["explain", str(folder), "hello"]):
        assert main(command) == 2
        assert "got a SpeechTransformer" in capsys.readouterr().err
