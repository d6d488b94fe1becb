"""Greedy and beam searches of transformers on the checkpoints of others: the same tokens and scores."""

import json

import dragoman as dg
import numpy as np
import pytest
from dragoman.generate import generate
from huggingface_folders import checkpoint, expected, unpadded

OPTIONS = {  # as usual for the family
    "marian": {},
    "bart": {"prefix": [0], "length_penalty": 2.0, "no_repeat_ngram": 3},
    "m2m100": {"prefix": [17]},
    "t5": {},
    "pegasus": {"length_penalty": 0.8},
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize(("beam", "early"), [(1, False), (4, False), (4, True)])
def test_searches(name, beam, early):
    folder = checkpoint("tiny", name)
    inputs = expected(folder)
    with np.load(checkpoint("formats", "searches.npz")) as file:
        ids = file[f"{name}/{beam}/{early}/ids"][:, 1:].tolist()
        scores = None if beam == 1 else file[f"{name}/{beam}/{early}/scores"]
    settings = json.loads((folder / "config.json").read_text())
    options = {"like": "hf", "beam": beam, "early_stopping": early, "max_length": len(ids[0]), **OPTIONS[name]}
    options["forced_last"] = settings.get("forced_eos_token_id")
    results = generate(dg.load(folder), unpadded(inputs["src"], inputs["mask"]), **options)
    found = [h for hypotheses in results for h in hypotheses]
    eos = settings["eos_token_id"]
    for h, row in zip(found, ids, strict=True):
        assert h.ids == (row[: row.index(eos)] if eos in row else row)
    if beam > 1:
        np.testing.assert_allclose([h.score for h in found], scores, rtol=0, atol=1e-4)
