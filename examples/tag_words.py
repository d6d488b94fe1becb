"""Trains a tagger of English words and tags a sentence. Without arguments, on sentences that it makes up.

python examples/tag_words.py [TRAIN VALID]     each line: a word, a tab, its tag; an empty line between sentences
"""

import random
import sys
import tempfile

import dragoman as dg
from dragoman.data import iter_conll
from dragoman.models import EncoderConfig, TextEncoder
from dragoman.train import Tagging, Trainer
from dragoman.train.classification import ordered_labels

NOUNS, VERBS = ["dog", "walk", "fish", "plan", "child", "dance"], ["walk", "fish", "plan", "dance", "sleep", "sing"]
SUBJECTS = [(["the"], ["DET"]), (["a", "small"], ["DET", "ADJ"]), (["my", "old"], ["PRON", "ADJ"])]


def sentences(count, seed):
    """Made sentences. A word such as "fish" is a noun or a verb, as its neighbours say."""
    draw = random.Random(seed)
    made = []
    for _ in range(count):
        words, tags = draw.choice(SUBJECTS)
        end = [draw.choice(NOUNS), draw.choice(["can", "will"]), draw.choice(VERBS), "."]
        made.append(([*words, *end], [*tags, "NOUN", "AUX", "VERB", "PUNCT"]))
    return made


if len(sys.argv) > 2:
    train, valid = (list(iter_conll(path)) for path in sys.argv[1:3])
    vocabulary, limit = 8000, {"max_minutes": 15}
else:
    train, valid = sentences(400, 1), sentences(60, 2)
    vocabulary, limit = 200, {"max_steps": 60}

tokenizer = dg.Tokenizer.train((" ".join(words) for words, _ in train), vocabulary)
task = Tagging(tokenizer, ordered_labels(tag for _, tags in train for tag in tags))

dg.manual_seed(0)
config = EncoderConfig.tiny(**task.config_fields(), max_length=256)  # a word is the mean of its tokens
folder = tempfile.mkdtemp()
options = {"lr": 1e-3, "warmup": 30, "batch_tokens": 1024, "best_by": "accuracy", "final": "best", **limit}
records = Trainer(TextEncoder(config), task=task, output=folder, checkpoint_every=20, **options).fit(train, valid)
print(f"{records[-1]['valid_accuracy']:.1f} % of the words right")

tag = dg.Tagger.load(folder)
print(" ".join(f"{word}/{label}" for word, label in tag("the old fish can walk .")))
