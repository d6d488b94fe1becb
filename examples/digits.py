"""Trains a vision Transformer on scikit-learn's digits (8 x 8 pixels), or on drawn ones where it is not installed.

python examples/digits.py
"""

import tempfile

import dragoman as dg
import numpy as np
from dragoman.models import VisionConfig, VisionTransformer
from dragoman.train import ImageClassification, Trainer

GLYPHS = """\
### .#. ### ### #.# ### ### ### ### ###
#.# ##. ..# ..# #.# #.. #.. ..# #.# #.#
#.# .#. ### .## ### ### ### .#. ### ###
#.# .#. #.. ..# ..# ..# #.# .#. #.# ..#
### ### ### ### ..# ### ### .#. ### ###"""


def drawn(count):
    """Digits of a small font at a random place, with noise: floats (count, 8, 8) from 0 to 1, and labels."""
    draw = np.random.default_rng(0)
    rows = [line.split() for line in GLYPHS.splitlines()]
    glyphs = np.array([[[pixel == "#" for pixel in row[digit]] for row in rows] for digit in range(10)])
    images, labels = draw.uniform(0, 0.3, (count, 8, 8)), draw.integers(0, 10, count)
    for image, label in zip(images, labels, strict=True):
        y, x = draw.integers(0, 4), draw.integers(0, 6)
        image[y : y + 5, x : x + 3] += 0.7 * glyphs[label]
    return images, labels


try:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images, labels = digits.images / 16, digits.target
    steps = 1500
except ModuleNotFoundError:
    images, labels = drawn(1800)
    steps = 300

examples = list(zip(images, map(str, labels), strict=True))
train, valid, test = examples[:1200], examples[1200:1400], examples[1400:]
task = ImageClassification([str(i) for i in range(10)], image_size=8, channels=1)

dg.manual_seed(0)
sizes = {"d_model": 64, "num_heads": 4, "d_ff": 128, "num_layers": 3, "patch_size": 2}
config = VisionConfig(**sizes, **task.config_fields())
folder = tempfile.mkdtemp()
trainer = Trainer(
    VisionTransformer(config),
    task=task,
    output=folder,
    lr=2e-3,
    warmup=100,
    schedule="cosine",
    max_steps=steps,
    batch_tokens=64 * config.num_tokens,
    checkpoint_every=50,
    best_by="accuracy",
    final="best",
)
trainer.fit(train, valid)

classify = dg.ImageClassifier.load(folder)
found = classify(np.stack([image for image, _ in test]))
right = sum(each.label == label for each, (_, label) in zip(found, test, strict=True))
print(f"{100 * right / len(test):.1f} % of {len(test)} digits right")
