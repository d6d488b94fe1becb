"""What a user may do wrong at first with labelled data: each is said in one line that helps."""

import json

import numpy as np
import pytest
from dragoman.cli import main
from dragoman.train import Classification, ImageClassification
from family import encoder_for, tokenizer_of, vision_for

pytest.importorskip("tokenizers")
pytestmark = pytest.mark.filterwarnings("default")  # the command line shows them


def saved(task, model, folder):
    model.eval().save(folder)
    task.save(folder)
    return str(folder)


@pytest.fixture
def classifier(tmp_path):
    task = Classification(tokenizer_of(), ["neg", "pos"])
    return saved(task, encoder_for(task), tmp_path / "model")


def write(path, text):
    path.write_text(text)
    return str(path)


def test_columns_in_the_wrong_order(classifier, tmp_path, capsys):
    table = write(tmp_path / "test.tsv", "neg\tthe dog\npos\tthe cat\n")
    assert main(["evaluate", classifier, "--data", table, "--columns", "2,1"]) == 2
    said = "--data must have labels of the model, which are 'neg', 'pos'; got 'the cat', 'the dog'"
    assert said in capsys.readouterr().err


def test_some_labels_that_the_model_does_not_know(classifier, tmp_path, capsys):
    table = write(tmp_path / "test.tsv", "neg\tthe dog\nso-so\tthe cat\n\n")
    assert main(["evaluate", classifier, "--data", table]) == 0
    captured = capsys.readouterr()
    assert "1 of 2 labels are none of the model's: 'so-so'" in captured.err
    result = json.loads(captured.out.splitlines()[-1])
    assert result["examples"] == 2 and result["labels"]["so-so"]["support"] == 1


def test_a_line_of_names_and_one_label_alone(tmp_path, capsys):
    more = ["--columns=label,text", "--steps=1", "--threads=1", "--tokenizer=char"]
    more += ["--model-option", "num_layers=1", "d_model=8", "d_ff=8"]
    table = write(tmp_path / "a.tsv", "mood\treview\npos\tgood\nneg\tbad\npos\tfine\nneg\tpoor\n")
    assert main(["train", "--task=classify", f"--data={table}", f"--output={tmp_path / 'a'}", *more]) == 0
    assert "only the first line has the label 'mood': it looks like a line of names" in capsys.readouterr().err
    table = write(tmp_path / "b.tsv", "pos\tgood\npos\tfine\n")
    assert main(["train", "--task=classify", f"--data={table}", f"--output={tmp_path / 'b'}", *more]) == 0
    assert "all examples have the label 'pos', so there is nothing to learn" in capsys.readouterr().err


def test_lines_that_name_no_image(tmp_path, capsys, monkeypatch):
    pillow = pytest.importorskip("PIL.Image")
    monkeypatch.chdir(tmp_path)
    task = ImageClassification(["cat", "dog"], 4, 1)
    folder = saved(task, vision_for(task), tmp_path / "model")
    pillow.fromarray(np.zeros((5, 5), np.uint8)).save("a.png")
    (tmp_path / "a folder").mkdir()
    cases = {
        "a.png\n\n": "standard input: line 2: ImageClassifier: text[0] must name an image file, got an empty line",
        "a folder\n": "a folder: Is a directory",
        "b.png\n": "b.png: No such file or directory",
    }
    for text, message in cases.items():
        write(tmp_path / "in", text)
        with open("in") as file:
            monkeypatch.setattr("sys.stdin", file)
            assert main(["predict", folder]) == 2
        captured = capsys.readouterr()
        assert message.replace("ImageClassifier: text[0] ", "") in captured.err
        assert len(captured.out.splitlines()) == text.count("a.png")
