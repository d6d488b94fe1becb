import json
import sys

import numpy as np
import pytest
from dragoman import plot
from dragoman.plot import figures

pytest.importorskip("matplotlib")

RECORDS = [
    {"step": 20, "loss": 4.0, "lr": 0.1},
    {"step": 40, "loss": 2.0, "lr": 0.2},
    {"step": 40, "valid_loss": 2.5},
    {"step": 50, "averaged": 3},
]


def lines(figure):
    (axes,) = figure.axes
    return {line.get_label(): line.get_xydata().tolist() for line in axes.lines}


def test_loss_draws_a_line_for_each_kind_of_loss():
    figure = plot.loss(RECORDS)
    assert lines(figure) == {"training": [[20, 4.0], [40, 2.0]], "validation": [[40, 2.5]]}
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_yscale()) == ("step", "log")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["training", "validation"]


def test_loss_without_validation_has_one_line():
    assert list(lines(plot.loss(RECORDS[:2]))) == ["training"]


def test_loss_reads_a_log_or_its_folder_and_writes_a_picture(tmp_path):
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    picture = tmp_path / "loss.png"
    assert (
        lines(plot.loss(tmp_path, picture))
        == lines(plot.loss(str(tmp_path / "log.jsonl")))
        == lines(plot.loss(RECORDS))
    )
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("line", ['{"step": 1, "lo', "[]", '{"loss": 1.0}', '{"step": "1", "loss": 1.0}', "\udcff"])
def test_loss_names_the_line_of_a_log_that_is_no_record(tmp_path, line):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 1, "loss": 1.0}\n' + line.encode(errors="surrogateescape") + b"\n")
    with pytest.raises(ValueError, match=r"log\.jsonl: line 2 is not a record"):
        plot.loss(path)


@pytest.mark.parametrize("records", [[], [{"step": 1, "averaged": 3}]])
def test_loss_of_a_log_without_losses(records):
    with pytest.raises(ValueError, match=r"plot\.loss: log must hold records with a loss, got none"):
        plot.loss(records)


def test_loss_of_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        plot.loss(tmp_path)


def test_attention_shows_the_weights_under_the_names_of_their_tokens(tmp_path):
    weights = np.random.default_rng(0).dirichlet(np.ones(3), 2)
    picture = tmp_path / "attention.png"
    figure = plot.attention(weights, ["a", "$b$", "c"], ["x", "y"], picture, title="layer $1$")
    panel, scale = figure.axes
    (image,) = panel.images
    np.testing.assert_array_equal(image.get_array(), weights)
    assert image.get_clim() == (0, 1)
    assert [label.get_text() for label in panel.get_xticklabels()] == ["a", "$b$", "c"]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["x", "y"]
    assert (panel.get_xlabel(), panel.get_ylabel(), panel.get_title()) == ("source token", "target token", "")
    assert figure.get_suptitle() == "layer $1$"
    assert scale.get_ylabel() == "attention weight"
    assert (tmp_path / "attention.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("num_heads", [1, 3, 4])
def test_attention_has_a_panel_for_each_head(num_heads, tmp_path):
    weights = np.random.default_rng(0).dirichlet(np.ones(5), (num_heads, 4))
    figure = plot.attention(weights, list("abcde"), list("wxyz"), tmp_path / "attention.png")
    *panels, _ = figure.axes
    np.testing.assert_array_equal([panel.images[0].get_array() for panel in panels], weights)
    named = [f"head {number}" for number in range(num_heads)] if num_heads > 1 else [""]
    assert [panel.get_title() for panel in panels] == named
    assert {(panel.get_xlabel(), panel.get_ylabel()) for panel in panels} == {("source token", "target token")}
    assert figure.get_suptitle() == ""


def test_attention_of_a_long_text_stays_a_picture_of_reasonable_size():
    figure = plot.attention(np.zeros((300, 300)), ["s"] * 300, ["t"] * 300)
    assert max(figure.get_size_inches()) <= figures.LARGEST


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.zeros(3), r"weights must have shape \(target tokens, source tokens\)"),
        (np.zeros((1, 1, 2, 3)), r"got \(1, 1, 2, 3\)"),
        (np.zeros((0, 3)), r"got \(0, 3\)"),
        (np.full((2, 3), np.nan), "weights must be finite"),
        (np.zeros((3, 3)), "tgt_tokens must hold 3 tokens, as weights does, got 2"),
        (np.zeros((2, 2)), "src_tokens must hold 2 tokens, as weights does, got 3"),
    ],
)
def test_attention_refuses_what_does_not_fit(weights, message):
    with pytest.raises(ValueError, match=rf"plot\.attention: .*{message}"):
        plot.attention(weights, ["a", "b", "c"], ["x", "y"])


def test_pictures_leave_no_global_state():
    before = set(sys.modules)
    plot.loss(RECORDS)
    plot.attention(np.zeros((1, 1)), ["a"], ["b"])
    assert "matplotlib.pyplot" not in set(sys.modules) - before


def test_pictures_without_matplotlib_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'dragoman\[plot\]'"):
        plot.loss(RECORDS)
