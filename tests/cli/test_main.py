"""The command line itself: errors in one sentence with a status, closed streams, hints, help."""

import argparse
import errno
import os
import re
import subprocess
import sys
import warnings

import dragoman as dg
import numpy as np
import pytest
from dragoman.cli import info, main
from dragoman.cli.main import COMMANDS, _parser
from dragoman.cli.numbers import COUNT, REAL, Number
from dragoman.cli.parser import name_options


def shell(script, **options):
    """A script of bash in which $D is the command `dragoman`."""
    variables = {**os.environ, "D": f"{sys.executable} -m dragoman"}
    return subprocess.run(["bash", "-c", script], env=variables, capture_output=True, timeout=120, **options)


def failing(error):
    def command(options):
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (MemoryError(), 1, "out of memory"),
        (MemoryError("Unable to allocate 7 TiB"), 1, r"out of memory \(Unable to allocate 7 TiB\)"),
        (dg.OutOfMemoryError("out of memory on cpu"), 1, "out of memory on cpu"),
        (OverflowError("int too large to convert to float"), 2, "int too large to convert to float"),
        (RecursionError("maximum recursion depth exceeded"), 2, "the input is nested too deeply"),
        (FloatingPointError("10 steps in a row"), 2, "10 steps in a row"),
        (ValueError("two\nlines"), 2, "two lines"),
        (OSError(errno.ENOSPC, "No space left on device", "out/x"), 2, "out/x: No space left on device"),
        (OSError(errno.EIO, "Input/output error"), 2, "Input/output error"),
        (UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed"), 2, ".*surrogates not allowed"),
        (KeyboardInterrupt(), 130, None),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1, None),
    ],
)
def test_an_error_is_one_sentence_and_a_status(error, status, message, monkeypatch, capsys):
    monkeypatch.setattr(info, "command", failing(error))
    assert main(["info"]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "" if message is None else re.fullmatch(f"dragoman info: {message}.*\n", err)


def test_memory_that_is_not_there(monkeypatch, capsys):
    monkeypatch.setattr(info, "command", lambda options: np.zeros(1 << 55))
    assert main(["info"]) == 1
    assert re.fullmatch(r"dragoman info: out of memory \(Unable to allocate .*\)\n", capsys.readouterr().err)


def test_a_warning_is_one_line(monkeypatch, capsys):
    def command(options):
        warnings.simplefilter("default")
        warnings.warn("line 3 holds a tab", stacklevel=1)

    monkeypatch.setattr(info, "command", command)
    assert main(["info"]) == 0
    assert capsys.readouterr().err == "dragoman info: line 3 holds a tab\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "dragoman: needs a command: train, freeze, translate, .*see dragoman --help"),
        (["trian"], r"dragoman: unknown command 'trian'; did you mean train\?"),
        (["zzz"], "dragoman: unknown command 'zzz'; see dragoman --help"),
        (["--versoin"], r"dragoman: unknown option --versoin; did you mean --version\?"),
        (["train", "--sorce", "x"], r"dragoman train: unknown option --sorce; did you mean --source\?"),
        (["train", "--max-steps=3"], r"dragoman train: unknown option --max-steps; did you mean --steps\?"),
        (["train", "--zzz"], "dragoman train: unknown option --zzz"),
        (["train", "--source", "x"], "dragoman train: needs --output"),
        (["train", "--set", "max_grad_norm=3"], r"dragoman train: --set: unknown key '.*'; did you mean clip\?"),
        (["translate", "m", "--beam", "0"], r"dragoman translate: --beam must be an integer in \[1, 1,000\], got '0'"),
        (
            ["translate", "m", "--device", "gpu"],
            r"dragoman translate: --device: invalid choice: 'gpu' \(choose from .*\)",
        ),
        (["translate"], "dragoman translate: needs DIR"),
        (
            ["info", "--threads", f"{10**12}"],
            r"dragoman info: --threads must be an integer in \[1, 1,024\], got '1000.*'",
        ),
        (["info", "a\udcff"], r"dragoman info: DIR must be UTF-8 text without NUL, got 'a\\udcff'"),
    ],
)
def test_a_mistake_is_named_in_the_words_of_the_user(arguments, message, capsys):
    assert main(arguments) == 2
    assert re.fullmatch(message + "\n", capsys.readouterr().err)


@pytest.mark.skipif(dg.cuda.is_available(), reason="CUDA is there")
def test_cuda_that_is_not_there(capsys):
    files = ["--source", "x", "--target", "y"]
    for command in (["translate", "m"], ["evaluate", "m", *files], ["train", *files, "--output", "z"]):
        assert main([*command, "--device", "cuda"]) == 2
        assert capsys.readouterr().err == f"dragoman {command[0]}: --device cuda: {dg.cuda.status()}\n"
    assert main(["translate", "none", "--device", "cuda", "--device", "auto"]) == 2
    assert "not a model folder" in capsys.readouterr().err
    assert main(["info"]) == 0
    assert f"\ncuda: {dg.cuda.status()}\n" in capsys.readouterr().out


@pytest.mark.parametrize("key", ["output", "source"])
def test_names_that_no_file_of_settings_can_hold_are_refused_at_once(key, tmp_path, capsys):
    names = {"source": "en", "target": "de", "output": str(tmp_path / "out"), key: str(tmp_path / "a\udcff")}
    assert main(["train", *(f"--{name}={value}" for name, value in names.items())]) == 2
    assert f"dragoman train: --{key} must be UTF-8 text without NUL, got '" in capsys.readouterr().err
    (tmp_path / "f.toml").write_text(f'{key} = "a\\u0000b"\n')
    del names[key]
    files = [f"--{name}={value}" for name, value in names.items()]
    assert main(["train", f"--config={tmp_path / 'f.toml'}", *files]) == 2
    assert rf"--{key} must be UTF-8 text without NUL, got 'a\x00b'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "option",
    [
        "vocab-size",
        "beam",
        "max-length",
        "max-source-length",
        "batch-tokens",
        "threads",
        "warmup",
        "accumulate",
        "seed",
    ],
)
def test_numbers_out_of_any_use(option, capsys):
    command = ["translate", "m"] if option == "beam" else ["train"]
    for text in ("-1", f"{10**30}", "9" * 5000, "1.5", "x", ""):
        assert main([*command, f"--{option}={text}"]) == 2
        assert f" --{option} must be an integer in [" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["lr", "minutes", "max-ratio", "dropout", "clip", "ema", "weight-decay"])
def test_numbers_that_are_not_finite(option, capsys):
    for text in ("nan", "inf", "-inf", "1e400", "x"):
        assert main(["train", f"--{option}={text}"]) == 2
        assert re.search(f" --{option} must be a (finite )?number", capsys.readouterr().err)


def test_a_number_is_read_with_its_limits_included():
    assert [Number(int, 1, 5)(text) for text in ("1", "5")] == [1, 5]
    assert (COUNT("1_000"), REAL("1e-3"), REAL("-2")) == (1000, 1e-3, -2.0)
    for text in ("0", "6"):
        with pytest.raises(argparse.ArgumentTypeError):
            Number(int, 1, 5)(text)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Trainer: lr must be above 0, got -1.0", "--lr must be above 0, got -1.0"),
        ("Trainer: max_grad_norm must be above 0, got 0", "--clip must be above 0, got 0"),
        ("Trainer: final='ema' needs ema, got None", "--final ema needs --ema, got None"),
        ("pair 3 has 9 tokens, more than batch_tokens=5", "pair 3 has 9 tokens, more than --batch-tokens 5"),
        ("no pairs are left (max_length=3, max_ratio=None)", "no pairs are left (--max-length 3, --max-ratio None)"),
        ("raise it or set max_length", "raise it or set --max-length"),
        ("TransformerConfig: embedding_dropout must lie in [0, 1)", "--dropout must lie in [0, 1)"),
        ("source has 2 files, target has 1: they must pair up", "source has 2 files, target has 1: they must pair up"),
        ("/batch_tokens/max_length.en: line 3 is empty", "/batch_tokens/max_length.en: line 3 is empty"),
    ],
)
def test_options_are_named_as_the_user_typed_them(message, expected):
    train = _parser()._subparsers._group_actions[0].choices["train"]
    assert name_options(message, train) == expected


def test_the_help_has_a_whole_sentence_for_each_command(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name, module in COMMANDS.items():
        after = " ".join(module.DESCRIPTION.split())
        (sentence,) = re.findall(rf" {name} ([A-Z].*?)(?= (?:{'|'.join(COMMANDS)}) [A-Z]| options:)", text)
        assert after.startswith(f"{sentence}. "), name


def test_closed_streams():
    done = shell("$D info >&-")
    assert (done.returncode, done.stderr) == (2, b"dragoman info: standard output is closed\n")
    done = shell("$D info none 2>&-")
    assert (done.returncode, done.stderr) == (2, b"")
    assert b"not a model" not in done.stdout
    done = shell("$D info <&-")
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_full_disk_and_a_reader_that_left():
    done = shell("$D info > /dev/full")
    assert (done.returncode, done.stderr) == (2, b"dragoman info: No space left on device\n")
    done = shell("$D info | true; exit ${PIPESTATUS[0]}")
    assert (done.returncode in (0, 1), done.stderr) == (True, b"")
    done = shell("$D info none 2> /dev/full")
    assert done.returncode == 2


def test_a_terminal_of_few_letters():
    done = subprocess.run(
        [sys.executable, "-c", "from dragoman.cli import streams; streams.open_closed_streams(); print('a\u2581')"],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
    )
    assert done.stdout == b"a\\u2581\n"
