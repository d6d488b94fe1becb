"""Command lines at random: options with their letters mixed, values of any kind, files that are not there.

DRAGOMAN_COMMANDS=20000 pytest tests/cli/test_random_options.py
"""

import os
import random

import dragoman as dg
import pytest
from dragoman.cli import main
from dragoman.cli.main import COMMANDS, _parser

VALUES = [
    "", " ", "-", "--", "-1", "0", "1", "2", "3.5", "nan", "inf", "-inf", "1e400", "1e-400", "9" * 5000, f"{10**12}",
    "0x10", "٣", "true", "None", "[1]", "[" * 3000, "a=b", "=", "lr=", "lr=1", "lr=nan", "=3", "source=[]", "x\udcff",
    "a\0b", "1_0", "😀", "e\u0301", "a" * 300, "none", "none/none", "/dev/null", "/", ".", "..", "cpu", "auto", "tiny",
    "bleu", "1,2", ",", "é" * 200, "%s", "%(prog)s", "{}", "\n", "a\nb", "@none",
]  # fmt: skip


def mixed(name, rng):
    """An option's name, now and then with an error in it."""
    letters = list(name)
    if rng.random() < 0.15 and len(letters) > 3:
        place = rng.randrange(2, len(letters))
        letters[place : place + 1] = rng.choice(["", "x", letters[place] * 2, "_", "é"])
    return "".join(letters)


def command_line(rng):
    parsers = _parser()._subparsers._group_actions[0].choices
    name = rng.choice([*COMMANDS, *COMMANDS, "", "--", "-x", "trian"])
    # bench and demo run without a file, so they get an option that is none
    line = [name, "--nothing"] if name in ("bench", "demo") else [name]
    flags = (
        [action.option_strings[-1] for action in parsers[name]._actions if action.option_strings]
        if name in parsers
        else ["--version"]
    )
    for flag in rng.choices(
        [flag for flag in flags if flag not in ("--help", "--version")] or ["-q"], k=rng.randrange(6)
    ):
        value = rng.choice(VALUES)
        line += [f"{mixed(flag, rng)}={value}"] if rng.random() < 0.5 else [mixed(flag, rng), value]
    if name == "info":
        line.insert(rng.randrange(1, len(line) + 1), rng.choice(["none", "x\udcff", "a\0b", "/dev/null", "a" * 300]))
    rng.random() < 0.1 and rng.shuffle(line)
    return line


@pytest.mark.parametrize("seed", range(5))
def test_a_command_line_ends_in_one_sentence(seed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng, threads = random.Random(seed), dg.num_threads()
    for _ in range(int(os.environ.get("DRAGOMAN_COMMANDS", 200)) // 5):
        line = command_line(rng)
        status = main(line)
        error = capsys.readouterr().err
        assert status == 2, line
        assert error.startswith("dragoman") and error.count("\n") == 1 and "Traceback" not in error, (line, error)
        assert not any(tmp_path.iterdir()), line
        dg.set_num_threads(threads)
