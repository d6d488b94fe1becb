"""dragoman translate: lines in, lines out, as they come; n-best, scores and a file of results."""

import dataclasses
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
import time

import dragoman as dg
import numpy as np
import pytest
from dragoman.cli import main
from dragoman.cli.input_lines import arriving_lines, count_lines
from dragoman.cli.output_file import OutputFile
from dragoman.models import DecoderConfig, TextDecoder
from family import SIZES, encoder_of

pytest.importorskip("tokenizers")

LINES = ["a man", "", "two dogs see a man", "a dog"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An untrained model whose translations hold line feeds and other ends of lines."""
    folder = tmp_path_factory.mktemp("model")
    dg.manual_seed(5)
    tokenizer = dg.Tokenizer.train(["two dogs see a man", "a\nb\rc\u2028d\ve\x85f"] * 3, 64, "char")
    config = dg.TransformerConfig(
        vocab_size=tokenizer.vocab_size, d_model=16, num_heads=2, d_ff=24, num_encoder_layers=1, num_decoder_layers=1,
        tie_embeddings="none", output_bias=True,
    )  # fmt: skip
    model = dg.Transformer(config)
    bias = np.full(tokenizer.vocab_size, -3, np.float32)
    for text in ("\n", "\r", "\u2028", "a", "s"):
        bias[tokenizer.encode(text)[-1]] = 1
    model.output.bias.copy_(bias)
    model.save(folder)
    tokenizer.save(folder / "tokenizer.json")
    return folder


@pytest.fixture(scope="module")
def translator(folder):
    return dg.Translator.load(folder)


def start(folder, *options, **streams):
    command = [sys.executable, "-m", "dragoman", "translate", folder, "--threads=1", "--max-length=9", *options]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    return subprocess.Popen([str(part) for part in command], **streams)


def run(folder, *options, stdin=b"", **streams):
    """(exit status, standard output, standard error)"""
    with start(folder, *options, **streams) as process:
        out, error = process.communicate(stdin, timeout=120)
        return process.returncode, out, error


def one_line(text):
    return " ".join(text.splitlines())


def output_of(translator, lines, **options):
    return "".join(f"{one_line(text)}\n" for text in translator(lines, max_length=9, **options)).encode()


def test_a_line_that_is_far_too_long_is_named(folder):
    status, out, error = run(folder, stdin=b"a man\n" + b"a" * 10_000 + b"\na dog\n")
    assert (status, out.count(b"\n")) == (2, 1)
    assert error.startswith(
        b"dragoman translate: standard input: line 2: must have at most 10,000 tokens, got 10,002; "
    )


def test_as_many_lines_as_were_read(folder, translator):
    raw = translator(LINES, max_length=9)
    assert any("\n" in text for text in raw)
    assert any("\u2028" in text or "\r" in text for text in raw)
    status, out, error = run(folder, stdin="\n".join(LINES).encode())
    assert (status, error) == (0, b"")
    assert out == output_of(translator, LINES)
    assert len(out.decode().splitlines()) == len(LINES)


def test_a_byte_order_mark_is_no_text(folder, translator):
    status, out, _ = run(folder, stdin=b"\xef\xbb\xbfa man\n\xef\xbb\xbf\na\rdog\n")
    assert status == 0
    assert out == output_of(translator, ["a man", "", "a\rdog"])


def test_a_line_is_answered_when_it_comes(folder, translator):
    with start(folder) as process:
        for line in LINES:
            process.stdin.write(f"{line}\n".encode())
            process.stdin.flush()
            expected = output_of(translator, [line])
            assert process.stdout.read(len(expected)) == expected
        out, error = process.communicate(b"a dog", timeout=60)
        assert out == output_of(translator, ["a dog"])
        assert (process.returncode, error) == (0, b"")


def test_a_bad_line_does_not_lose_the_ones_before_it(folder, translator, tmp_path):
    lines = [LINES[i % 4] for i in range(199)]
    stdin = "".join(f"{line}\n" for line in lines).encode() + b"a \xff man\na man\n"
    status, out, error = run(folder, stdin=stdin)
    assert status == 2
    assert out == output_of(translator, lines)
    assert error == b"dragoman translate: standard input: line 200 is not UTF-8\n"
    target = tmp_path / "out"
    target.write_text("old")
    status, out, error = run(folder, f"--output={target}", stdin=stdin)
    assert (status, out) == (2, b"")
    assert target.read_text() == "old"
    assert (tmp_path / "out.part").read_bytes() == output_of(translator, lines)
    first, second = error.decode().splitlines()
    assert first == f"{target}.part holds what was done before"
    assert "line 200 is not UTF-8" in second


@pytest.mark.parametrize("command", ["translate", "predict"])
def test_a_line_that_cannot_be_translated_is_named(command, translator, tmp_path, capsysbinary, monkeypatch):
    """Here it is longer than the learned positions; the lines before it, which came with it, are translated."""
    config = dataclasses.replace(translator.model.config, positions="learned", max_length=12)
    dg.Transformer(config).save(tmp_path)
    translator.tokenizer.save(tmp_path / "tokenizer.json")
    with (tmp_path / "in").open("w+") as source:
        source.write("a man\n\na dog\ntwo dogs see a man\na dog\n")
        source.seek(0)
        monkeypatch.setattr(sys, "stdin", source)
        assert main([command, str(tmp_path), "--max-length=5"]) == 2
    out, error = capsysbinary.readouterr()
    expected = dg.Translator.load(tmp_path)(["a man", "", "a dog"], max_length=5)
    assert out == "".join(f"{one_line(text)}\n" for text in expected).encode()
    assert error.startswith(f"dragoman {command}: standard input: line 4: must have at most 12 tokens, got ".encode())


def test_n_best_and_scores(folder, translator):
    status, out, _ = run(folder, "--beam=3", "--n-best=2", "--scores", stdin="\n".join(LINES).encode())
    assert status == 0
    rows = [line.split("\t", 2) for line in out.decode().split("\n")[:-1]]
    expected = [
        [str(number), f"{candidate.score:.4f}", one_line(candidate.text)]
        for number, candidates in enumerate(translator.candidates(LINES, beam=3, max_length=9), 1)
        for candidate in candidates[:2]
    ]
    assert rows == expected
    assert [row[0] for row in rows] == ["1", "1", "2", "3", "3", "4", "4"]
    status, out, _ = run(folder, "--beam=3", "--scores", stdin=b"a man\n")
    assert out == "\t".join(expected[0][1:]).encode() + b"\n"
    status, out, _ = run(folder, "--beam=3", "--n-best=1", stdin=b"a man\n")
    assert out == f"1\t{expected[0][2]}\n".encode()


@pytest.mark.parametrize("flags", [[], ["--n-best=2", "--scores"]], ids=str)
def test_alignments(flags, folder, translator, tmp_path, capsysbinary, monkeypatch):
    with (tmp_path / "in").open("w+") as source:
        source.write("".join(f"{line}\n" for line in LINES))
        source.seek(0)
        monkeypatch.setattr(sys, "stdin", source)
        assert main(["translate", str(folder), "--alignments", "--beam=2", "--max-length=9", *flags]) == 0
    expected = []
    for number, line in enumerate(LINES, 1):
        for candidate in translator.candidates(line, beam=2, max_length=9)[: 2 if flags else 1]:
            [alignment] = translator.align([(line, candidate.text)])
            pairs = " ".join(f"{i}-{j}" for i, j in alignment)
            begin = f"{number}\t{candidate.score:.4f}\t" if flags else ""
            expected.append(f"{begin}{one_line(candidate.text)}\t{pairs}\n")
    assert capsysbinary.readouterr().out.decode() == "".join(expected)
    assert any(line.endswith("-0\n") for line in expected)
    assert "\t\n" in expected[2 if flags else 1]


def test_the_order_of_many_lines_is_kept(folder, translator):
    """More than are asked for together, in batches of a few tokens, and of one."""
    lines = [LINES[i % 4] + " a" * (i % 7) for i in range(700)]
    stdin = "".join(f"{line}\n" for line in lines).encode()
    expected = output_of(translator, lines, beam=1)
    for tokens in (1, 50):
        assert run(folder, "--beam=1", f"--batch-tokens={tokens}", stdin=stdin) == (0, expected, b"")


def test_options_of_the_search(folder, translator):
    options = {"like": "marian", "min_length": 3, "no_repeat_ngram": 1, "repetition_penalty": 1.5, "beam": 2}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    stdin = "".join(f"{line}\n" for line in LINES).encode()
    status, out, error = run(folder, *flags, stdin=stdin)
    assert (status, error) == (0, b"")
    assert out == output_of(translator, LINES, **options)
    assert out != output_of(translator, LINES, beam=2)


def answered(arguments, lines, tmp_path, monkeypatch, capsysbinary):
    """(exit status, standard output, standard error) of a command in this process."""
    with (tmp_path / "in").open("w+") as source:
        source.write("".join(f"{line}\n" for line in lines))
        source.seek(0)
        monkeypatch.setattr(sys, "stdin", source)
        status = main([str(each) for each in arguments])
    out, error = capsysbinary.readouterr()
    return status, out, error.decode()


def test_what_translations_contain_as_text(folder, translator, tmp_path, monkeypatch, capsysbinary):
    flags = ["--beam=4", "--max-length=20", "--prefix= see", "--constraint=dog", "--constraint=w", "--suppress=a"]
    options = {"beam": 4, "max_length": 20, "prefix": "see", "constraints": ["dog", "w"], "suppress": ["a"]}
    status, out, _ = answered(["translate", folder, *flags], LINES, tmp_path, monkeypatch, capsysbinary)
    expected = [one_line(text) for text in translator(LINES, **options)]
    assert (status, out.decode()) == (0, "".join(f"{line}\n" for line in expected))
    for line, text in zip(LINES, expected, strict=True):
        assert not line or (text.startswith("see") and "dog" in text and "w" in text and "a" not in text)


def test_a_column_of_prefixes(folder, translator, tmp_path, monkeypatch, capsysbinary):
    """A line without a tab has none; n-best lists and alignments are of the text alone."""
    lines, prefixes = ["a man", "two dogs", "a dog", ""], ["dog", "", "see man", "dog"]
    rows = ["a man\tdog", "two dogs", "a dog\tsee man", "\tdog"]
    command = ["translate", folder, "--prefix-column", "--beam=2", "--max-length=20"]
    expected = [one_line(text) for text in translator(lines, beam=2, max_length=20, prefix=prefixes)]
    status, out, _ = answered(command, rows, tmp_path, monkeypatch, capsysbinary)
    assert (status, out.decode().splitlines()) == (0, expected)
    assert expected[0].startswith("dog")
    assert expected[2].startswith("see man")
    status, out, _ = answered([*command, "--alignments"], rows, tmp_path, monkeypatch, capsysbinary)
    pairs = list(zip(lines, translator(lines, beam=2, max_length=20, prefix=prefixes), strict=True))
    ends = [" ".join(f"{i}-{j}" for i, j in each) for each in translator.align(pairs)]
    assert out.decode().splitlines() == [f"{text}\t{end}" for text, end in zip(expected, ends, strict=True)]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--suppress=a", "--suppress="], "--suppress[1] must have a visible character, got ''"),
        (["--constraint= "], "--constraint[0] must have a visible character, got ' '"),
        (["--constraint=a", "--like=hf"], "--constraint need --like dragoman, got --like hf"),
        (["--prefix=a", "--prefix-column"], "--prefix must not be given with --prefix-column"),
        (
            ["--prefix=two dogs", "--max-length=3"],
            "standard input: line 1: Translator: --prefix must have at most 3 ids",
        ),
    ],
    ids=str,
)
def test_a_text_that_no_translation_can_have_is_named(flags, message, folder, tmp_path, monkeypatch, capsysbinary):
    status, out, error = answered(["translate", folder, *flags], ["a man"], tmp_path, monkeypatch, capsysbinary)
    assert (status, out) == (2, b"")
    assert error.startswith(f"dragoman translate: {message}"), error


def test_what_a_line_draws_depends_on_its_number(folder, translator):
    options = {"temperature": 1.5, "top_k": 20, "top_p": 0.9, "min_p": 0.001, "seed": 3}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    lines = ["a man"] * 5
    status, out, error = run(folder, *flags, stdin=b"a man\n" * 5)
    assert (status, error, out) == (0, b"", output_of(translator, lines, **options))
    assert len(set(out.splitlines())) > 1
    with start(folder, *flags) as process:
        for i in range(5):
            process.stdin.write(b"a man\n")
            process.stdin.flush()
            found = b""
            while found.count(b"\n") < 1:
                found += process.stdout.readline()
            assert found == out.splitlines(keepends=True)[i]
        process.communicate(timeout=60)


def test_scores_of_given_translations(folder, translator, tmp_path, capsysbinary):
    (tmp_path / "source").write_text("".join(f"{line}\n" for line in LINES if line))
    (tmp_path / "target").write_text("dog\na a\ns\n")
    files = [f"--source={tmp_path / 'source'}", f"--target={tmp_path / 'target'}"]
    pairs = list(zip([line for line in LINES if line], ["dog", "a a", "s"], strict=True))
    for flags, options in (([], {}), (["--like=hf", "--length-penalty=2"], {"like": "hf", "length_penalty": 2.0})):
        assert main(["score", str(folder), *files, *flags]) == 0
        expected = [f"{each.score:.4f}\t{each.sum_logprob:.4f}" for each in translator.score(pairs, **options)]
        assert capsysbinary.readouterr().out.decode().splitlines() == expected
    assert main(["score", str(folder), files[1]]) == 2
    error = "dragoman score: --source must be given for a translator, and not for a language model\n"
    assert capsysbinary.readouterr().err.decode() == error
    (tmp_path / "target").write_text("dog\n")
    assert main(["score", str(folder), *files]) == 2
    assert b"they must pair up" in capsysbinary.readouterr().err
    (tmp_path / "target").write_text("dog\n" + "a" * 10_001 + "\ns\n")
    assert main(["score", str(folder), *files]) == 2
    out, error = capsysbinary.readouterr()
    assert len(out.splitlines()) == 1
    named = f"{tmp_path / 'source'}, {tmp_path / 'target'}: line 2: must have at most 10,000 tokens, got 10,00"
    assert error.decode().startswith(f"dragoman score: {named}")


def test_scores_of_texts(folder, tmp_path, capsysbinary):
    tokenizer = dg.Tokenizer.load(folder / "tokenizer.json")
    config = DecoderConfig(vocab_size=tokenizer.vocab_size, max_length=40, **SIZES)
    TextDecoder(config).save(tmp_path)
    tokenizer.save(tmp_path / "tokenizer.json")
    texts = ["two dogs", "", "a man"]
    (tmp_path / "texts").write_text("".join(f"{text}\n" for text in texts))
    served = dg.LanguageModel.load(tmp_path)
    for flags, options in (([], {}), (["--length-penalty=0"], {"length_penalty": 0.0})):
        assert main(["score", str(tmp_path), f"--target={tmp_path / 'texts'}", *flags]) == 0
        found = served.score([("", text) for text in texts], **options)
        expected = [f"{each.score:.4f}\t{each.sum_logprob:.4f}" for each in found]
        assert capsysbinary.readouterr().out.decode().splitlines() == expected
    files = [f"--source={tmp_path / 'texts'}", f"--target={tmp_path / 'texts'}"]
    assert main(["score", str(tmp_path), *files]) == 2
    assert b"--source must be given for a translator, and not for a language model" in capsysbinary.readouterr().err


def test_scores_need_a_model_that_writes(tmp_path, capsysbinary):
    encoder_of(vocab_size=64).save(tmp_path)
    assert main(["score", str(tmp_path), "--target=none"]) == 2
    assert b"must hold a model for a Translator or a LanguageModel, got one for a SentenceEncoder" in (
        capsysbinary.readouterr().err
    )


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--n-best=6", "--n-best must be at most --beam 5, got 6"),
        ("--n-best=0", "--n-best must be an integer in [1, "),
        ("--max-length=0", "--max-length must be an integer in [1, 100,000]"),
        ("--length-penalty=nan", "--length-penalty must be a number in [0, 10]"),
        ("--top-k=5", "translate: --top-k needs a temperature above 0, got 0"),
        ("--repetition-penalty=0", "translate: --repetition-penalty must be above 0, got 0"),
        ("--output=/", "Is a directory"),
        ("--output=/none/such/file", "No such file or directory"),
    ],
)
def test_a_wrong_option_is_named_before_the_model_is_read(option, message, tmp_path, capsys):
    assert main(["translate", str(tmp_path / "no model"), option]) == 2
    assert message in capsys.readouterr().err


def test_a_file_of_results(folder, translator, tmp_path):
    target = tmp_path / "out"
    with start(folder, f"--output={target}") as process:
        process.stdin.write(b"a man\n")
        process.stdin.flush()
        part, expected = tmp_path / "out.part", output_of(translator, ["a man"])
        end = time.monotonic() + 60
        while not (part.exists() and part.read_bytes() == expected):
            assert time.monotonic() < end
            time.sleep(0.02)
        assert not target.exists()
        status, _, error = run(folder, f"--output={target}", stdin=b"a dog\n")
        assert (status, error) == (2, f"dragoman translate: {part}: another process writes it\n".encode())
        out, error = process.communicate(timeout=60)
        assert (process.returncode, out, error) == (0, b"", b"")
    assert target.read_bytes() == expected
    assert os.listdir(tmp_path) == ["out"]


def test_nothing_is_left_of_a_run_that_did_nothing(tmp_path):
    (tmp_path / "out").write_text("old")
    assert main(["translate", str(tmp_path / "none"), f"--output={tmp_path / 'out'}"]) == 2
    assert os.listdir(tmp_path) == ["out"]
    assert (tmp_path / "out").read_text() == "old"


def test_a_device_or_a_link_is_written_and_not_replaced(folder, translator, tmp_path):
    status, out, _ = run(folder, "--output=/dev/stdout", stdin=b"a man\n")
    assert (status, out) == (0, output_of(translator, ["a man"]))
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert run(folder, f"--output={tmp_path / 'link'}", stdin=b"a man\n")[0] == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == out


@pytest.mark.parametrize("to_file", [False, True])
def test_progress_on_a_terminal_that_shows_no_translations(folder, tmp_path, to_file):
    pytest.importorskip("tqdm")
    terminal, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    (tmp_path / "in").write_text("a man\n" * 7)
    with (tmp_path / "in").open("rb") as source:
        options = [f"--output={tmp_path / 'out'}"] if to_file else []
        with start(
            folder, *options, stdin=source, stdout=child if to_file else subprocess.PIPE, stderr=child
        ) as process:
            os.close(child)
            shown = b""
            while True:
                try:
                    shown += os.read(terminal, 4096)
                except OSError:  # the terminal has no writer left
                    break
            assert process.wait(60) == 0
    os.close(terminal)
    assert b"7/7" in shown


def test_no_progress_among_translations_on_a_terminal(folder, translator):
    terminal, child = pty.openpty()
    with start(folder, stdout=child, stderr=child) as process:
        os.close(child)
        process.stdin.write(b"a man\n")
        process.stdin.close()
        shown = b""
        while True:
            try:
                shown += os.read(terminal, 4096)
            except OSError:
                break
        assert process.wait(60) == 0
    os.close(terminal)
    assert shown.replace(b"\r\n", b"\n") == output_of(translator, ["a man"])


def pipe_of(*chunks):
    """The reading end of a pipe that a thread writes to, chunk after chunk."""
    reader, writer = os.pipe()

    def write():
        for chunk in chunks:
            os.write(writer, chunk)
        os.close(writer)

    threading.Thread(target=write).start()
    return reader


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ([], []),
        ([b"\n"], [b"\n"]),
        ([b"a"], [b"a"]),
        ([b"a\n\nb"], [b"a\n", b"\n", b"b"]),
        ([b"a", b"b\nc", b"\n", b"d\r\n"], [b"ab\n", b"c\n", b"d\r\n"]),
        ([b"x" * 100_000, b"y" * 100_000, b"\nz"], [b"x" * 100_000 + b"y" * 100_000 + b"\n", b"z"]),
        ([b"%d\n" % i for i in range(1000)], [b"%d\n" % i for i in range(1000)]),
    ],
)
def test_arriving_lines(chunks, lines):
    reader = pipe_of(*chunks)
    blocks = list(arriving_lines(reader, 7))
    os.close(reader)
    assert [line for block in blocks for line in block] == lines
    assert all(1 <= len(block) <= 7 for block in blocks)


def test_lines_that_have_come_are_handed_on_together():
    reader, writer = os.pipe()
    os.write(writer, b"a\nb\nc\nd")
    blocks = arriving_lines(reader, 2)
    assert next(blocks) == [b"a\n", b"b\n"]
    assert next(blocks) == [b"c\n"]  # without waiting for the end of the fourth
    os.write(writer, b"\n")
    assert next(blocks) == [b"d\n"]
    os.close(writer)
    assert list(blocks) == []
    os.close(reader)


def test_a_descriptor_that_does_not_block_is_waited_for():
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    timer = threading.Timer(0.1, lambda: (os.write(writer, b"a\n"), os.close(writer)))
    timer.start()
    assert list(arriving_lines(reader, 5)) == [[b"a\n"]]
    os.close(reader)


def test_lines_left_in_a_file_are_counted(tmp_path):
    (tmp_path / "lines").write_bytes(b"one\ntwo\nthree\n")
    descriptor = os.open(tmp_path / "lines", os.O_RDONLY)
    os.read(descriptor, 4)
    assert count_lines(descriptor) == 2
    assert os.read(descriptor, 3) == b"two"
    os.close(descriptor)
    reader, writer = os.pipe()
    assert count_lines(reader) is None
    os.close(reader)
    os.close(writer)


def test_a_full_disk_names_the_file_and_keeps_the_rest(tmp_path, capsys):
    with pytest.raises(OSError, match="No space left") as error, OutputFile("/dev/full") as file:
        file.write(b"a")
    assert error.value.filename == "/dev/full"
    with pytest.raises(KeyboardInterrupt), OutputFile(tmp_path / "out") as file:
        file.write(b"done\n")
        raise KeyboardInterrupt
    assert (tmp_path / "out.part").read_bytes() == b"done\n"
    assert capsys.readouterr().err == f"{tmp_path / 'out.part'} holds what was done before\n"
