import argparse

import pytest
from dragoman.cli import config_file
from dragoman.cli.train import add_arguments


def define(parser):
    config_file.add_arguments(parser)
    parser.add_argument("--source", nargs="+", required=True)
    parser.add_argument("--lr", type=float, default=argparse.SUPPRESS)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--clip", dest="max_grad_norm", type=float, default=argparse.SUPPRESS)
    parser.add_argument("--preset", choices=("tiny", "base"), default="tiny")
    parser.add_argument("--output")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--resume", action="store_true")


def parse(*arguments):
    parser = argparse.ArgumentParser()
    define(parser)
    return parser.parse_args(config_file.expand(arguments, define))


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "f.toml"
        path.write_text(text)
        return f"--config={path}"

    return write


def test_a_file_gives_options(write):
    text = 'source = ["a", "b c"]\nlr = 1\nbatch_tokens = 8\nclip = 1e-3\npreset = "base"\nquick = true'
    options = parse(write(text))
    assert options.source == ["a", "b c"]
    assert (options.lr, options.batch_tokens, options.max_grad_norm) == (1.0, 8, 1e-3)
    assert (options.preset, options.quick, options.output) == ("base", True, None)
    assert parse(write('source = "a"\nquick = false')).quick is False
    assert parse(write('\ufeffsource = "a"\r\nlr = 2\r\n')).lr == 2  # as editors on Windows write it


def test_options_win_over_set_and_set_over_the_file(write):
    config = write('source = ["a", "b"]\nlr = 1.0\nbatch_tokens = 8')
    options = parse(config, "--set", "lr=2", "--set", "batch_tokens = 9", "--batch-tokens", "10", "--source", "c")
    assert (options.lr, options.batch_tokens, options.source) == (2.0, 10, ["c"])


def test_set_without_a_file():
    options = parse("--set", 'source=["x", "y"]', "--set", "preset=base", "--set=output=a=b", "--set", "lr=-1.5")
    assert (options.source, options.preset, options.output, options.lr) == (["x", "y"], "base", "a=b", -1.5)


def test_no_file_changes_nothing():
    arguments = ["--source", "a", "--lr", "3"]
    assert config_file.expand(arguments, define) == arguments
    assert config_file.expand(["--config"], define) == ["--config"]  # argparse says what is missing


@pytest.mark.parametrize(
    "text, message",
    [
        ("batch_token = 5", r"f\.toml: unknown key 'batch_token'; did you mean batch_tokens\?"),
        ("max_grad_norm = 5", r"f\.toml: unknown key 'max_grad_norm'; did you mean clip\?"),
        ("zzz = 5", "unknown key 'zzz'$"),
        ("resume = true", "unknown key 'resume'"),
        ("[model]\nlr = 5", "unknown key 'model'$"),
        ("batch_tokens = 5.0", r"f\.toml: batch_tokens must be an integer, got 5\.0"),
        ('batch_tokens = "5"', "batch_tokens must be an integer, got '5'"),
        ("batch_tokens = true", "batch_tokens must be an integer, got True"),
        ("lr = [1.0]", r"lr must be a number, got \[1\.0\]"),
        ("quick = 1", "quick must be true or false, got 1"),
        ("output = 3", "output must be a string, got 3"),
        ('preset = "huge"', "preset must be one of tiny, base, got 'huge'"),
        ("source = []", "source must be a string or a list of them"),
        ("source = [1]", "source must be a string or a list of them"),
        ("lr = = 3", r"f\.toml: not a TOML file"),
    ],
)
def test_names_what_is_wrong(text, message, write):
    with pytest.raises(ValueError, match=message):
        parse(write(text))


def test_names_what_is_wrong_with_set():
    with pytest.raises(ValueError, match=r"--set: unknown key 'lrr'; did you mean lr\?"):
        parse("--set", "lrr=3")
    with pytest.raises(ValueError, match="--set: lr must be a number, got 'fast'"):
        parse("--set", "lr=fast")
    with pytest.raises(ValueError, match="--set: must be KEY=VALUE, got 'lr'"):
        parse("--set", "lr")


def test_a_missing_and_an_unreadable_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        parse(f"--config={tmp_path / 'none'}")
    (tmp_path / "latin").write_bytes(b'output = "\xe9"')
    with pytest.raises(ValueError, match="latin: not a TOML file"):
        parse(f"--config={tmp_path / 'latin'}")


def test_what_is_in_effect_can_be_used_again(write):
    given = ["--source", 'a "b"\\c\x7fü', "d", "--clip", "1e-9", "--quick", "--batch-tokens", "7"]
    options = parse(*given)
    text = config_file.dump(options, {"lr": 0.25, "max_grad_norm": 3.0, "other": 1}, define).decode()
    again = parse(write(text))
    assert again.lr == 0.25  # not given, but in effect
    assert vars(again) == vars(options) | {"lr": 0.25, "config": again.config, "resume": False}


def test_every_option_of_train_is_a_key():
    keys = config_file._actions(add_arguments)
    assert {"source", "valid_target", "output", "preset", "tokenizer", "vocab_size", "steps", "clip"} <= set(keys)
    assert not {"config", "set", "resume", "help"} & set(keys)
