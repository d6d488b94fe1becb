"""Classifier, Tagger, SentenceEncoder and ImageClassifier."""

import copy
import dataclasses
import pickle
from concurrent.futures import ThreadPoolExecutor

import dragoman as dg
import numpy as np
import pytest
from dragoman.models import VisionConfig, VisionTransformer
from dragoman.train import Classification, ImageClassification, Tagging
from family import encoder_for, reviews_of, sentences_of, tokenizer_of, vision_for

pytest.importorskip("tokenizers")
pytestmark = pytest.mark.usefixtures("one_thread")


def saved(task, model, folder):
    model.eval().save(folder)
    task.save(folder)
    return model


@pytest.fixture
def classifier(tmp_path):
    task = Classification(tokenizer_of(), ["neg", "pos", "so-so"])
    saved(task, encoder_for(task, pooling="max"), tmp_path)
    return dg.Classifier.load(tmp_path)


@pytest.fixture
def tagger(tmp_path):
    task = Tagging(tokenizer_of(), ["DET", "NOUN", "PRON", "VERB"])
    saved(task, encoder_for(task, pooling="mean", max_length=12), tmp_path)
    return dg.Tagger.load(tmp_path)


def test_labels_with_probabilities(classifier, rng):
    text = "the dog is good"
    found = classifier(text)
    logits = classifier.model.logits([[1, *classifier.tokenizer.encode(text), 2]])[0].astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum()
    assert found == pytest.approx(dict(zip(("neg", "pos", "so-so"), expected, strict=True)))
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert (found.label, found.probability) == next(iter(found.items()))
    texts = [text for text, _ in reviews_of(rng, 40)] + ["", "  "]
    together = classifier(texts)
    assert together == [classifier(text) for text in texts]
    assert classifier([]) == []
    assert classifier.submit(text).result() == found


def test_a_long_text_is_cut(classifier):
    text = "the dog " * 100
    kept = classifier.tokenizer.encode(text.strip())[:62]
    np.testing.assert_allclose(
        sorted(classifier(text).values()),
        sorted(_softmax(classifier.model.logits([[1, *kept, 2]])[0])),
        rtol=1e-5,
    )


def _softmax(x):
    e = np.exp(x.astype(np.float64))
    return e / e.sum()


def test_tags_for_words(tagger, rng):
    sentences = [words for words, _ in sentences_of(rng, 30)] + [[], ["the"], ["dog"] * 9, ["incomprehensibilities"]]
    found = tagger(sentences)
    assert [[word for word, _ in each] for each in found] == sentences
    assert {tag for each in found for _, tag in each} <= set(tagger.model.config.labels)
    assert found == [tagger([words])[0] for words in sentences]
    assert tagger("the dog runs") == tagger([["the", "dog", "runs"]])[0] == tagger(["the dog  runs"])[0]
    assert tagger.submit("the dog runs").result() == tagger("the dog runs")
    assert tagger("") == []
    spelt = [tagger.tokenizer.encode(word) for word in ("they", "fish")]
    logits = tagger.model.logits([[1, *spelt[0], *spelt[1], 2]], [[len(ids) for ids in spelt]])
    assert [tag for _, tag in tagger("they fish")] == [tagger.model.config.labels[i] for i in logits.argmax(1)]


@pytest.mark.parametrize("normalise", [True, False])
def test_vectors(tmp_path, device, normalise, rng):
    task = Classification(tokenizer_of(), ["neg", "pos"])
    model = saved(task, encoder_for(task, normalise=normalise), tmp_path)
    encoder = dg.SentenceEncoder.load(tmp_path, device=device)
    texts = [text for text, _ in reviews_of(rng, 20)]
    vectors = encoder(texts)
    assert vectors.shape == (20, 16)
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, [encoder(text) for text in texts])
    np.testing.assert_array_equal(vectors[0], model.vectors([[1, *encoder.tokenizer.encode(texts[0]), 2]])[0])
    np.testing.assert_array_equal(encoder.submit(texts[1]).result(), vectors[1])
    assert encoder([]).shape == (0, 16)
    if normalise:
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_prompts():
    task = Classification(tokenizer_of(), ["neg", "pos"])
    prompts = {"query": "they see ", "title": ""}
    model = encoder_for(task, prompts=prompts, default_prompt="title", projections=[{"features": 3}])
    encoder = dg.SentenceEncoder(model.eval(), task.tokenizer)
    plain = encoder("the dog")
    assert plain.shape == (3,)
    asked = encoder("they see the dog")
    assert (asked != plain).any()
    np.testing.assert_array_equal(encoder(["the dog"], prompt="query")[0], asked)
    np.testing.assert_array_equal(encoder.submit("the dog", "query").result(), asked)
    with pytest.raises(ValueError, match="SentenceEncoder: prompt must be one of query, title, got 'passage'"):
        encoder("the dog", prompt="passage")
    model = encoder_for(task, prompts=prompts, default_prompt="query").eval()
    default = dg.SentenceEncoder(model, task.tokenizer)
    np.testing.assert_array_equal(default("the dog"), default("they see the dog", prompt="title"))


@pytest.mark.parametrize("kind", ["several", "numbers"])
def test_labels_with_probabilities_of_their_own(kind):
    task = Classification(tokenizer_of(), ["neg", "pos"])
    model = encoder_for(task, label_kind=kind).eval()
    model.head.output.bias.copy_(np.array([-800.0, 2.0], np.float32))
    classify = dg.Classifier(model, task.tokenizer)
    (scores,) = model.logits([[1, *task.tokenizer.encode("the dog"), 2]])
    found = classify("the dog")
    assert list(found) == ["pos", "neg"]
    expected = scores[::-1] if kind == "numbers" else [1 / (1 + np.exp(-scores[1])), 0]
    assert list(found.values()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_any_size(channels, rng):
    """Scaled by Pillow, then the middle is cut out; floats as bytes."""
    pillow = pytest.importorskip("PIL.Image")
    config = vision_for(ImageClassification(["cat", "dog"], 4, channels)).config
    model = VisionTransformer(dataclasses.replace(config, resize=6, resample="bicubic")).eval()
    classify = dg.ImageClassifier(model)
    images = [rng.integers(0, 256, (height, width, channels), np.uint8) for height, width in ((9, 5), (6, 6), (3, 8))]
    scaled = [
        np.stack(
            [pillow.fromarray(image[..., i]).resize((6, 6), pillow.Resampling.BICUBIC) for i in range(channels)], -1
        )
        for image in images
    ]
    expected = [classify(each) for each in scaled]
    (one,) = classify(scaled[:1])
    assert one == expected[0] and one != expected[1]
    np.testing.assert_allclose(
        [each["cat"] for each in expected],
        np.exp(scores := model.logits(np.array(scaled)[:, 1:5, 1:5]))[:, 0] / np.exp(scores).sum(1),
        rtol=1e-5,
    )
    assert classify(images) == expected
    assert classify(np.stack([images[0]] * 2)) == [expected[0]] * 2
    assert classify.submit(images[2]).result() == expected[2]
    assert classify([]) == classify(np.zeros((0, 5, 5, channels), np.uint8)) == []
    floats = classify(images[0] / 255.0)
    assert floats["cat"] == pytest.approx(expected[0]["cat"], abs=0.02)
    if channels == 1:
        assert classify(images[0][..., 0]) == expected[0]
    with pytest.raises(
        ValueError, match=r"ImageClassifier: images must have shape \(height, width, \d\), got \(4, 4, 2\)"
    ):
        classify([np.zeros((4, 4, 2), np.uint8)])
    with pytest.raises(TypeError, match="ImageClassifier: images must be uint8 or floats, got dtype int64"):
        classify([np.zeros((4, 4, channels), int)])


def test_images(tmp_path, rng):
    task = ImageClassification(["cat", "dog"], 4, 1)
    saved(task, vision_for(task), tmp_path)
    classify = dg.ImageClassifier.load(tmp_path)
    images = rng.integers(0, 256, (5, 4, 4), np.uint8)
    found = classify(images)
    assert [each.label for each in found] == [task.labels[i] for i in classify.model.logits(images).argmax(1)]
    assert found == [classify(image) for image in images]
    assert classify.submit(images[0]).result() == found[0]
    assert classify(images[:0]) == []
    assert classify(images[0][..., None]) == found[0]


def test_many_threads_and_copies(classifier):
    texts = ["the dog", "the cat is bad", "they"] * 5
    expected = classifier(texts)
    for again in (classifier, copy.deepcopy(classifier), pickle.loads(pickle.dumps(classifier))):
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(again, texts)) == expected
        assert [f.result() for f in [again.submit(text) for text in texts]] == expected


def test_what_does_not_fit_is_refused(classifier, tagger, tmp_path):
    with pytest.raises(TypeError, match="Classifier: text must be a str or a list of them, got int"):
        classifier(3)
    with pytest.raises(TypeError, match=r"Classifier: text\[1\] must be a str, got int"):
        classifier(["a", 3])
    with pytest.raises(TypeError, match="Classifier: text must be a str"):
        classifier.submit(3)
    with pytest.raises(TypeError, match=r"Tagger: text\[0\] must be a text or a list of words, got int"):
        tagger([3])
    with pytest.raises(ValueError, match="Classifier: model must have the head 'classify', got 'tag'"):
        dg.Classifier(tagger.model, tagger.tokenizer)
    with pytest.raises(TypeError, match="ImageClassifier: model must be a VisionTransformer, got TextEncoder"):
        dg.ImageClassifier(tagger.model)
    with pytest.raises(ValueError, match="Tagger: tokenizer must have at most 20 tokens, as the model"):
        task = Tagging(tagger.tokenizer, ["a"])
        dg.Tagger(encoder_for(task, vocab_size=20), tagger.tokenizer)
    config = VisionConfig(labels=["a"], image_size=4, patch_size=2, d_model=4, num_heads=1, d_ff=4, num_layers=1)
    VisionTransformer(config).save(tmp_path / "image")
    with pytest.raises(TypeError, match="Classifier: model must be a TextEncoder, got VisionTransformer"):
        dg.Classifier.load(tmp_path / "image")
