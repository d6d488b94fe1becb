"""Readers of tables, tagged words and images."""

import gzip
import os
import sys
import warnings

import numpy as np
import pytest
from dragoman.data import image_files, iter_conll, iter_images, iter_tsv, read_image
from dragoman.data.text import iter_texts
from dragoman.train.classification import iter_labelled, learnt_labels, ordered_labels


def write(path, text):
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz"])
@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("id\tdocument\tlabel\n1\t좋아요\t1\n2\t\t0\n", ["label", "document"]),
        ("label\ttext\n1\t좋아요\n0\t\n", ["label", "text"]),
        ("text\tlabel\n좋아요\t1\n\t0\n", ["text", "label"]),
        ("1\t좋아요\n0\t\n", ["label", "text"]),
        ("좋아요\t1\n\t0\n", ["text", "label"]),
        ("x\t좋아요\t1\nx\t\t0\n", ["3", "2"]),
    ],
    ids=str,
)
def test_labelled_texts(tmp_path, name, text, columns):
    assert list(iter_labelled(write(tmp_path / name, text), columns)) == [("좋아요", "1"), ("", "0")]


def test_empty_lines_between_are_passed_over(tmp_path):
    path = write(tmp_path / "a", "\n1\tx\n\n0\t\n\n")
    assert list(iter_labelled(path)) == [("x", "1"), ("", "0")]
    assert list(iter_tsv(write(tmp_path / "b", "x\n\ny\n"), ["1"])) == [("x",), ("",), ("y",)]
    with pytest.raises(ValueError, match="a has no lines"):
        list(iter_labelled(write(tmp_path / "a", "\n\n")))


def test_labels_that_look_like_a_mistake_are_said():
    with pytest.warns(UserWarning, match="all examples have the label 'x', so there is nothing to learn"):
        assert learnt_labels(iter("xx")) == ["x"]
    with pytest.warns(UserWarning, match="only the first line has the label 'label': it looks like a line of names"):
        assert learnt_labels(["label", "1", "0", "1", "0"]) == ["0", "1", "label"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert learnt_labels(["2", "1", "0", "1"]) == ["0", "1", "2"]
        assert learnt_labels(["2", "1", "1"], of_lines=False) == ["1", "2"]


def test_a_table_keeps_quotes_and_reads_several_files(tmp_path):
    paths = [write(tmp_path / name, f'b\ta\n"x\t{name}\n') for name in ("1", "2")]
    assert list(iter_tsv(paths, ["a", "b"])) == [("1", '"x'), ("2", '"x')]


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("a\tb\n1\t2\n", ["c", "b"], "must have the columns c, b in its first line, got 'a, b'"),
        ("label\tdocument\n1\t2\n", ["label", "text"], "must have the columns label, text"),
        ("1\tx\n1\n", ["label", "text"], "line 2 must have at least 2 cells, got 1"),
        ("", ["label", "text"], "has no lines"),
        ("1\tx\n", ["0", "1"], "must have the columns 0, 1"),
        ("1\tx\n", ["text"], "columns must be two, of the label and of the text, got 'text'"),
    ],
    ids=str,
)
def test_bad_tables_are_refused(tmp_path, text, columns, message):
    with pytest.raises(ValueError, match=message):
        list(iter_labelled(write(tmp_path / "a", text), columns))


def test_labels_are_ordered_as_numbers_or_by_letters():
    assert ordered_labels(["10", "9", "9", "0"]) == ["0", "9", "10"]
    assert ordered_labels(["b", "10", "a"]) == ["10", "a", "b"]


@pytest.mark.parametrize("name", ["a", "a.gz"])
def test_tagged_words(tmp_path, name):
    text = "# sent_id = 1\nThe \tDET\r\ncat\tNN\tNOUN \n#\tSYM\n\n\nYes\tINTJ"
    expected = [(["The", "cat", "#"], ["DET", "NOUN", "SYM"]), (["Yes"], ["INTJ"])]
    assert list(iter_conll(write(tmp_path / name, text))) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\tX\nb\n", "line 2 must be a word, a tab and a tag, got 'b'"),
        ("a\t\n", "line 1 must be a word, a tab and a tag"),
        ("\tX\n", "line 1 must be a word, a tab and a tag"),
        ("\n\n", "has no sentences"),
    ],
    ids=str,
)
def test_bad_files_of_words_are_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        list(iter_conll(write(tmp_path / "a", text)))


def test_plain_text_passes_over_empty_lines(tmp_path):
    paths = [write(tmp_path / "a", "x\n\n y\n"), write(tmp_path / "b", "\n")]
    assert list(iter_texts(paths)) == ["x", " y"]
    with pytest.raises(ValueError, match="b has no lines of text"):
        list(iter_texts(paths[1]))


def test_a_folder_of_images(tmp_path, rng):
    pillow = pytest.importorskip("PIL.Image")
    pixels = rng.integers(0, 256, (4, 4, 3), np.uint8)
    for label in ("dog", "cat"):
        (tmp_path / label).mkdir()
        for i in range(2):
            pillow.fromarray(pixels).save(tmp_path / label / f"{i}.png")
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "cat" / "._0.png").write_text("no image either")
    (tmp_path / ".checkpoints").mkdir()
    pillow.fromarray(pixels).save(tmp_path / ".checkpoints" / "0.png")
    assert [(path.name, label) for path, label in image_files(tmp_path)] == [
        ("0.png", "cat"), ("1.png", "cat"), ("0.png", "dog"), ("1.png", "dog"),
    ]  # fmt: skip
    found = list(iter_images(tmp_path, 4, 3))
    np.testing.assert_array_equal(found[0][0], pixels)
    assert read_image(tmp_path / "cat" / "0.png", 8, 1).shape == (8, 8, 1)
    (tmp_path / "cat" / "0.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"0\.png: not an image"):
        list(iter_images(tmp_path, 4, 3))
    with pytest.raises(IsADirectoryError):
        read_image(tmp_path / "cat", 4, 3)
    with pytest.raises(ValueError, match="channels must be 1, 3 or 4, got 2"):
        read_image(tmp_path / "dog" / "0.png", 4, 2)
    with pytest.raises(ValueError, match="must hold images as LABEL/FILE, got none"):
        image_files(tmp_path / "cat")


def test_without_pillow_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'dragoman\[image\]'"):
        read_image(tmp_path / "a.png", 4, 3)


def test_arrays_of_images(tmp_path, rng):
    images = rng.integers(0, 256, (3, 4, 4), np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=[7, 0, 7])
    found = list(iter_images(tmp_path / "a.npz", 4, 1))
    assert [label for _, label in found] == ["7", "0", "7"]
    np.testing.assert_array_equal([image for image, _ in found], images)
    np.savez(tmp_path / "b.npz", images=images)
    np.savez(tmp_path / "c.npz", images=images, labels=[1, 2])
    np.savez(tmp_path / "e.npz", images=images, labels=np.array([1, "a", None], object))
    np.save(tmp_path / "one.npy", images)
    os.rename(tmp_path / "one.npy", tmp_path / "f.npz")
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "g.npz").write_bytes(whole[:60] + bytes(20) + whole[80:])
    (tmp_path / "h.npz").write_text("great film\tpos\n")
    (tmp_path / "i.npz").touch()
    neither, unread = (
        "folder with files LABEL/FILE, or a .npz file; this is neither",
        "damaged, or holds Python objects",
    )
    messages = {"b": "arrays images and labels", "c": "got shapes", "e": unread, "f": neither, "g": unread}
    for name, message in (messages | dict.fromkeys("hi", neither)).items():
        with pytest.raises(ValueError, match=message) as raised:
            list(iter_images(tmp_path / f"{name}.npz", 4, 1))
        assert "pickle" not in str(raised.value)
