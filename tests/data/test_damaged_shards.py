"""Damages of shards, each with the sentence that it must end in. A column of wrong ids would train a wrong model."""

import json

import numpy as np
import pytest
from damaged_json import GONE, text_of, with_part
from dragoman.data import Shards
from dragoman.data.shards import write_shards

ROWS = {"source": [[5, 6, 2], [7, 2], [2]], "target": [[6, 5], [], [9, 9, 9, 9]]}
INDEX = "not the index of shards"
ROWS_ABOVE_0 = f"{INDEX} .rows must be an int above 0, got"
OTHER = "damaged: SHA-256 must be '[0-9a-f]{64}', got [0-9a-f]{64}"


@pytest.fixture
def folder(tmp_path):
    rows = list(zip(*ROWS.values(), strict=True))
    write_shards(tmp_path, {}, {"tokenizer": "x"}, lambda: rows, lambda _: ROWS)
    assert Shards(tmp_path)[:] == rows
    return tmp_path


def refused(folder, file, message):
    with pytest.raises(ValueError, match=message) as caught:
        Shards(folder)
    assert str(folder / file) in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("path", "part", "message"),
    [
        ("format", GONE, rf"{INDEX} .format must be dragoman\.data\.shards\.2, got None"),
        ("format", "dragoman.data.shards.1", f"{INDEX} .format must be .*, got 'dragoman.data.shards.1'"),
        ("format", 2, f"{INDEX} .format must be .*, got 2"),
        ("format", ["dragoman.data.shards.2"], f"{INDEX} .format must be"),
        ("rows", GONE, f"{ROWS_ABOVE_0} None"),
        ("rows", None, f"{ROWS_ABOVE_0} None"),
        ("rows", 0, f"{ROWS_ABOVE_0} 0"),
        ("rows", -3, f"{ROWS_ABOVE_0} -3"),
        ("rows", 3.0, f"{ROWS_ABOVE_0} 3.0"),
        ("rows", "3", f"{ROWS_ABOVE_0} '3'"),
        ("rows", True, f"{ROWS_ABOVE_0} True"),
        ("rows", [3], rf"{ROWS_ABOVE_0} \[3\]"),
        ("rows", 2**63, f"{ROWS_ABOVE_0} 9223372036854775808"),
        ("rows", 10**400, f"{ROWS_ABOVE_0} 1000"),
        ("rows", 2, r"\.offsets: must have 24 bytes, got 32"),
        ("rows", 4, r"\.offsets: must have 40 bytes, got 32"),
        ("rows", 2**40, r"\.offsets: must have 8796093022216 bytes, got 32"),
        ("columns", GONE, f"{INDEX} .columns and made_of must be given"),
        ("columns", None, f"{INDEX} .columns and made_of must be given"),
        ("columns", [], f"{INDEX} .columns and made_of must be given"),
        ("columns", {}, f"{INDEX} .columns and made_of must be given"),
        ("columns", "source", f"{INDEX} .columns and made_of must be given"),
        ("made_of", GONE, f"{INDEX} .columns and made_of must be given"),
        ("columns.source", None, "column 'source' must have ids, an int of at least 0, got None"),
        ("columns.source", [], "column 'source' must have ids, an int of at least 0, got None"),
        ("columns.source.ids", GONE, "column 'source' must have ids, .*, got None"),
        ("columns.source.ids", -1, "column 'source' must have ids, .*, got -1"),
        ("columns.source.ids", 6.0, "column 'source' must have ids, .*, got 6.0"),
        ("columns.source.ids", True, "column 'source' must have ids, .*, got True"),
        ("columns.source.ids", 10**400, "column 'source' must have ids, .*, got 1000"),
        ("columns.source.ids", 5, r"source\.ids: must have 20 bytes, got 24"),
        ("columns.source.ids", 2**40, r"source\.ids: must have 4398046511104 bytes, got 24"),
        ("columns.source.digest", GONE, "column 'source' must have a digest, a text, got None"),
        ("columns.source.digest", 3, "column 'source' must have a digest, a text, got 3"),
        ("columns.source.digest", "", "source.ids: damaged: SHA-256 must be '', got"),
        ("columns.source.digest", "0" * 64, f"source.ids: damaged: SHA-256 must be '{'0' * 64}', got"),
        ("columns.source.digest", "x" * 10_000, "source.ids: damaged: SHA-256 must be 'xxx"),
        ("columns.", {"ids": 0, "digest": ""}, "a column must be a name, got ''"),
        ("columns.a b", {"ids": 0, "digest": ""}, "a column must be a name, got 'a b'"),
        ("columns." + "a" * 101, {"ids": 0, "digest": ""}, "a column must be a name, got 'aaa"),
        ("columns.\0", {"ids": 0, "digest": ""}, r"a column must be a name, got '\\x00'"),
    ],
    ids=range(41),
)
def test_a_damaged_part_of_the_index(folder, path, part, message):
    index = folder / "data.json"
    index.write_bytes(text_of(with_part(json.loads(index.read_text()), path, part)))
    refused(folder, "", message)


def test_a_column_is_no_path(folder):
    index = folder / "data.json"
    values = json.loads(index.read_text())
    values["columns"]["../source"] = values["columns"].pop("source")
    index.write_bytes(text_of(values))
    refused(folder, "data.json", r"a column must be a name, got '\.\./source'")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be JSON"),
        (b"{", "must be JSON"),
        (b"\xff", "must be JSON"),
        (b"[" * 100_000, "must be JSON, got too many brackets"),
        (b"[1]", "must hold an object, got list"),
        (b"null", "must hold an object, got NoneType"),
        (b'{"rows": 3, "rows": 3}', "the name 'rows' stands twice"),
        (b'{"rows": Infinity}', "numbers must be finite"),
        (b" " * (1 << 24) + b"{}", "must have at most 16,777,216 bytes"),
    ],
    ids=range(9),
)
def test_a_damaged_text_of_the_index(folder, content, message):
    (folder / "data.json").write_bytes(content)
    refused(folder, "data.json", message)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("source.ids", lambda ids: ids[:-1], r"source\.ids: must have 24 bytes, got 20"),
        ("source.ids", lambda ids: np.append(ids, ids[:1]), r"source\.ids: must have 24 bytes, got 28"),
        ("source.ids", lambda ids: ids[:0], r"source\.ids: must have 24 bytes, got 0"),
        ("source.ids", lambda ids: ids + 1, OTHER),
        ("source.ids", lambda ids: ids ^ 2**30, OTHER),
        ("source.ids", lambda ids: -ids, OTHER),
        ("source.ids", lambda ids: ids[::-1], OTHER),
        ("source.ids", lambda ids: ids * 0, OTHER),
        ("target.ids", lambda ids: np.roll(ids, 1), OTHER),
        ("target.offsets", lambda offsets: offsets[:-1], r"target\.offsets: must have 32 bytes, got 24"),
        ("target.offsets", lambda offsets: offsets * 0, "target.offsets: must run from 0 to 6"),
        ("target.offsets", lambda offsets: offsets + 1, "target.offsets: must run from 0 to 6"),
        ("target.offsets", lambda offsets: -offsets, "target.offsets: must run from 0 to 6"),
        ("target.offsets", lambda offsets: offsets * 2**60, "target.offsets: must run from 0 to 6"),
        ("target.offsets", lambda offsets: np.array([0, 3, 2, 6]), "target.offsets: must not fall, and end at 6"),
        ("target.offsets", lambda offsets: np.array([0, 7, 7, 6]), "target.offsets: must not fall, and end at 6"),
        ("target.offsets", lambda offsets: np.array([0, -5, 2, 6]), "target.offsets: must not fall, and end at 6"),
        ("target.offsets", lambda offsets: np.array([0, 2**62, 2, 6]), "target.offsets: must not fall, and end at 6"),
        ("target.offsets", lambda offsets: np.array([0, 1, 2, 6]), OTHER),  # other rows of the same ids
        ("target.offsets", lambda offsets: np.array([0, 0, 0, 6]), OTHER),
    ],
    ids=range(20),
)
def test_damaged_columns(folder, file, change, message):
    path = folder / file
    values = np.fromfile(path, "<i8" if file.endswith("offsets") else "<i4")
    change(values).astype(values.dtype).tofile(path)
    refused(folder, "", message)


def test_a_missing_file(folder):
    (folder / "target.ids").unlink()
    with pytest.raises(FileNotFoundError, match=r"target\.ids"):
        Shards(folder)


def test_shards_that_change_while_they_are_opened(folder, monkeypatch):
    """The index of one content must not be taken with the columns of another."""
    real = Shards._open

    def replaced(shards, name, size):
        (folder / "data.json").write_bytes((folder / "data.json").read_bytes().replace(b'"x"', b'"y"'))
        return real(shards, name, size)

    monkeypatch.setattr(Shards, "_open", replaced)
    refused(folder, "data.json", "must not change while it is read")
