"""Random changes of training examples: moved images, dropped tokens."""

from itertools import pairwise

import numpy as np
import pytest
from dragoman.data.vocabulary import BOS, EOS, UNK
from dragoman.train import Classification, ImageClassification, Tagging, Trainer, TrainingOptions
from family import OPTIONS, bits, encoder_for, reviews_of, sentences_of, tokenizer_of, vision_for


def test_images_are_moved_within_the_limit(rng):
    task = ImageClassification(["a"], image_size=5, channels=2, shift=2)
    images = rng.integers(1, 256, (300, 5, 5, 2), np.uint8)
    rows = task.encode([(image, "a") for image in images])
    moved = task.augment(rows, (0, 1, 2))
    assert moved["label"] == rows["label"]
    seen = set()
    for image, pixels in zip(images, moved["pixels"], strict=True):
        found = np.reshape(pixels, (5, 5, 2))
        places = []
        for y in range(-2, 3):
            for x in range(-2, 3):
                expected = np.zeros_like(image)
                expected[max(y, 0) : 5 + min(y, 0), max(x, 0) : 5 + min(x, 0)] = image[
                    max(-y, 0) : 5 + min(-y, 0), max(-x, 0) : 5 + min(-x, 0)
                ]
                if np.array_equal(found, expected):
                    places.append((y, x))
        assert len(places) == 1
        seen.add(places[0])
    assert len(seen) == 25


def test_tokens_are_dropped_but_not_the_frame(rng):
    task = Classification(None, ["a"], token_dropout=0.3)
    ids = [[BOS, *rng.integers(4, 50, length), EOS] for length in [0, 1, 3000]]
    rows = {"tokens": ids, "label": [[0]] * 3}
    dropped = task.augment(rows, (0, 0, 0))["tokens"]
    assert [len(cell) for cell in dropped] == [2, 3, 3002]
    for before, after in zip(ids, dropped, strict=True):
        assert (after[0], after[-1]) == (BOS, EOS)
        assert all(a in (b, UNK) for a, b in zip(after, before, strict=True))
    assert 0.25 < dropped[2].count(UNK) / 3000 < 0.35
    assert task.augment(rows, (0, 0, 0))["tokens"] == dropped
    assert task.augment(rows, (0, 0, 1))["tokens"] != dropped


@pytest.mark.parametrize("name", ["images", "texts"])
def test_training_reads_changed_examples_and_validation_does_not(name, rng):
    if name == "images":
        tasks = [ImageClassification(["a", "b"], 4, 1, shift) for shift in (0, 1)]
        examples = [(rng.random((4, 4)), label) for label in "ab" * 8]
    else:
        tasks = [Classification(tokenizer_of(), ["neg", "pos"], token_dropout=rate) for rate in (0.0, 0.5)]
        examples = reviews_of(rng, 16)
    seen = []
    for task in tasks:
        model = (vision_for if name == "images" else encoder_for)(task)
        trainer = Trainer(model, task=task, max_steps=3, **{**OPTIONS, "lr": 1e-9})
        record = trainer.fit(examples, examples)
        seen.append(([r["valid_loss"] for r in record if "valid_loss" in r], bits(model)))
    (plain, before), (changed, after) = seen
    assert before != after
    np.testing.assert_allclose(plain, changed, rtol=1e-5)


@pytest.mark.parametrize("name", ["classify", "tag"])
def test_words_are_split_anew(name, rng):
    tokenizer = tokenizer_of("bpe")
    if name == "classify":
        task, examples = Classification(tokenizer, ["neg", "pos"]), reviews_of(rng, 30)
    else:
        task, examples = Tagging(tokenizer, ["DET", "NOUN", "PRON", "VERB"]), sentences_of(rng, 30)
    rows = task.encode(examples)
    anew = task.splitter(TrainingOptions(bpe_dropout=0.5))(rows, (0, 0, 0))
    texts = [tokenizer.decode(ids) for ids in rows["tokens"]]
    assert [tokenizer.decode(ids) for ids in anew["tokens"]] == texts
    assert sum(map(len, anew["tokens"])) > sum(map(len, rows["tokens"]))
    assert {(ids[0], ids[-1]) for ids in anew["tokens"]} == {(BOS, EOS)}
    if name == "tag":
        assert anew["labels"] == rows["labels"]
        for ids, counts, (words, _) in zip(anew["tokens"], anew["words"], examples, strict=True):
            assert len(ids) == sum(counts) + 2
            ends = np.cumsum([1, *counts])
            assert [tokenizer.decode(ids[a:b]) for a, b in pairwise(ends)] == words
    trainer = Trainer(encoder_for(task), task=task, max_steps=2, bpe_dropout=0.5, **OPTIONS)
    assert np.isfinite(trainer.fit(examples, examples)[-1]["valid_loss"])


def test_settings_are_kept_and_do_not_change_the_ids(tmp_path):
    for plain, task in (
        (Classification(tokenizer_of(), ["a"]), Classification(tokenizer_of(), ["a"], token_dropout=0.2)),
        (Tagging(tokenizer_of(), ["a"]), Tagging(tokenizer_of(), ["a"], 0.2)),
    ):
        task.save(tmp_path)
        assert type(task).load(tmp_path).token_dropout == 0.2
        assert task.made_of() == plain.made_of()
    image = ImageClassification(["a"], 4, 1, shift=3)
    image.save(tmp_path)
    assert ImageClassification.load(tmp_path).shift == 3
    assert image.made_of() == ImageClassification(["a"], 4, 1).made_of()


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="shift must be below image_size = 4, got 4"):
        ImageClassification(["a"], 4, 1, shift=4)
    with pytest.raises(ValueError, match="shift must be at least 0"):
        ImageClassification(["a"], 4, 1, shift=-1)
    with pytest.raises(ValueError, match="token_dropout"):
        Classification(None, ["a"], token_dropout=1.0)
