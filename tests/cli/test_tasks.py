"""The command line with each task of the encoder family: train, evaluate, predict, info."""

import json
import tomllib

import dragoman as dg
import numpy as np
import pytest
from dragoman.cli import main
from family import reviews_of, sentences_of

pytest.importorskip("tokenizers")

SMALL = ["--threads=1", "--batch-tokens=300", "--warmup=2", "--lr=1e-3", "--dropout=0", "--checkpoint-every=20"]
TOKENIZER = ["--vocab-size=64", "--tokenizer=char"]  # of a new one


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Files of each task."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(3)
    for name, count in (("train", 80), ("valid", 20)):
        reviews = reviews_of(rng, count)
        (folder / f"{name}.tsv").write_text("".join(f"{label}\t{text}\n" for text, label in reviews))
        (folder / f"{name}.txt").write_text("".join(f"{text}\n" for text, _ in reviews))
        tagged = ["\n".join(map("\t".join, zip(*each, strict=True))) for each in sentences_of(rng, count)]
        (folder / f"{name}.conll").write_text("\n\n".join(tagged))
        labels = [str(rng.choice(["dark", "light"])) for _ in range(count)]
        images = [rng.integers(0, 100, (8, 8), np.uint8) + np.uint8(100 * (label == "light")) for label in labels]
        np.savez(folder / f"{name}.npz", images=images, labels=labels)
    return folder


def train(data, output, task, suffix, *more):
    files = ["--data", str(data / f"train{suffix}"), "--valid", str(data / f"valid{suffix}")]
    made = [] if task == "image" or any(option.startswith("--from") for option in more) else TOKENIZER
    return main(["train", "--task", task, *files, "--output", str(output), *SMALL, *made, *more])


def evaluate(capsys, *arguments):
    """The last line that evaluate prints."""
    capsys.readouterr()
    assert main(["evaluate", *map(str, arguments)]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def predict(monkeypatch, tmp_path, folder, text, *more):
    (tmp_path / "in").write_text(text)
    with (tmp_path / "in").open() as file:
        monkeypatch.setattr("sys.stdin", file)
        assert main(["predict", str(folder), "--output", str(tmp_path / "out"), *more]) == 0
    return (tmp_path / "out").read_text()


@pytest.fixture(scope="module")
def classifier(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("classify") / "model"
    assert train(data, folder, "classify", ".tsv", "--columns=label,text", "--steps=40", "--best-by=accuracy") == 0
    return folder


@pytest.mark.filterwarnings("default:1 of 2 labels are none of the model's")
def test_texts_with_labels(classifier, data, capsys, monkeypatch, tmp_path):
    found = evaluate(capsys, classifier, "--data", data / "valid.tsv")
    assert found["accuracy"] > 90
    assert found["macro_f1"] > 90
    assert found["examples"] == found["labels"]["neg"]["support"] + found["labels"]["pos"]["support"] == 20
    (tmp_path / "named.tsv").write_text("id\tdocument\tmood\n1\tthe dog is good\tpos\n2\tthe cat is bad\todd\n")
    named = evaluate(capsys, classifier, "--data", tmp_path / "named.tsv", "--columns=mood,document")
    assert (named["accuracy"], named["examples"]) == (50, 2)
    assert named["labels"]["odd"]["support"] == 1
    texts = ["the dog is good", "", "the cat is bad"]
    classify = dg.Classifier.load(classifier)
    lines = predict(monkeypatch, tmp_path, classifier, "\n".join(texts)).splitlines()
    assert lines == [f"{each.label}\t{each.probability:.4f}" for each in classify(texts)]
    first = predict(monkeypatch, tmp_path, classifier, texts[0], "--top=5").split()
    assert first[::2] == list(classify(texts[0]))
    vector = predict(monkeypatch, tmp_path, classifier, texts[0], "--vectors").split("\t")
    np.testing.assert_allclose([float(x) for x in vector], dg.SentenceEncoder.load(classifier)(texts[0]), rtol=1e-4)
    capsys.readouterr()
    assert main(["info", str(classifier)]) == 0
    out = capsys.readouterr().out
    assert '"pos"' in out
    assert "parameters, task classify\n" in out


def test_words_with_tags(data, capsys, monkeypatch, tmp_path):
    folder = tmp_path / "model"
    assert train(data, folder, "tag", ".conll", "--steps=60", "--pooling=first", "--token-dropout=0.1") == 0
    assert json.loads((folder / "task.json").read_text())["token_dropout"] == 0.1
    assert evaluate(capsys, folder, "--data", data / "valid.conll")["accuracy"] > 90
    lines = predict(monkeypatch, tmp_path, folder, "they fish\nthe dog runs\n")
    tag = dg.Tagger.load(folder)
    expected = ["".join(f"{word}\t{label}\n" for word, label in tag(text)) for text in ("they fish", "the dog runs")]
    assert lines == "\n".join(expected) + "\n"


def test_a_body_is_pretrained_and_fine_tuned(data, capsys, monkeypatch, tmp_path):
    body, folder = tmp_path / "body", tmp_path / "model"
    assert train(data, body, "mlm", ".txt", "--steps=5", "--mask-ratio=0.3") == 0
    found = evaluate(capsys, body, "--data", data / "valid.txt")
    assert {"loss", "perplexity", "accuracy"} < set(found)
    assert len(predict(monkeypatch, tmp_path, body, "they").split("\t")) == 128
    more = ["--columns=label,text", "--from", str(body), "--steps=2", "--freeze", "embedding.*", "--layer-decay=0.9"]
    capsys.readouterr()
    assert train(data, folder, "classify", ".tsv", *more) == 0
    error = capsys.readouterr().err
    assert "parameters taken over" in error
    assert "1 new: head.output.weight" in error
    states = dg.load(body).state_dict(), dg.load(folder).state_dict()
    np.testing.assert_array_equal(states[0]["embedding.weight"], states[1]["embedding.weight"])
    assert (body / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    assert train(data, tmp_path / "other", "image", ".npz", "--from", str(body)) == 2
    assert "must hold a model with the config VisionConfig for --task image" in capsys.readouterr().err


@pytest.mark.parametrize("noise", ["spans", "infilling"])
def test_text_with_noise(noise, data, capsys, tmp_path):
    folder = tmp_path / "model"
    assert train(data, folder, "denoise", ".txt", "--steps=3", f"--noise={noise}") == 0
    assert evaluate(capsys, folder, "--data", data / "valid.txt")["perplexity"] > 1


def test_images(data, capsys, monkeypatch, tmp_path):
    folder = tmp_path / "model"
    options = ["--image-size=8", "--channels=1", "--patch-size=4", "--shift=1"]
    assert train(data, folder, "image", ".npz", "--steps=30", *options) == 0
    assert json.loads((folder / "task.json").read_text())["shift"] == 1
    assert evaluate(capsys, folder, "--data", data / "valid.npz")["accuracy"] > 90
    pillow = pytest.importorskip("PIL.Image")
    pillow.fromarray(np.full((16, 16), 190, np.uint8)).save(tmp_path / "light.png")
    assert predict(monkeypatch, tmp_path, folder, f"{tmp_path / 'light.png'}\n").startswith("light\t")


def test_a_run_is_resumed_with_its_task(data, capsys, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    more = ["--pooling=max", "--schedule=inverse_sqrt"]  # a rate that does not depend on the last step
    assert train(data, whole, "tag", ".conll", "--steps=6", *more) == 0
    assert train(data, parts, "tag", ".conll", "--steps=4", *more) == 0
    assert main(["train", "--config", str(parts / "train.toml"), "--resume", "--steps=6", "--threads=1"]) == 0
    states = dg.load(whole).state_dict(), dg.load(parts).state_dict()
    for name, array in states[0].items():
        np.testing.assert_array_equal(array, states[1][name])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task=classify"], "--task classify needs --data"),
        (["--task=translate", "--data=x"], "--task translate needs --source and --target"),
        (["--task=mlm", "--data=x", "--source=y"], "--source does not belong to --task mlm"),
        (["--source=x", "--target=y", "--valid=z"], "--valid does not belong to --task translate"),
        (["--task=tag", "--data=x", "--columns=1,2"], "--columns does not belong to --task tag"),
        (["--task=tag", "--data=x", "--noise=spans"], "--noise needs --task denoise, got tag"),
        (["--task=tag", "--data=x", "--shift=1"], "--shift needs --task image, got tag"),
        (["--task=mlm", "--data=x", "--token-dropout=0.1"], "--token-dropout needs --task classify or tag, got mlm"),
        (["--task=image", "--data=x", "--pooling=max"], "--pooling needs --task classify or tag, got image"),
        (["--task=classify", "--data=x", "--columns=text"], "--columns must be two, of the label"),
        (["--task=lm", "--data=x", "--columns=1,2"], "--columns must be one column, got '1,2'"),
        (["--task=image", "--data=."], ".: must hold images as LABEL/FILE, got none"),
    ],
    ids=str,
)
def test_mistakes_are_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").write_text("a\tb\n")
    assert main(["train", "--output=model", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_evaluate_needs_the_files_of_the_task(classifier, data, capsys):
    assert main(["evaluate", str(classifier)]) == 2
    assert "needs --source and --target, or --data" in capsys.readouterr().err


LAYERS = ["--model-option", "norm=rms", "--model-option=gated=true", "--model-option", "d_model=16", "d_ff=24"]


@pytest.mark.parametrize(("task", "suffix"), [("classify", ".tsv"), ("tag", ".conll"), ("lm", ".txt"), ("mlm", ".txt")])
def test_options_of_the_model(task, suffix, data, tmp_path):
    folder = tmp_path / "model"
    more = ["--columns=label,text"] if task == "classify" else []
    assert train(data, folder, task, suffix, "--steps=1", "--checkpoint-layers", *more, *LAYERS) == 0
    config = dg.load(folder).config
    assert (config.norm, config.gated, config.d_model, config.d_ff) == ("rms", True, 16, 24)
    assert 'model_option = ["norm=rms", "gated=true", "d_model=16", "d_ff=24"]' in (folder / "train.toml").read_text()
    assert main(["train", f"--config={folder}/train.toml", f"--output={folder}2", "--model-option", "gated=false"]) == 0
    config = dg.load(f"{folder}2").config
    assert (config.norm, config.gated, config.d_model) == ("rms", False, 16)


def test_options_of_the_model_of_images_and_of_a_body(data, tmp_path, capsys):
    images = ["--image-size=8", "--channels=1", "--steps=1", "--model-option", "pooling='mean'", "patch_size=2"]
    assert train(data, tmp_path / "image", "image", ".npz", *images) == 0
    assert (dg.load(tmp_path / "image").config.pooling, dg.load(tmp_path / "image").config.patch_size) == ("mean", 2)
    body = tmp_path / "body"
    assert train(data, body, "mlm", ".txt", "--steps=1", *LAYERS) == 0
    more = [f"--from={body}", "--steps=1", "--columns=label,text", "--model-option", "normalise=true"]
    assert train(data, tmp_path / "model", "classify", ".tsv", *more) == 0
    config = dg.load(tmp_path / "model").config
    assert (config.norm, config.d_model, config.normalise) == ("rms", 16, True)
    assert train(data, tmp_path / "other", "tag", ".conll", "--model-option", "num_encoder_layers=2") == 2
    assert "--model-option: unknown name 'num_encoder_layers'; did you mean num_layers?" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ([], {"lr": 0.001, "warmup": 200, "schedule": "linear", "epochs": 10, "final": "average"}),
        (["--valid=table.tsv"], {"schedule": "linear", "epochs": 10, "best_by": "accuracy", "final": "best"}),
        (
            ["--valid-fraction=0.2", "--steps=1"],
            {"schedule": "linear", "steps": 1, "epochs": None, "final": "best"},
        ),
        (["--minutes=0.0001"], {"schedule": "inverse_sqrt", "epochs": None}),
        (
            ["--lr=0.01", "--warmup=3", "--schedule=cosine", "--epochs=1"],
            {"lr": 0.01, "warmup": 3, "schedule": "cosine"},
        ),
    ],
    ids=str,
)
def test_a_task_of_labels_has_options_of_training_of_its_own(more, expected, tmp_path, monkeypatch):
    """Unless others are given. A schedule that ends at 0 needs epochs or steps, the best weights validation data."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.tsv").write_text("label\ttext\n" + "good\ta b\nbad\tc d\n" * 8)
    files = [
        "--data=table.tsv",
        "--columns=label,text",
        "--vocab-size=64",
        "--threads=1",
        "--model-option=num_layers=1",
    ]
    assert main(["train", "--task=classify", "--output=model", *files, *more]) == 0
    options = tomllib.loads((tmp_path / "model" / "train.toml").read_text())
    assert {name: options.get(name) for name in expected} == expected


@pytest.mark.parametrize("task", ["lm", "mlm"])
def test_models_of_text_are_trained_without_label_smoothing(task, data, tmp_path):
    for more, expected in ([], 0.0), (["--label-smoothing=0.2"], 0.2):
        folder = tmp_path / str(expected)
        assert train(data, folder, task, ".txt", "--steps=1", *more) == 0
        assert tomllib.loads((folder / "train.toml").read_text())["label_smoothing"] == expected
