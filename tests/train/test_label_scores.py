"""Accuracy, macro F1 and the report of each label."""

import numpy as np
import pytest
from dragoman.train import LabelScores


def test_scores_of_a_case_worked_by_hand():
    scores = LabelScores(["a", "b", "c", "never"])
    scores.add([0, 0, 0], [0, 0, 1])
    scores.add([1, 2], [1, 1])
    assert scores.accuracy() == 60.0
    report = scores.report()
    assert report["a"] == pytest.approx({"precision": 100, "recall": 200 / 3, "f1": 80, "support": 3, "predicted": 2})
    assert report["b"] == pytest.approx({"precision": 100 / 3, "recall": 100, "f1": 50, "support": 1, "predicted": 3})
    assert report["c"] == {"precision": 0, "recall": 0, "f1": 0, "support": 1, "predicted": 0}
    assert scores.macro_f1() == pytest.approx((80 + 50 + 0) / 3)
    assert scores.record() == {"accuracy": scores.accuracy(), "macro_f1": scores.macro_f1()}
    assert str(scores).splitlines()[1].split() == ["a", "100.00", "66.67", "80.00", "3"]


def test_nothing_to_score():
    assert LabelScores(["a"]).record() == {"accuracy": 0.0, "macro_f1": 0.0}


def test_matches_scikit_learn(rng):
    metrics = pytest.importorskip("sklearn.metrics")
    truth, predicted = rng.integers(0, 5, 300), rng.integers(0, 4, 300)
    scores = LabelScores(list("abcde"))
    scores.add(truth, predicted)
    assert scores.accuracy() == pytest.approx(100 * metrics.accuracy_score(truth, predicted))
    expected = metrics.f1_score(truth, predicted, average="macro", zero_division=0)
    assert scores.macro_f1() == pytest.approx(100 * expected)
    per_label = metrics.precision_recall_fscore_support(truth, predicted, labels=np.arange(5), zero_division=0)
    for i, label in enumerate("abcde"):
        row = scores.report()[label]
        got = [row["precision"] / 100, row["recall"] / 100, row["f1"] / 100, row["support"]]
        np.testing.assert_allclose(got, [column[i] for column in per_label])
