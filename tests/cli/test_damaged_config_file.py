"""Damages of a train.toml, each with the sentence that it must end in."""

import pytest
from dragoman.cli import config_file
from dragoman.cli.parser import Parser
from dragoman.cli.train import add_arguments

TOML = "not a TOML file"
LINES = 'source = ["a"]\ntarget = ["b"]\noutput = "o"\n'


def read(tmp_path, content):
    path = tmp_path / "train.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    parser = Parser()
    add_arguments(parser)
    return parser.parse_args(config_file.expand(["--config", str(path)], add_arguments))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        # The text
        (b"\xff\xfel\0r\0", TOML),
        (b"lr = 1\0", TOML),
        (b"\0", TOML),
        ("lr", TOML),
        ("lr =", TOML),
        ("= 1", TOML),
        ("lr = 1 2", TOML),
        ("lr = 1\nlr = 1", TOML),
        ("lr = 01", TOML),
        ("lr = 1__0", TOML),
        ("lr = .5", TOML),
        ("lr = 1e", TOML),
        ("lr = +", TOML),
        ('output = "o', TOML),
        ("output = 'o\n'", TOML),
        ('output = """o', TOML),
        (r'output = "\q"', TOML),
        (r'output = "\ud800"', TOML),
        ('source = ["a"', TOML),
        ('source = ["a" "b"]', TOML),
        ("[lr\n", TOML),
        ("[lr]\n[lr]\n", TOML),
        ("lr = {a = 1", TOML),
        ("lr = 1\n[lr]\na = 1", TOML),
        ("a.b = 1\na = 2", TOML),
        ("lr = 1979-13-01", TOML),
        ("lr = " + "1" * 5000, TOML),
        ("lr = " + "[" * 100_000, "too many brackets inside each other"),
        ("lr = " + "{a=" * 100_000, f"{TOML}|too many brackets"),
        ("a." * 300_000 + "a = 1", "a line must have at most 100 dots"),
        ("[" + "a." * 300_000 + "a]", "a line must have at most 100 dots"),
        ("lr = {" + "a." * 300_000 + "a = 1}", "a line must have at most 100 dots"),
        ("#" * (1 << 20) + "\nlr = 1", "must have at most 1,048,576 bytes"),
        # The keys
        ('"" = 1', "unknown key ''"),
        ('"\\u0000" = 1', r"unknown key '\\x00'"),
        ('"' + "x" * 10_000 + '" = 1', r"unknown key 'xxx.*\.\.\."),
        ("LR = 1", "unknown key 'LR'"),
        ("batch-tokens = 1", "unknown key 'batch-tokens'; did you mean batch_tokens"),
        ("[train]\nlr = 1", "unknown key 'train'"),
        ("[[train]]\nlr = 1", "unknown key 'train'"),
        ('config = "x"', "unknown key 'config'"),
        ('set = "x"', "unknown key 'set'"),
        # The values
        ("[lr]\na = 1", "lr must be a number, got {'a': 1}"),
        ("[[lr]]\na = 1", r"lr must be a number, got \[{'a': 1}\]"),
        ("lr.lr.lr = 1", "lr must be a number, got {'lr': {'lr': 1}}"),
        ("lr = true", "lr must be a number, got True"),
        ('lr = "1"', "lr must be a number, got '1'"),
        ("lr = 1979-05-27", r"lr must be a number, got datetime.date"),
        ("lr = 07:32:00", r"lr must be a number, got datetime.time"),
        ("lr = [[1]]", r"lr must be a number, got \[\[1\]\]"),
        (f"lr = [{'0,' * 10_000}]", r"lr must be a number, got \[0, 0, .*\.\.\.\]"),
        ("epochs = 1.5", "epochs must be an integer, got 1.5"),
        ("epochs = inf", "epochs must be an integer, got inf"),
        ("epochs = []", r"epochs must be an integer, got \[\]"),
        ("tensorboard = 1", "tensorboard must be true or false, got 1"),
        ('tensorboard = "true"', "tensorboard must be true or false, got 'true'"),
        ('preset = ["tiny"]', r"preset must be one of .*, got \['tiny'\]"),
        ("preset = {}", "preset must be one of .*, got {}"),
        ("preset = 3", "preset must be one of .*, got 3"),
        ('preset = "' + "x" * 10_000 + '"', r"preset must be one of .*, got 'xxx.*\.\.\."),
        ("output = 3", "output must be a string, got 3"),
        ('output = ["o"]', r"output must be a string, got \['o'\]"),
        ("source = []", "source must be a string or a list of them"),
        ('source = ["a", 1]', "source must be a string or a list of them"),
        ('source = [["a"]]', "source must be a string or a list of them"),
        ("source = {}", "source must be a string or a list of them"),
    ],
    ids=range(66),
)
def test_a_damaged_file(tmp_path, content, message):
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path, content)
    assert str(tmp_path / "train.toml") in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("lr = nan", "lr"),
        ("lr = inf", "lr"),
        ("epochs = 0", "epochs"),
        (f"epochs = {10**30}", "epochs"),
        (f"lr = {10**400}", "lr"),
        ("dropout = 1e308", "dropout"),
        ("vocab_size = -1", "vocab-size"),
        (f"vocab_size = {10**12}", "vocab-size"),
    ],
)
def test_a_number_out_of_range_is_named_by_its_option(tmp_path, line, option):
    with pytest.raises(ValueError, match=f"--{option} must"):
        read(tmp_path, LINES + line)


def test_the_whole_file_is_read(tmp_path):
    assert read(tmp_path, LINES + "lr = 1").lr == 1
