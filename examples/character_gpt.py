"""Trains a GPT of characters on a text and lets it write. Without arguments, on sentences that it makes up.

python examples/character_gpt.py [TEXT [MINUTES]]     each line of TEXT is a text of its own
"""

import random
import sys
import tempfile

import dragoman as dg
from dragoman.data import iter_texts
from dragoman.models import DecoderConfig, TextDecoder
from dragoman.train import LanguageModelling, Trainer

WHO = ["a man", "a woman", "a dog", "two children", "the old cat"]
DOES = ["runs", "sits", "plays", "sleeps", "looks around"]
WHERE = ["in a park", "on the beach", "near a lake", "under a tree", "at home"]


def sentences(count):
    """Made sentences: a model that knows all words still has to guess among 125."""
    draw = random.Random(0)
    return [" ".join(map(draw.choice, (WHO, DOES, WHERE))) for _ in range(count)]


if len(sys.argv) > 1:
    lines = [line for line in iter_texts(sys.argv[1]) if line.strip()]
    limit, sizes = {"max_minutes": float(sys.argv[2]) if len(sys.argv) > 2 else 10.0}, {"d_model": 192, "num_layers": 6}
    training = {"batch_tokens": 8192, "lr": 1e-3, "warmup": 200, "checkpoint_every": 200}
else:
    lines = sentences(600)
    limit, sizes = {"max_steps": 150}, {"d_model": 64, "num_layers": 2}
    training = {"batch_tokens": 1024, "lr": 4e-3, "warmup": 20, "checkpoint_every": 75}

random.Random(1).shuffle(lines)
held_out, train = lines[: len(lines) // 10], lines[len(lines) // 10 :]
tokenizer = dg.Tokenizer.train(train, 1000, "char")
task = LanguageModelling(tokenizer)

dg.manual_seed(0)
layers = {"num_heads": 4, "d_ff": 4 * sizes["d_model"], "norm_first": True, "norm": "rms", "activation": "silu"}
config = DecoderConfig(**sizes, **layers, gated=True, max_length=256, **task.config_fields())
folder = tempfile.mkdtemp()
training |= {"best_by": "bits_per_character", "final": "best", **limit}
records = Trainer(TextDecoder(config), task=task, output=folder, **training).fit(train, held_out)
print(
    f"{min(r['valid_bits_per_character'] for r in records if 'valid_loss' in r):.3f} bits per character of other lines"
)

lm = dg.LanguageModel.load(folder)
for prompt in ("", "a dog", "two"):
    print(f"{prompt}|{lm(prompt, temperature=0.8, top_k=20, seed=1, max_length=60)}")
