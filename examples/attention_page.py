"""Writes a page that shows where a translator looks. Without a folder, of one that it trains for some seconds.

python examples/attention_page.py [PAGE.html [DIR TEXT]]
"""

import sys
import tempfile
from pathlib import Path

import dragoman as dg
from dragoman.data.pairs import source_ids
from dragoman.generate import generate
from dragoman.plot import attention_page
from toy_corpus import pairs

page = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp()) / "attention.html"
if len(sys.argv) > 3:
    folder, text = sys.argv[2:4]
else:
    folder, text = tempfile.mkdtemp(), "three thousand two hundred forty seven"
    corpus = pairs(2000)
    tokenizer = dg.Tokenizer.train((line for pair in corpus for line in pair), vocab_size=200)
    dg.manual_seed(0)
    sizes = {"d_model": 64, "num_heads": 4, "d_ff": 128, "num_encoder_layers": 2, "num_decoder_layers": 2}
    model = dg.Transformer(dg.TransformerConfig(vocab_size=tokenizer.vocab_size, **sizes))
    options = {"lr": 5e-3, "warmup": 50, "batch_tokens": 1024, "max_steps": 250}
    dg.Trainer(model, tokenizer=tokenizer, output=folder, **options).fit(corpus)

model, tokenizer = dg.load(folder), dg.Tokenizer.load(f"{folder}/tokenizer.json")
(source,) = source_ids(tokenizer, [text])
target = [model.config.bos_id, *generate(model, [source], beam=5)[0][0].ids]  # what the decoder read
weights = model.attention_weights(source, target)
html = attention_page(weights, tokenizer.tokens(source), tokenizer.tokens(target), page)
print(f"{text} -> {tokenizer.decode(target)}")
print(f"{page}: {len(html.encode()) / 1000:.0f} kB; `dragoman explain {folder} '{text}'` writes the same")

# The word that each token of the target reads most, in the last layer, over all heads.
for name, row in zip(tokenizer.tokens(target), weights["cross"][-1].mean(0), strict=True):
    print(f"{name:>12}  {tokenizer.tokens(source)[row.argmax()]}")
