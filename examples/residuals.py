"""Compares the residual x + f(x) with a projection of [f(x), x], on the toy corpus over several seeds.

python examples/residuals.py [STEPS [SEEDS]]
"""

import statistics
import sys

import dragoman as dg
from toy_corpus import pairs

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 100
seeds = int(sys.argv[2]) if len(sys.argv) > 2 else 3

corpus = pairs(1800)
train, held_out = corpus[:1600], [pair for pair in corpus[1600:] if pair not in corpus[:1600]]
tokenizer = dg.Tokenizer.train((text for pair in train for text in pair), vocab_size=200)


def loss_of(residual, d_ff, seed):
    """The validation loss of a new model after the run, and the model's size."""
    dg.manual_seed(seed)
    sizes = {"d_model": 32, "num_heads": 4, "num_encoder_layers": 2, "num_decoder_layers": 2, "d_ff": d_ff}
    model = dg.Transformer(dg.TransformerConfig(vocab_size=tokenizer.vocab_size, residual=residual, **sizes))
    options = {"lr": 5e-3, "warmup": 30, "batch_tokens": 512, "max_steps": steps, "checkpoint_every": steps}
    records = dg.Trainer(model, tokenizer=tokenizer, seed=seed, **options).fit(train, held_out)
    losses = [record["valid_loss"] for record in records if "valid_loss" in record]
    return losses[-1], model.num_parameters()


# The projections have weights of their own. A wider feed-forward network gives the sum as many.
kinds = {"add": ("add", 64), "add, wider": ("add", 144), "concat": ("concat", 64)}
found = {}
for name, (residual, d_ff) in kinds.items():
    runs = [loss_of(residual, d_ff, seed) for seed in range(seeds)]
    found[name] = [loss for loss, _ in runs]
    spread = statistics.stdev(found[name]) if seeds > 1 else 0.0
    print(f"{name}: {runs[0][1]:,} parameters, loss {statistics.mean(found[name]):.3f} +- {spread:.3f}")

for other in ("add", "add, wider"):
    gaps = [concat - add for concat, add in zip(found["concat"], found[other], strict=True)]  # seed by seed
    mean = statistics.mean(gaps)
    error = statistics.stdev(gaps) / seeds**0.5 if seeds > 1 else float("inf")
    verdict = "no clear winner" if abs(mean) < 2 * error else f"{'concat' if mean < 0 else other} wins"
    print(f"concat against {other}: {mean:+.3f} +- {error:.3f} after {steps} steps, {seeds} seeds: {verdict}")
