"""A second task through the same Trainer: labels for the tokens of a sequence, by a model of this file's own."""

import json
from collections.abc import Sequence

import dragoman as dg
import numpy as np
import pytest
from dragoman import functional, nn
from dragoman.data import Shards
from dragoman.data.columns import columns_of
from dragoman.train import Batch, Score, Task, Trainer, TrainingOptions, Translation
from dragoman.train.checkpoint import CheckpointFolder, read_state
from dragoman.train.tasks import TASKS
from toy_runs import model_of

pytestmark = pytest.mark.usefixtures("one_thread")
OPTIONS = {"batch_tokens": 60, "accumulate": 2, "warmup": 1, "lr": 1e-2, "log_interval": 1, "label_smoothing": 0.0}
VOCABULARY, LABELS = 12, 3


class Tagger(nn.Module):
    """A label for each token, from the token alone."""

    def __init__(self):
        self.embedding = nn.Embedding(VOCABULARY, 16, dropout=0.1)
        self.output = nn.Linear(16, LABELS)

    def scores(self, ids):
        flat, sequences = np.concatenate([*map(np.asarray, ids)]), dg.Sequences([len(each) for each in ids])
        return self.output(self.embedding(flat, sequences), sequences)

    def loss(self, ids, labels, num_targets):
        flat = np.concatenate([*map(np.asarray, labels)])
        return functional.cross_entropy(self.scores(ids), flat, num_targets=num_targets)

    def save(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / "tagger.npz", **self.state_dict())


class Tagging(Task):
    """Examples are (tokens, labels), as ids or as words "id/label"; a tenth of the tokens is replaced at random."""

    name = "tag"
    unit = "sentence"
    columns = ("tokens", "labels")
    files = ("data",)
    scores = {"accuracy": Score("accuracy"), "errors": Score("errors", larger_is_better=False)}  # noqa: RUF012

    def check(self, name, examples):
        if not isinstance(examples, Sequence) or not examples:
            raise TypeError(f"Trainer: {name} must be a list of sentences, got {examples!r}")

    def encode(self, examples):
        if isinstance(examples[0], str):
            words = [[word.split("/") for word in line.split()] for line in examples]
            examples = [([int(w) for w, _ in line], [int(label) for _, label in line]) for line in words]
        return columns_of(self.columns, examples)

    def read(self, files):
        return files["data"].read_text().splitlines()

    def costs(self, lengths, model, options):
        assert (lengths["tokens"] == lengths["labels"]).all()
        return np.where(lengths["tokens"] <= options.max_length, lengths["tokens"], 0)

    def batch(self, rows, model, seed):
        draw, count = np.random.default_rng(seed), sum(map(len, rows["tokens"]))
        noisy = [[0 if draw.random() < 0.1 else id for id in ids] for ids in rows["tokens"]]
        return Batch({"tokens": noisy, "labels": rows["labels"]}, count, count)

    def loss(self, model, batch, num_targets, options):
        return model.loss(batch.columns["tokens"], batch.columns["labels"], num_targets)

    def scorer(self, model, options):
        return Accuracy()

    def save(self, folder):
        (folder / "labels.json").write_text("[0, 1, 2]")


class Accuracy:
    def __init__(self):
        self.right = self.count = 0

    def measure(self, model, batch, examples, loss):
        assert len(examples) == len(batch.columns["labels"])
        labels = np.concatenate([*map(np.asarray, batch.columns["labels"])])
        return [int((model.scores(batch.columns["tokens"]).numpy().argmax(1) == labels).sum()), len(labels)]

    def add(self, measured):
        right, count = measured
        self.right += right
        self.count += count

    def record(self):
        return {"accuracy": 100 * self.right / self.count, "errors": self.count - self.right}


def tagger_of(seed=0):
    dg.manual_seed(seed)
    return Tagger()


@pytest.fixture
def sentences(rng):
    """The label of a token is its remainder by 3; token 0 stands for noise."""
    tokens = [rng.integers(1, VOCABULARY, rng.integers(1, 9)).tolist() for _ in range(120)]
    return [(ids, [id % LABELS for id in ids]) for ids in tokens]


def untimed(records):
    return [{k: v for k, v in record.items() if k not in ("seconds", "tokens_per_s")} for record in records]


def bits(model):
    return {name: array.tobytes() for name, array in model.state_dict().items()}


def test_learns_and_is_scored(sentences, tmp_path, capsys):
    model = tagger_of()
    trainer = Trainer(model, task=Tagging(), output=tmp_path, epochs=12, best_by="accuracy", final="best", **OPTIONS)
    records = trainer.fit(sentences[20:], sentences[:20])
    text = capsys.readouterr().err
    assert text.startswith("100 sentences in ")
    assert "accuracy 9" in text
    assert "errors " in text
    validations = [record for record in records if "valid_accuracy" in record]
    assert validations[-1]["final"] == "best"
    assert validations[-1]["valid_accuracy"] == max(record["valid_accuracy"] for record in validations) > 80
    assert json.loads((tmp_path / "labels.json").read_text()) == [0, 1, 2]
    assert (tmp_path / "tagger.npz").exists()
    state = read_state(CheckpointFolder(tmp_path / "checkpoints", 8).newest())
    assert state["data"]["task"] == "tag"
    assert state["data"]["sentences"] == 100
    assert set(state["data"]["columns"]) == {"tokens", "labels"}
    best = min(
        record["step"] for record in validations if record["valid_accuracy"] == validations[-1]["valid_accuracy"]
    )
    assert state["position"]["best_step"] == best


def test_the_smaller_score_can_be_the_better(sentences, tmp_path):
    options = {"output": tmp_path, "max_steps": 20, "checkpoint_every": 2, "best_by": "errors", **OPTIONS}
    records = Trainer(tagger_of(), task=Tagging(), **options).fit(sentences, sentences[:30])
    errors = {r["step"]: r["valid_errors"] for r in records if "valid_errors" in r and "final" not in r}
    state = read_state(CheckpointFolder(tmp_path / "checkpoints", 8).newest())
    assert state["position"]["best_score"] == min(errors.values())


@pytest.mark.parametrize("broken_at", [3, 8, 10])
def test_a_resumed_run_sees_the_same_noise(broken_at, sentences, tmp_path):
    whole, again = tagger_of(), tagger_of(5)
    options = {"task": Tagging(), "checkpoint_every": 4, "ema": 0.9, **OPTIONS}
    Trainer(whole, output=tmp_path / "whole", max_steps=13, **options).fit(sentences, sentences[:9])
    Trainer(tagger_of(), output=tmp_path / "parts", max_steps=broken_at, **options).fit(sentences, sentences[:9])
    Trainer(again, output=tmp_path / "parts", max_steps=13, **options).fit(sentences, sentences[:9], resume=True)
    assert bits(again) == bits(whole)
    texts = [(tmp_path / run / "log.jsonl").read_text() for run in ("whole", "parts")]
    logs = [untimed(map(json.loads, text.splitlines())) for text in texts]
    assert logs[0] == logs[1]


def test_files_become_shards_that_train_the_same(sentences, tmp_path):
    lines = [" ".join(f"{id}/{label}" for id, label in zip(*each, strict=True)) for each in sentences]
    (tmp_path / "train").write_text("\n".join(lines))
    task = Tagging()
    shards = task.shards({"data": tmp_path / "train"}, tmp_path / "data")
    assert isinstance(shards, Shards)
    assert shards[:] == sentences
    models = [tagger_of() for _ in range(3)]
    for model, data in zip(models, (shards, sentences, lines), strict=True):
        Trainer(model, task=task, max_steps=4, **OPTIONS).fit(data, data[:9])
    assert bits(models[0]) == bits(models[1]) == bits(models[2])


def test_what_does_not_fit_is_named(sentences, pairs, tmp_path):
    with pytest.raises(ValueError, match="best_by must be one of loss, accuracy, errors, got 'bleu'"):
        Trainer(tagger_of(), task=Tagging(), best_by="bleu", lr=1e-3)
    with pytest.raises(ValueError, match=r"lr must be given for a model without config\.d_model"):
        Trainer(tagger_of(), task=Tagging())
    with pytest.raises(TypeError, match="model must be a Model, got Tagger"):
        Trainer(tagger_of())
    with pytest.raises(TypeError, match="task must be a Task, got str"):
        Trainer(model_of(), task="tag")
    with pytest.raises(ValueError, match="tokenizer must be None beside a task"):
        Trainer(model_of(), task=Translation(), tokenizer=object.__new__(dg.Tokenizer))
    with pytest.raises(TypeError, match="model must have a method save beside output, got Linear"):
        Trainer(nn.Linear(2, 2), task=Tagging(), output=tmp_path, lr=1e-3)
    with pytest.raises(TypeError, match="train must be a list of sentences"):
        Trainer(tagger_of(), task=Tagging(), lr=1e-3).fit([])
    with pytest.raises(ValueError, match=r"no sentences are left of 1 \(max_length=2"):
        Trainer(tagger_of(), task=Tagging(), max_length=2, **OPTIONS).fit([([1, 2, 3], [1, 2, 0])])
    shards = Tagging().shards({"data": _file(tmp_path, "1/1 2/2")}, tmp_path / "data")
    with pytest.raises(
        ValueError, match=r"train must have the columns \('source', 'target'\), got \('tokens', 'labels'\)"
    ):
        Trainer(model_of(), **OPTIONS).fit(shards)


def test_a_run_is_resumed_with_its_task(sentences, tmp_path):
    class Other(Tagging):
        name = "other"

    options = {"output": tmp_path, **OPTIONS}
    Trainer(tagger_of(), task=Tagging(), max_steps=2, **options).fit(sentences)
    with pytest.raises(ValueError, match="task must be the same to resume, was tag, got other"):
        Trainer(tagger_of(), task=Other(), max_steps=3, **options).fit(sentences, resume=True)


def test_translation_is_the_default_task(pairs):
    models = [model_of(), model_of()]
    Trainer(models[0], max_steps=3, **OPTIONS).fit(pairs)
    Trainer(models[1], task=Translation(), max_steps=3, **OPTIONS).fit(pairs)
    assert bits(models[0]) == bits(models[1])
    assert TASKS["translate"] is Translation


def test_options_are_values():
    options = Trainer(model_of(), batch_tokens=np.int64(9)).options
    assert type(options) is TrainingOptions
    assert (options.batch_tokens, options.epochs, options.compute_dtype) == (9, 30, "float32")
    assert options.lr == 0.64 / 32


def _file(folder, text):
    (folder / "file").write_text(text)
    return folder / "file"
