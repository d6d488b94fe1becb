"""Trains a translator of numbers, adapts it to two domains by LoRA, and translates for all of them in one batch.

python examples/adapt.py [STEPS]
"""

import re
import sys
import tempfile

import dragoman as dg
from dragoman.data.pairs import source_ids
from dragoman.generate import generate
from toy_corpus import pairs

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 240
corpus = pairs(2200)
train, unseen = corpus[:2000], [pair for pair in corpus[2000:] if pair not in corpus[:2000]]

DOMAINS = {  # how each writes the German number
    "plain": lambda german: german,
    "tens first": lambda german: re.sub(r"(\w+) und (\w+)", r"\2 \1", german),
    "sums": lambda german: german.replace(" und ", " plus "),
}


def of_domain(name, examples):
    return [(english, DOMAINS[name](german)) for english, german in examples]


dg.manual_seed(0)
texts = [text for pair in train for text in pair] + [german for name in DOMAINS for _, german in of_domain(name, train)]
tokenizer = dg.Tokenizer.train(texts, vocab_size=200)
sizes = {"d_model": 64, "num_heads": 4, "d_ff": 128, "num_encoder_layers": 2, "num_decoder_layers": 2}
model = dg.Transformer(dg.TransformerConfig(vocab_size=tokenizer.vocab_size, **sizes))
options = {"tokenizer": tokenizer, "batch_tokens": 1024, "warmup": 50}
dg.Trainer(model, lr=5e-3, max_steps=steps, **options).fit(train)
size = model.num_parameters()

folders = {}
for name in list(DOMAINS)[1:]:
    folders[name] = tempfile.mkdtemp()
    adapted = dg.Transformer(model.config)
    adapted.load_state_dict(model.state_dict())
    dg.lora.add(adapted, rank=2, modules=["q_proj", "v_proj"], name=name)
    trained = sum(p.size for p in adapted.parameters() if p.requires_grad)
    dg.Trainer(adapted, lr=1e-2, max_steps=steps // 2, **options).fit(of_domain(name, train[:400]))
    dg.lora.save(adapted, folders[name], name)
    print(f"{name}: {trained:,} numbers trained, {100 * trained / size:.1f} % of the model")

# One model, several adapters: each sentence of a batch has its own, and None the model as it was.
for name, folder in folders.items():
    dg.lora.load(model, folder, name)
model.eval()
sources = source_ids(tokenizer, [english for english, _ in unseen[:40]])
batch = [ids for ids in sources for _ in DOMAINS]
chosen = [None if name == "plain" else name for _ in sources for name in DOMAINS]
with dg.lora.using(model, chosen):
    found = [tokenizer.decode(best[0].ids) for best in generate(model, batch, beam=1)]
for place, name in enumerate(DOMAINS):
    expected = [german for _, german in of_domain(name, unseen[:40])]
    right = sum(a == b for a, b in zip(found[place :: len(DOMAINS)], expected, strict=True))
    print(f"{name}: {right} of {len(expected)} unseen numbers right, as in {found[place]!r}")
