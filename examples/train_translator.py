"""Trains a small translator through the Python interface, saves it and translates with it. About a minute.

python examples/train_translator.py [FOLDER]
"""

import sys
import tempfile

import dragoman as dg
from toy_corpus import pairs

corpus = pairs(3200)
train, held_out = corpus[:3000], [pair for pair in corpus[3000:] if pair not in corpus[:3000]]

dg.manual_seed(0)
tokenizer = dg.Tokenizer.train((line for pair in train for line in pair), vocab_size=200)
config = dg.TransformerConfig(
    vocab_size=tokenizer.vocab_size,
    d_model=64,
    num_heads=4,
    d_ff=128,
    num_encoder_layers=2,
    num_decoder_layers=2,
)
model = dg.Transformer(config)
print(f"{model.num_parameters():,} parameters")

folder = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()
trainer = dg.Trainer(model, tokenizer=tokenizer, output=folder, batch_tokens=1024, warmup=100, epochs=12)
trainer.fit(train, held_out)

translator = dg.Translator.load(folder)
translations = translator([source for source, _ in held_out], beam=2)
for (source, _), translation in list(zip(held_out, translations, strict=True))[:5]:
    print(f"{source} -> {translation}")
right = sum(translation == target for (_, target), translation in zip(held_out, translations, strict=True))
print(f"{right} of {len(held_out)} unseen numbers right")
