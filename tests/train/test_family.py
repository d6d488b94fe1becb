"""Every task of the encoder family: it learns, resumes to the same bits, and reads its files."""

import gzip
import json
from types import SimpleNamespace

import numpy as np
import pytest
from dragoman.data.frame import Frame
from dragoman.train import Classification, ImageClassification, MaskedLM, Tagging, Trainer, TrainingOptions, Translation
from dragoman.train.task import TASK
from family import OPTIONS, bits, encoder_for, encoder_of, reviews_of, sentences_of, tokenizer_of, untimed, vision_for

pytest.importorskip("tokenizers")
pytestmark = pytest.mark.usefixtures("one_thread")


def stripes_of(rng, count):
    """(image, label) of horizontal or vertical stripes with noise."""
    labels = ["rows" if rng.random() < 0.5 else "columns" for _ in range(count)]
    stripes = np.tile(np.array([[200], [30]]), (2, 4))
    images = [(stripes if label == "rows" else stripes.T) + rng.integers(0, 30, (4, 4)) for label in labels]
    return [(image.astype(np.uint8), label) for image, label in zip(images, labels, strict=True)]


def make(name, rng):
    """The task, a maker of models and examples."""
    if name == "classify":
        task = Classification(tokenizer_of(), ["neg", "pos"])
        return task, lambda seed=0: encoder_for(task, seed), reviews_of(rng, 80)
    if name == "tag":
        task = Tagging(tokenizer_of(), ["DET", "NOUN", "PRON", "VERB"])
        return task, lambda seed=0: encoder_for(task, seed, pooling="first"), sentences_of(rng, 80)
    if name == "mlm":
        task = MaskedLM(tokenizer_of())
        return task, lambda seed=0: encoder_for(task, seed), [text for text, _ in reviews_of(rng, 80)]
    task = ImageClassification(["columns", "rows"], image_size=4, channels=1)
    return task, lambda seed=0: vision_for(task, seed), stripes_of(rng, 80)


@pytest.mark.parametrize(("name", "steps", "accuracy"), [("classify", 60, 95), ("tag", 60, 95), ("image", 40, 95)])
def test_learns_and_is_scored(name, steps, accuracy, rng, tmp_path, capsys):
    task, model_of, examples = make(name, rng)
    model = model_of()
    trainer = Trainer(
        model, task=task, output=tmp_path, max_steps=steps, best_by="macro_f1", final="best", checkpoint_every=20,
        **OPTIONS,
    )  # fmt: skip
    records = trainer.fit(examples[20:], examples[:20])
    assert records[-1]["valid_accuracy"] >= accuracy
    assert records[-1]["valid_macro_f1"] >= accuracy
    assert "accuracy" in capsys.readouterr().err
    assert json.loads((tmp_path / TASK).read_text())["task"] == name
    again = type(task).load(tmp_path)
    assert again.config_fields() == task.config_fields()
    assert again.made_of() == task.made_of()


def test_masked_tokens_are_learned(rng):
    task, model_of, texts = make("mlm", rng)
    records = Trainer(model_of(), task=task, max_steps=60, checkpoint_every=20, **OPTIONS).fit(texts[20:], texts[:20])
    validations = [record for record in records if "valid_accuracy" in record]
    assert validations[-1]["valid_accuracy"] > 15
    assert validations[-1]["valid_perplexity"] < validations[0]["valid_perplexity"] < 30  # of 305 tokens


@pytest.mark.parametrize("name", ["classify", "tag", "mlm", "image"])
def test_a_resumed_run_reaches_the_same_bits(name, rng, tmp_path):
    task, model_of, examples = make(name, rng)
    options = {"task": task, "checkpoint_every": 4, **OPTIONS}
    whole, again = model_of(), model_of(5)
    Trainer(whole, output=tmp_path / "whole", max_steps=9, **options).fit(examples, examples[:9])
    Trainer(model_of(), output=tmp_path / "parts", max_steps=5, **options).fit(examples, examples[:9])
    Trainer(again, output=tmp_path / "parts", max_steps=9, **options).fit(examples, examples[:9], resume=True)
    logs = [(tmp_path / run / "log.jsonl").read_text().splitlines() for run in ("whole", "parts")]
    steps = [[r for r in untimed(map(json.loads, log)) if "loss" in r] for log in logs]
    assert steps[0] == steps[1]
    assert bits(again) == bits(whole)


@pytest.mark.parametrize("name", ["classify", "tag", "mlm", "image"])
def test_files_train_as_examples_do(name, rng, tmp_path):
    task, model_of, examples = make(name, rng)
    path = tmp_path / "data"
    if name == "classify":
        path.write_text("".join(f"{label}\t{text}\n" for text, label in examples))
    elif name == "tag":
        path = tmp_path / "data.gz"
        text = "\n\n".join("\n".join(f"{word}\t{tag}" for word, tag in zip(*each, strict=True)) for each in examples)
        path.write_bytes(gzip.compress(text.encode()))
    elif name == "mlm":
        path.write_text("\n".join(examples))
    else:
        path = tmp_path / "data.npz"
        np.savez(path, images=[image for image, _ in examples], labels=[label for _, label in examples])
    shards = task.shards({"data": path}, tmp_path / "shards")
    models = model_of(), model_of(), model_of()
    for model, data in zip(models, (shards, examples, shards[:]), strict=True):
        Trainer(model, task=task, max_steps=3, **OPTIONS).fit(data, data[:5])
    assert bits(models[0]) == bits(models[1]) == bits(models[2])
    settings = {"image_size": 4, "channels": 1} if name == "image" else {}
    learned = type(task).learn({"data": path}, 100, "char", **settings)
    for key in ("labels", "image_size"):
        assert getattr(learned, key, None) == getattr(task, key, None)


def test_a_folder_of_images_becomes_shards(rng, tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    task, _, examples = make("image", rng)
    for i, (image, label) in enumerate(examples[:6]):
        (tmp_path / label).mkdir(exist_ok=True)
        pillow.fromarray(image).save(tmp_path / label / f"{i}.png")
    shards = task.shards({"data": tmp_path}, tmp_path.parent / "shards")
    assert len(shards) == 6
    found = {bytes(np.array(pixels, np.uint8)): task.labels[label[0]] for pixels, label in shards[:]}
    assert found == {image.tobytes(): label for image, label in examples[:6]}


def test_masked_tokens_with_special_ids_of_any_kind():
    """No pad, no bos, several eos: those that end a text are never masked, and none of them is drawn."""
    task = MaskedLM(ratio=0.5)
    ids = {"pad_id": None, "bos_id": None, "unk_id": None, "eos_id": [2, 5]}
    model = encoder_of(vocab_size=9, head="mlm", mask_id=8, **ids)
    rows = {"tokens": [[6, 7, 3, 5, 2]] * 40}
    batch = task.batch(rows, model, (0,))
    for tokens, targets in zip(batch.columns["tokens"], batch.columns["targets"], strict=True):
        assert tokens[3:] == [5, 2] and targets[3:] == [-1, -1]
        assert not {2, 5} & set(tokens[:3])
    assert {targets[i] for targets in batch.columns["targets"] for i in range(3)} == {-1, 6, 7, 3}


def test_long_texts_are_cut_and_words_that_do_not_fit_are_left_out():
    task, tagging = Classification(labels=["a", "b"]), Tagging(labels=["x"])
    holder = SimpleNamespace(config=SimpleNamespace(max_length=6))
    rows = {"tokens": [[1, 5, 6, 7, 8, 9, 2]], "words": [[2, 2, 1]], "labels": [[0, 0, 0]]}
    batch = tagging.batch(rows, holder, (0,))
    assert batch.columns == {"tokens": [[1, 5, 6, 7, 8, 2]], "words": [[2, 2]], "labels": [[0, 0]]}
    assert (batch.num_targets, batch.num_tokens) == (2, 6)
    batch = task.batch({"tokens": [[1, 5, 6, 7, 8, 9, 2], [1, 2]], "label": [[0], [1]]}, holder, (0,))
    assert batch.columns["tokens"] == [[1, 5, 6, 7, 8, 2], [1, 2]]
    costs = task.costs({"tokens": np.array([7, 2])}, holder, TrainingOptions(max_length=5))
    assert costs.tolist() == [0, 2]


def test_what_is_cut_keeps_the_whole_suffix_of_its_frame():
    """As in use: mBART's sources end with </s> and the language, and both stay."""
    translation, classification = Translation(tokenizer_of()), Classification(tokenizer_of(), ["a"])
    translation.tokenizer.source_frame = Frame((), (2, 9))
    classification.tokenizer.text_frame = Frame((1,), (2, 9))
    holder = SimpleNamespace(config=SimpleNamespace(max_source_length=4, max_length=5))
    batch = translation.batch({"source": [[5, 6, 7, 8, 2, 9]], "target": [[5]]}, holder, (0,))
    assert batch.columns["source"] == [[5, 6, 2, 9]]
    batch = classification.batch({"tokens": [[1, 5, 6, 7, 8, 2, 9]], "label": [[0]]}, holder, (0,))
    assert batch.columns["tokens"] == [[1, 5, 6, 2, 9]]


def test_what_does_not_fit_is_named(rng):
    task = Classification(tokenizer_of(), ["neg", "pos"])
    model = encoder_for(task)
    fit = Trainer(model, task=task, **OPTIONS).fit
    with pytest.raises(ValueError, match="classify: label must be one of neg, pos, got 'odd'"):
        fit([("the dog", "odd")])
    with pytest.raises(TypeError, match=r"train\[0\] must be a text and its label, or two lists of ids, got 'the'"):
        fit(["the"])
    with pytest.raises(ValueError, match="train must hold at least one text, got none"):
        fit([])
    with pytest.raises(ValueError, match="train of text needs a tokenizer, got none"):
        Trainer(model, task=Classification(labels=["neg", "pos"]), **OPTIONS).fit([("the dog", "pos")])
    with pytest.raises(ValueError, match=r"model must have the head 'tag' and the labels \('X',\), got 'classify'"):
        Trainer(model, task=Tagging(tokenizer_of(), ["X"]), **OPTIONS)
    with pytest.raises(ValueError, match="model must have the head 'mlm' and a mask_id, got 'classify' and None"):
        Trainer(model, task=MaskedLM(), **OPTIONS)
    with pytest.raises(TypeError, match="model must be a VisionTransformer, got TextEncoder"):
        Trainer(model, task=ImageClassification(["a"]), **OPTIONS)
    with pytest.raises(TypeError, match=r"train\[0\] must be a list of words and one of as many tags"):
        tagging = Tagging(tokenizer_of(), ["X"])
        Trainer(encoder_for(tagging), task=tagging, **OPTIONS).fit([(["a", "b"], ["X"])])
    image = ImageClassification(["a"], 4, 1)
    with pytest.raises(ValueError, match=r"image: an image must have shape \(4, 4, 1\), got \(2, 2\)"):
        Trainer(vision_for(image), task=image, **OPTIONS).fit([(np.zeros((2, 2)), "a")])
