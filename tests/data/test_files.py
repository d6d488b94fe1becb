"""Files of text as they come: compressed, from Windows, as tables, as pipes."""

import bz2
import codecs
import gzip
import lzma
import os
import sys
import threading
import types
import warnings
from pathlib import Path

import pytest
from dragoman.data import Column, iter_parallel, read_lines, read_parallel, sample_lines, tokenize
from dragoman.data import compressed as compressed_files
from dragoman.data.spool import spooled
from dragoman.data.text import decode_line

TEXT = "eins\nzwei ü\ndrei"


@pytest.mark.parametrize(
    ("ending", "pack"),
    [
        (".gz", gzip.compress),
        (".GZ", gzip.compress),
        (".bz2", bz2.compress),
        (".xz", lzma.compress),
        (".XZ", lzma.compress),
    ],
)
def test_compressed_by_the_ending(ending, pack, tmp_path):
    path = tmp_path / f"a{ending}"
    whole = pack(TEXT.encode())
    path.write_bytes(whole)
    assert read_lines(path) == read_lines(str(path)) == TEXT.split("\n")
    path.write_bytes(pack(b"eins\n") + pack(b"zwei"))  # two streams, one after the other
    assert read_lines(path) == ["eins", "zwei"]
    for broken in (b"no such thing", whole[: len(whole) // 2], whole[:8] + b"\xff" * 9 + whole[17:]):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=rf"a\{ending}: not a (gzip|bzip2|xz) file \("):
            read_lines(path)


def test_zstd_with_and_without_its_module(tmp_path, monkeypatch):
    path = tmp_path / "a.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd")
    monkeypatch.setitem(sys.modules, "compression", None)
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    with pytest.raises(ValueError, match=r"a\.zst: zstd needs Python 3\.14 or newer; unpack the file first"):
        read_lines(path)

    class ZstdError(Exception):
        pass

    module = types.ModuleType("compression.zstd")
    module.open, module.ZstdError = (lambda file: file), ZstdError
    monkeypatch.setitem(sys.modules, "compression", types.ModuleType("compression"))
    monkeypatch.setitem(sys.modules, "compression.zstd", module)
    path.write_text("eins\n")
    assert read_lines(path) == ["eins"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_utf16_is_named(encoding, tmp_path):
    (tmp_path / "a").write_bytes(TEXT.encode(encoding))
    with pytest.raises(ValueError, match="a: looks like UTF-16; make it UTF-8, "):
        read_lines(tmp_path / "a")


def test_lines_that_end_in_a_carriage_return_alone_are_named(tmp_path, monkeypatch):
    path = tmp_path / "a"
    for text in ("eins\rzwei\r", "eins\rzwei", "\reins"):
        path.write_bytes(text.encode())
        with pytest.raises(ValueError, match=r"a: its lines end in carriage returns alone; make them line feeds"):
            read_lines(path)
    for text, lines in (("eins\r\nzwei\r\n", ["eins", "zwei"]), ("eins\r", ["eins"]), ("a\rb\nc", ["a\rb", "c"])):
        path.write_bytes(text.encode())
        assert read_lines(path) == lines
    monkeypatch.setattr(compressed_files, "LINE_BYTES", 10)
    path.write_bytes(b"eins\rzwei\rdrei")
    with pytest.raises(ValueError, match=r"a: line 1 has more than 10 bytes; .* not in a carriage return alone"):
        read_lines(path)
    path.write_bytes(b"0123456789")
    assert read_lines(path) == ["0123456789"]
    with pytest.raises(ValueError, match=r"/dev/zero: line 1 has more than 10 bytes; lines must end in a line feed$"):
        read_lines("/dev/zero")


def test_a_byte_order_mark_is_dropped_from_line_1_alone():
    assert decode_line(codecs.BOM_UTF8 + b"a\n", "x", 1) == "a"
    assert decode_line(codecs.BOM_UTF8 + b"a\n", "x", 2) == "\ufeffa"


def test_columns_of_a_table(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("id\ten\tde\n1\ta man\tein Mann\n2\ta dog\tein Hund\n")
    pairs = [("a man", "ein Mann"), ("a dog", "ein Hund")]
    assert read_parallel(Column(path, "en"), Column(path, "de")) == pairs
    assert read_parallel([Column(path, 2)], [Column(str(path), 3)]) == [("en", "de"), *pairs]
    assert list(sample_lines(Column(path, "de"), 1000)) == ["ein Mann", "ein Hund"]
    with pytest.raises(ValueError, match=r"a\.tsv: has no column 'fr' in its first line, only id, en, de"):
        read_lines(Column(path, "fr"))
    with pytest.raises(ValueError, match=r"a\.tsv: line 1 has 3 columns, too few for column 4"):
        read_lines(Column(path, 4))
    path.write_text("en\tde\na\tb\n\tc\nd\n")
    with pytest.raises(ValueError, match=r"a\.tsv \(column en\): line 3 is empty"):
        read_parallel(Column(path, "en"), Column(path, "en"))
    with pytest.raises(ValueError, match=r"a\.tsv: line 4 has 1 columns, too few for column de"):
        read_lines(Column(path, "de"))
    path.write_text("")
    with pytest.raises(ValueError, match="has no column 'en'"):
        read_lines(Column(path, "en"))


def test_other_columns_of_a_table_are_other_shards(tmp_path):
    pytest.importorskip("tokenizers")
    from dragoman.data import Tokenizer

    path = tmp_path / "a.tsv"
    path.write_text("a man\tein Mann\n")
    tokenizer = Tokenizer.train(["a man", "ein Mann"], 64, "char")
    for source, target in ((1, 2), (2, 1), (1, 1)):
        shards = tokenize(tokenizer, Column(path, source), Column(path, target), tmp_path / "data")
        decoded = [tokenizer.decode(ids) for ids in shards[0]]
        assert decoded == [("a man", "ein Mann")[side - 1] for side in (source, target)]


def test_a_tab_in_a_plain_line_is_said_once(tmp_path):
    paths = [tmp_path / name for name in ("a", "b")]
    for path in paths:
        path.write_text("x\ny\tz\nu\tv\n")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert len(list(iter_parallel(*paths))) == 3
    assert [str(warning.message).partition("; ")[0] for warning in told] == [
        f"{paths[0]}: line 2 holds a tab, which stays in the text"
    ]


def test_a_pipe_is_refused_where_it_would_be_read_twice(tmp_path):
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)
    for path in (pipe, "/dev/null", Column(pipe, 1)):
        with pytest.raises(
            ValueError, match="must be a file, because it is read more than once, got a pipe, a device or a socket"
        ):
            next(sample_lines(path, 100))
    tokenizer = types.SimpleNamespace(digest=lambda: "")
    with pytest.raises(ValueError, match="pipe: must be a file"):
        tokenize(tokenizer, pipe, pipe, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_pipes_are_copied_once_side_by_side(tmp_path):
    pipes = [str(tmp_path / name) for name in ("en", "de.gz", "empty")]
    plain, other = str(tmp_path / "plain"), str(tmp_path / "." / ".." / tmp_path.name / "en")  # also of pipes[0]
    Path(plain).touch()
    for pipe in pipes:
        os.mkfifo(pipe)

    def write():  # one program that writes them all
        with open(pipes[0], "wb") as first, open(pipes[1], "wb") as second, open(pipes[2], "wb"):
            for _ in range(40):  # more than a pipe holds
                first.write(b"a" * 9999 + b"\n")
                first.flush()
                second.write(b"b" * 9999 + b"\n")
                second.flush()

    writer = threading.Thread(target=write)
    writer.start()
    told = []
    with pytest.raises(ValueError, match=f"^{pipes[1]}: line 3, not {plain}$"):  # noqa: SIM117
        with spooled([*pipes, plain, pipes[0], other, str(tmp_path / "none")], told.append) as copies:
            assert list(copies) == [*pipes, other]
            assert copies[other] == copies[pipes[0]]
            assert [Path(copies[pipe]).suffix for pipe in pipes] == ["", ".gz", ""]
            assert Path(copies[pipes[0]]).read_bytes() == (b"a" * 9999 + b"\n") * 40
            assert Path(copies[pipes[1]]).read_bytes() == (b"b" * 9999 + b"\n") * 40
            assert Path(copies[pipes[2]]).read_bytes() == b""
            raise ValueError(f"{copies[pipes[1]]}: line 3, not {plain}")
    writer.join()
    assert told == [f"reading {', '.join([*pipes, other])}"]
    assert not any(Path(copy).exists() for copy in copies.values())


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_path_that_no_file_can_have_is_named_by_its_argument(tmp_path, side):
    (tmp_path / "text").write_text("a\n")
    for path, place in (("\0", side), (["\0"], rf"{side}\[0\]")):
        files = {"source": tmp_path / "text", "target": tmp_path / "text", side: path}
        with pytest.raises(ValueError, match=f"^lines: {place} must be a path without a null character, got"):
            read_parallel(**files)
