"""Trains a classifier of Korean film reviews and asks it about two. Without arguments, on reviews that it makes up.

python examples/sentiment.py [TRAIN.tsv VALID.tsv]     each line: 1 or 0, a tab, a review
"""

import random
import sys
import tempfile

import dragoman as dg
from dragoman.models import EncoderConfig, TextEncoder
from dragoman.train import Classification, Trainer
from dragoman.train.classification import iter_labelled, ordered_labels

FILMS = ["이 영화", "이 드라마", "주인공 연기", "마지막 장면", "음악", "이야기"]
WORDS = {"1": ["재미있다", "최고다", "감동적이다", "좋았다"], "0": ["지루하다", "최악이다", "실망이다", "별로였다"]}
DEGREES = ["", "정말 ", "너무 ", "진짜 "]


def reviews(count, seed):
    """Made reviews with labels."""
    draw = random.Random(seed)
    labels = [draw.choice("01") for _ in range(count)]
    return [(f"{draw.choice(FILMS)} {draw.choice(DEGREES)}{draw.choice(WORDS[label])}", label) for label in labels]


if len(sys.argv) > 2:
    train, valid = (list(iter_labelled(path)) for path in sys.argv[1:3])
    vocabulary, limit = 8000, {"max_minutes": 15}
else:
    train, valid = reviews(600, 1), reviews(100, 2)
    vocabulary, limit = 200, {"max_steps": 60}

tokenizer = dg.Tokenizer.train((text for text, _ in train), vocabulary)
task = Classification(tokenizer, ordered_labels(label for _, label in train))

dg.manual_seed(0)
config = EncoderConfig.tiny(**task.config_fields(), max_length=256)
folder = tempfile.mkdtemp()
options = {"lr": 1e-3, "warmup": 30, "batch_tokens": 1024, "best_by": "accuracy", "final": "best", **limit}
records = Trainer(TextEncoder(config), task=task, output=folder, checkpoint_every=20, **options).fit(train, valid)
print(f"{records[-1]['valid_accuracy']:.1f} % of {len(valid)} reviews right")

classify = dg.Classifier.load(folder)
for text in ("이 영화 정말 재미있다", "이야기 너무 지루하다"):
    found = classify(text)
    print(f"{text}: {found.label} ({found.probability:.2f})")
