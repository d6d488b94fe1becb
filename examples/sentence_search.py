"""Searches texts by their vectors: with a sentence encoder from elsewhere, or with one that is trained here.

    python examples/sentence_search.py FOLDER   # as all-MiniLM-L6-v2, see docs/guide/checkpoints.md
    python examples/sentence_search.py

Without a folder, it pretrains an encoder on text alone, fine-tunes it to sort numbers, and searches these.
"""

import sys
import tempfile

import dragoman as dg
import numpy as np
from dragoman.models import EncoderConfig, TextEncoder, load_body
from dragoman.train import Classification, MaskedLM, Trainer
from toy_corpus import pairs


def search(encode, texts, query):
    """Prints the texts that are most like the query, with the cosine."""
    vectors = encode(texts)
    likeness = vectors @ encode(query)
    for i in np.argsort(-likeness)[:3]:
        print(f"{likeness[i]:.2f}  {texts[i]}")


if len(sys.argv) > 1:
    facts = [
        "The cat sleeps on the sofa.",
        "Interest rates were raised to slow inflation.",
        "A recipe for bread needs flour, water, salt and yeast.",
        "The train to the coast leaves at noon.",
        "The central bank expects prices to rise more slowly.",
    ]
    search(dg.SentenceEncoder.load(sys.argv[1]), facts, "What do banks do against rising prices?")
    sys.exit()

texts = [english for english, _ in pairs(1500)]
kinds = ["thousands" if "thousand" in text else "hundreds" for text in texts]
tokenizer = dg.Tokenizer.train(texts, vocab_size=120)
options = {"lr": 2e-3, "warmup": 30, "batch_tokens": 1024}
sizes = {"d_model": 64, "num_heads": 4, "d_ff": 128, "num_layers": 2, "normalise": True}

dg.manual_seed(0)
body, folder = tempfile.mkdtemp(), tempfile.mkdtemp()
task = MaskedLM(tokenizer)
config = EncoderConfig(**sizes, **task.config_fields())
Trainer(TextEncoder(config), task=task, output=body, max_steps=150, **options).fit(texts[200:], texts[:200])

task = Classification(tokenizer, ["hundreds", "thousands"])
labelled = list(zip(texts[:100], kinds, strict=False))  # few labels
model = TextEncoder(EncoderConfig(**sizes, **(task.config_fields() | {"vocab_size": config.vocab_size})))
print(load_body(model, body))
tuning = options | {"lr": 5e-4, "max_steps": 40, "layer_decay": 0.8}
Trainer(model, task=task, output=folder, **tuning).fit(labelled)
print(dg.Classifier.load(folder)("seven thousand twenty two"))

search(dg.SentenceEncoder.load(body), texts, "three thousand two hundred forty seven")
