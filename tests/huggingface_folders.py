"""Checkpoints that other libraries wrote, with inputs and outputs: in the folder that DRAGOMAN_INTEROP names, or in
shared/interop beside the checkout. Tests of them are skipped where they are absent."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from dragoman.optim import AdamW

ROOT = Path(os.environ.get("DRAGOMAN_INTEROP", Path(__file__).resolve().parents[2] / "shared" / "interop"))


def checkpoint(*parts):
    """The path of a checkpoint, as checkpoint("tiny", "bart")."""
    path = ROOT.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{path} is absent")
    return path


def expected(folder):
    """Inputs and outputs of the library that wrote a checkpoint, by name."""
    with np.load(folder / "expected.npz") as file:
        return dict(file)


def unpadded(ids, mask=None):
    """The rows of an array of ids as lists, without padding."""
    mask = np.ones_like(ids) if mask is None else mask
    return [row[kept > 0].tolist() for row, kept in zip(ids, mask, strict=True)]


def assert_close(actual, wanted, tolerance=1e-5):
    """Asserts that two arrays of the same size differ by at most `tolerance` of the largest value."""
    wanted = np.asarray(wanted, np.float64).reshape(actual.shape)
    np.testing.assert_allclose(actual, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


def change_json(path, **fields):
    """Changes fields of a JSON file, or of the config.json in a folder; those that are ... are taken out."""
    path = path / "config.json" if path.is_dir() else path
    values = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({name: value for name, value in values.items() if value is not ...}))


def losses(model, lr, *batch):
    """The losses of 20 steps on one batch."""
    optimizer = AdamW(model.train(), lr=lr)
    found = []
    for _ in range(20):
        loss = model.loss(*batch)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found
